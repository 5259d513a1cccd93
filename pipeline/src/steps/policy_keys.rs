//! The cars' policy, with the keys that it only names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_release::{Policy, key::PublicKey, policy::PolicyError};

use crate::sign::read_public;

/// Reads a policy. A key that it only names (`secretRef`) is the one that `keys` has under that
/// name; without any `keys`, it is the pipeline's own.
pub(super) fn read(
    file: &Path,
    keys: &BTreeMap<String, PathBuf>,
    own: &PublicKey,
) -> anyhow::Result<Policy> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{shown}: the policy cannot be read"))?;
    let mut known = BTreeMap::new();
    for (name, path) in keys {
        let key = read_public(path).with_context(|| format!("field `spec.policyKeys.{name}`"))?;
        known.insert(name.as_str(), key.to_pem());
    }
    let key = |name: &str| match known.is_empty() {
        true => Some(own.to_pem()),
        false => known.get(name).cloned(),
    };
    Policy::parse(&text, &key).map_err(|error| match error {
        PolicyError::KeyMissing(name) => anyhow::anyhow!(
            "{shown}: it names the key `{name}`, which `spec.policyKeys` of the pipeline file lacks"
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
            let policy = read(&policy, keys, own.public())?;
            anyhow::Ok(policy.keys().map(PublicKey::id).collect::<Vec<_>>())
        };
        let (mine, theirs) = (own.public().id(), laps.public().id());
        assert_eq!(ids(&BTreeMap::new()).unwrap(), [mine, mine]);
        let mut keys = BTreeMap::from([("laps".into(), at("laps.pub", &laps.public().to_pem()))]);
        let error = ids(&keys).unwrap_err().to_string();
        assert!(error.contains("`release`") && error.contains("policyKeys"), "{error}");
        keys.insert("release".into(), at("own.pub", &own.public().to_pem()));
        assert_eq!(ids(&keys).unwrap(), [mine, theirs]);
        keys.insert("laps".into(), at("broken.pub", "no key"));
        let error = format!("{:#}", ids(&keys).unwrap_err());
        assert!(error.contains("policyKeys.laps") && error.contains("broken.pub"), "{error}");
    }
}
