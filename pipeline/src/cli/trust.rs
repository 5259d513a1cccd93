//! Whose word counts, and where it is read from: options that looking commands share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pitlane_fetch::{Credentials, Layout, Names, Registry, RegistryOptions, Source};
use pitlane_release::Policy;
use serde_json::json;

use crate::sign::read_public;

/// Whose word counts.
#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// The policy whose authorities count.
    #[arg(long, required_unless_present = "key")]
    policy: Option<PathBuf>,
    /// A public key that counts; with --policy a key that it only names, FILE or NAME=FILE.
    #[arg(long)]
    key: Vec<String>,
    /// A `trusted_root.json`: FILE for a policy that names none, instead of the public-good
    /// instance's; NAME=FILE for the one of that name.
    #[arg(long, value_name = "FILE|NAME=FILE", requires = "policy")]
    trusted_root: Vec<String>,
}

impl Trust {
    /// The policy; with keys alone, one that knows nothing but them.
    pub(super) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.policy else { return self.keys_alone() };
        let mut names = Names::default();
        self.key.iter().for_each(|key| names.add_key(key));
        for root in &self.trusted_root {
            match Names::split(root) {
                Some((name, file)) => names.named_root(name, file),
                None => names.default_root(Path::new(root)),
            }
        }
        Ok(names.policy(file)?.0)
    }

    fn keys_alone(&self) -> anyhow::Result<Policy> {
        let authority = |file: &String| {
            if file.contains('=') && !Path::new(file).exists() {
                bail!("--key {file}: a name needs a --policy that uses it");
            }
            let key = read_public(Path::new(file))?;
            Ok(json!({ "name": file, "key": { "data": key.to_pem() } }))
        };
        let authorities = self.key.iter().map(authority).collect::<anyhow::Result<Vec<_>>>()?;
        let policy = json!({
            "apiVersion": "policy.sigstore.dev/v1beta1",
            "kind": "ClusterImagePolicy",
            "metadata": { "name": "--key" },
            "spec": { "images": [{ "glob": "**" }], "authorities": authorities },
        });
        Policy::parse(&policy.to_string(), &|_: &str| None).context("--key")
    }
}

/// Where images are read from.
#[derive(Debug, clap::Args)]
pub(super) struct From {
    /// Read from an OCI image layout instead of the registry.
    #[arg(long)]
    layout: Option<PathBuf>,
    /// A registry (HOST:PORT) to speak plain HTTP to; those on loopback always are.
    #[arg(long)]
    plain_http: Vec<String>,
    /// User name for the registry; the password comes from `PITLANE_REGISTRY_PASSWORD`.
    #[arg(long)]
    user: Option<String>,
}

impl From {
    /// Opens it.
    pub(super) fn open(&self) -> anyhow::Result<Source> {
        if let Some(layout) = &self.layout {
            return Ok(Source::Layout(Layout::open(layout)?));
        }
        let credentials = self.user.as_ref().map(|user| Credentials {
            user: user.clone(),
            password: std::env::var("PITLANE_REGISTRY_PASSWORD").unwrap_or_default(),
        });
        let options = RegistryOptions { plain_http: self.plain_http.clone(), credentials };
        Ok(Source::Registry(Registry::new(options)?))
    }
}

#[cfg(test)]
mod tests {
    use sigstore_trust_root::SigstoreInstance;

    use super::*;

    fn keyless(reference: &str) -> String {
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {{ name: demo }}
spec:
  images: [{{ glob: '**' }}]
  authorities:
    - name: ci
      keyless:
        {reference}
        identities: [{{ issuer: https://issuer.example, subject: somebody }}]
"
        )
    }

    #[test]
    fn trusted_roots_are_those_that_were_given() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let good = at("root.json", SigstoreInstance::Staging.embedded_trusted_root_json());
        let bad = at("bad.json", "{}x");
        let nameless = at("nameless.yaml", &keyless(""));
        let named = at("named.yaml", &keyless("trustRootRef: acme"));
        let policy = |file: &str, roots: &[&str]| {
            let trusted_root = roots.iter().map(|root| (*root).to_owned()).collect();
            let trust = Trust { policy: Some(file.into()), key: vec![], trusted_root };
            trust.policy().map(drop).map_err(|error| format!("{error:#}"))
        };
        policy(&nameless, &[]).unwrap();
        policy(&nameless, &[&good]).unwrap();
        policy(&named, &[&format!("acme={good}")]).unwrap();
        // The one that is given is the one that is read.
        for (file, root) in [(&nameless, bad.clone()), (&named, format!("acme={bad}"))] {
            let error = policy(file, &[&root]).unwrap_err();
            assert!(error.contains("bad.json"), "{error}");
        }
        policy(&nameless, &[&format!("acme={bad}")]).unwrap();
        // A name never means the nameless one.
        for roots in [vec![], vec![good.as_str()], vec![&*format!("other={good}")]] {
            let error = policy(&named, &roots).unwrap_err();
            assert!(error.contains("acme"), "{roots:?}: {error}");
        }
    }
}
