//! The cars' policy, with the keys and trusted roots that it only names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_fetch::{Names, PolicyFileError};
use pitlane_release::{Policy, key::PublicKey, policy::PolicyError};

use crate::sign::read_public;

/// What a pipeline file says of names.
pub(super) struct Known<'a> {
    /// `policyKeys`.
    pub(super) keys: &'a BTreeMap<String, PathBuf>,
    /// The pipeline's own key, which every name means without any `policyKeys`.
    pub(super) own: Option<&'a PublicKey>,
    /// `policyTrustedRoots`.
    pub(super) roots: &'a BTreeMap<String, PathBuf>,
    /// The trusted root that keyless signing is held against: the default one, unless
    /// `policyTrustedRoots` has another.
    pub(super) own_root: Option<&'a Path>,
}

/// Reads a policy.
pub(super) fn read(file: &Path, known: &Known<'_>) -> anyhow::Result<Policy> {
    let mut names = Names::default();
    for (name, path) in known.keys {
        // Said here, by the field's name, and not where the policy misses a key.
        read_public(path).with_context(|| format!("field `spec.policyKeys.{name}`"))?;
        names.named_key(name, path);
    }
    if let Some(own) = known.own {
        names.own_key(own.to_pem());
    }
    if let Some(root) = known.own_root {
        names.default_root(root);
    }
    names.roots_by_name(known.roots);
    let shown = file.display();
    names.policy(file).map(|(policy, _)| policy).map_err(|error| match error {
        PolicyFileError::Policy { source: PolicyError::KeyMissing(name), .. } => anyhow::anyhow!(
            "{shown}: it names the key `{name}`, which `spec.policyKeys` of the pipeline file lacks"
        ),
        PolicyFileError::Policy { source: PolicyError::RootMissing(name), .. } => anyhow::anyhow!(
            "{shown}: it names the trusted root `{name}`, which `spec.policyTrustedRoots` of the \
             pipeline file lacks"
        ),
        other => other.into(),
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
            let known = Known { keys, own: own.public(), roots: &roots, own_root: None };
            let policy = read(&policy, &known)?;
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
