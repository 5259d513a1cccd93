//! The cars' policy, with the keys and trusted roots that it only names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use pitlane_release::{
    Policy,
    key::PublicKey,
    policy::{PolicyError, Resolve},
    sigstore::{BundleRefusal, MAX_TRUST_ROOT, TrustRoot},
};

use crate::sign::{keyless, read_public};

/// The name of the trusted root for policies that name none.
const DEFAULT: &str = "default";

/// What a pipeline file says of names.
pub(super) struct Names<'a> {
    /// `policyKeys`.
    pub(super) keys: &'a BTreeMap<String, PathBuf>,
    /// The pipeline's own key, which every name means without any `policyKeys`.
    pub(super) own: Option<&'a PublicKey>,
    /// `policyTrustedRoots`.
    pub(super) roots: &'a BTreeMap<String, PathBuf>,
    /// The trusted root that keyless signing is held against: the default.
    pub(super) own_root: Option<&'a Path>,
}

/// The names with their keys read.
struct Known<'a> {
    names: &'a Names<'a>,
    keys: BTreeMap<&'a str, String>,
}

impl Resolve for Known<'_> {
    fn key(&self, name: &str) -> Option<String> {
        match self.keys.is_empty() {
            true => self.names.own.map(PublicKey::to_pem),
            false => self.keys.get(name).cloned(),
        }
    }

    fn root(&self, name: Option<&str>) -> Result<Option<Arc<TrustRoot>>, BundleRefusal> {
        let file = self.names.roots.get(name.unwrap_or(DEFAULT)).map(PathBuf::as_path);
        let file = file.or(self.names.own_root.filter(|_| name.is_none()));
        let Some(file) = file else {
            return match name {
                None => TrustRoot::public_good().map(|root| Some(Arc::new(root))),
                Some(_) => Ok(None),
            };
        };
        let bytes = keyless::read(file, MAX_TRUST_ROOT)
            .map_err(|error| BundleRefusal::TrustRoot(format!("{error:#}")))?;
        TrustRoot::parse(&bytes).map(|root| Some(Arc::new(root)))
    }
}

/// Reads a policy.
pub(super) fn read(file: &Path, names: &Names<'_>) -> anyhow::Result<Policy> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{shown}: the policy cannot be read"))?;
    let mut keys = BTreeMap::new();
    for (name, path) in names.keys {
        let key = read_public(path).with_context(|| format!("field `spec.policyKeys.{name}`"))?;
        keys.insert(name.as_str(), key.to_pem());
    }
    Policy::parse(&text, &Known { names, keys }).map_err(|error| match error {
        PolicyError::KeyMissing(name) => anyhow::anyhow!(
            "{shown}: it names the key `{name}`, which `spec.policyKeys` of the pipeline file lacks"
        ),
        PolicyError::RootMissing(name) => anyhow::anyhow!(
            "{shown}: it names the trusted root `{name}`, which `spec.policyTrustedRoots` of the \
             pipeline file lacks"
        ),
        other => anyhow::Error::new(other).context(format!("{shown}: not a usable policy")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{Signer, keyfile};

    const POLICY: &str = "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: { name: demo }
spec:
  images: [{ glob: '**' }]
  authorities:
    - { name: a, key: { secretRef: { name: release } } }
    - { name: b, key: { secretRef: { name: laps } } }
";

    fn key() -> Signer {
        let made = keyfile::generate("p").unwrap();
        let der = keyfile::decrypt(&made.private_pem, "p").unwrap();
        Signer::from_pkcs8(&der).unwrap()
    }

    #[test]
    fn names_mean_what_the_pipeline_says() {
        let dir = tempfile::tempdir().unwrap();
        let (own, laps) = (key(), key());
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let policy = at("policy.yaml", POLICY);
        let ids = |keys: &BTreeMap<String, PathBuf>| {
            let roots = BTreeMap::new();
            let names = Names { keys, own: own.public(), roots: &roots, own_root: None };
            let policy = read(&policy, &names)?;
            anyhow::Ok(policy.keys().map(PublicKey::id).collect::<Vec<_>>())
        };
        let (mine, theirs) = (own.public().unwrap().id(), laps.public().unwrap().id());
        assert_eq!(ids(&BTreeMap::new()).unwrap(), [mine, mine]);
        let mut keys =
            BTreeMap::from([("laps".into(), at("laps.pub", &laps.public().unwrap().to_pem()))]);
        let error = ids(&keys).unwrap_err().to_string();
        assert!(error.contains("`release`") && error.contains("policyKeys"), "{error}");
        keys.insert("release".into(), at("own.pub", &own.public().unwrap().to_pem()));
        assert_eq!(ids(&keys).unwrap(), [mine, theirs]);
        keys.insert("laps".into(), at("broken.pub", "no key"));
        let error = format!("{:#}", ids(&keys).unwrap_err());
        assert!(error.contains("policyKeys.laps") && error.contains("broken.pub"), "{error}");
    }
}
