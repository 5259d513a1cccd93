//! Whose word counts, and where it is read from: options that looking commands share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pitlane_fetch::{Credentials, Layout, Registry, RegistryOptions, Source};
use pitlane_release::{Policy, key::MAX_PEM, policy::MAX_POLICY};
use serde_json::json;

/// Whose word counts.
#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// The policy whose authorities count.
    #[arg(long, required_unless_present = "key")]
    policy: Option<PathBuf>,
    /// A public key that counts; with --policy a key that it only names, FILE or NAME=FILE.
    #[arg(long)]
    key: Vec<String>,
}

impl Trust {
    /// The policy; with keys alone, one that knows nothing but them.
    pub(super) fn policy(&self) -> anyhow::Result<Policy> {
        let Some(file) = &self.policy else { return self.keys_alone() };
        let shown = file.display();
        let text = read(file, MAX_POLICY as u64)?;
        let named = |name: &str| {
            let pairs = self.key.iter().map(|key| key.split_once('='));
            let mut pairs = pairs.zip(&self.key);
            let of_name = pairs.clone().find_map(|(pair, _)| {
                pair.filter(|(given, _)| *given == name).map(|(_, file)| file)
            });
            let any = pairs.find_map(|(pair, file)| pair.is_none().then_some(file.as_str()));
            read(Path::new(of_name.or(any)?), MAX_PEM).ok()
        };
        Policy::parse(&text, &named).with_context(|| format!("{shown}: not a usable policy"))
    }

    fn keys_alone(&self) -> anyhow::Result<Policy> {
        let authority = |file: &String| {
            if file.contains('=') && !Path::new(file).exists() {
                bail!("--key {file}: a name needs a --policy that uses it");
            }
            Ok(json!({ "name": file, "key": { "data": read(Path::new(file), MAX_PEM)? } }))
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

fn read(file: &Path, max: u64) -> anyhow::Result<String> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{shown}: cannot be read"))?.len();
    anyhow::ensure!(size <= max, "{shown}: {size} bytes, at most {max} are read");
    std::fs::read_to_string(file).with_context(|| format!("{shown}: not text"))
}
