//! `Policy`: which releases a car may drive. Parsed from `policies/*.yaml`.
//!
//! The file is sigstore policy-controller's `ClusterImagePolicy`, so that one file serves the
//! car, the command line and a cluster, plus a top-level `drive:` section. Everything unknown or
//! not supported is refused by name: a rule that is silently skipped is a hole.

mod drive;
mod glob;
mod wire;

pub use drive::{DriveRules, LapRules, ProvenanceRules, SourceRule};
pub use glob::Glob;
pub use wire::PolicyFile;

use crate::{ImageRef, key::PublicKey};

/// Largest policy file read (bytes).
pub const MAX_POLICY: usize = 256 * 1024;

/// A policy, checked and with its keys.
#[derive(Debug)]
pub struct Policy {
    /// `metadata.name`.
    pub name: String,
    /// Which images it speaks of.
    pub images: Vec<Glob>,
    /// Who may vouch for them; any one suffices.
    pub authorities: Vec<Authority>,
    /// What a car asks beyond a signature.
    pub drive: Option<DriveRules>,
}

/// Someone who may vouch for an image.
#[derive(Debug)]
pub struct Authority {
    /// Its name, for verdicts.
    pub name: String,
    /// How it vouches.
    pub rule: AuthorityRule,
    /// Statements of these predicate types must be there, signed by it as well.
    pub attestations: Vec<String>,
}

/// How an authority vouches.
#[derive(Debug)]
pub enum AuthorityRule {
    /// By signatures of a key.
    Key(PublicKey),
    /// Whatever was signed: always yes, or always no with this message.
    Static {
        /// Yes or no.
        pass: bool,
        /// What to tell people.
        message: String,
    },
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the format; the text names the place.
    #[error("not a policy: {0}")]
    Format(String),
    /// A field's value cannot be used.
    #[error("field `{field}`: {why}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A key is named, not written out, and was not given.
    #[error("the policy names the key `{0}`: give it with --key {0}=FILE")]
    KeyMissing(String),
}

impl Policy {
    /// Parses a policy. `key` resolves keys that the policy only names (`secretRef`): it gets the
    /// name and gives the PEM text, if it is known.
    pub fn parse(text: &str, key: &dyn Fn(&str) -> Option<String>) -> Result<Self, PolicyError> {
        let file: PolicyFile = crate::yaml::read(text, MAX_POLICY)
            .map_err(|error| PolicyError::Format(error.to_string()))?;
        file.check(key)
    }

    /// Whether it speaks of this image.
    pub fn covers(&self, image: &ImageRef) -> bool {
        let names = [image.to_string(), image.repository.to_string()];
        self.images.iter().any(|glob| names.iter().any(|name| glob.matches(name)))
    }

    /// The keys of all its authorities.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.authorities.iter().filter_map(|authority| match &authority.rule {
            AuthorityRule::Key(key) => Some(key),
            AuthorityRule::Static { .. } => None,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn text(edit: &[(&str, &str)]) -> String {
        let key = crate::policy::tests::pem().replace('\n', "\n          ");
        let mut text = format!(
            "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: demo
spec:
  images:
    - glob: \"r.example/team/**\"
  authorities:
    - name: release
      key:
        data: |
          {}
drive:
  sources:
    - repository: team/donkeycar
      carKinds: [donkeycar]
  minimumCounter: 3
  laps:
    tracks: [generated_track]
    minLaps: 3
",
            key.trim_end()
        );
        for (from, to) in edit {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        text
    }

    pub(crate) fn pem() -> String {
        let pair = sigstore_crypto::KeyPair::generate_ecdsa_p256().unwrap();
        PublicKey::from_spki(pair.public_key_der().unwrap().as_bytes()).unwrap().to_pem()
    }

    #[test]
    fn a_policy_parses() {
        let policy = Policy::parse(&text(&[]), &|_| None).unwrap();
        assert!(policy.covers(&"r.example/team/donkeycar:v1".parse().unwrap()));
        assert!(!policy.covers(&"r.example/other/donkeycar:v1".parse().unwrap()));
        assert_eq!(policy.keys().count(), 1);
        assert_eq!(policy.drive.unwrap().minimum_counter, 3);
    }

    #[test]
    fn a_named_key_is_resolved_or_missed_by_name() {
        let plain = text(&[]);
        let data = plain.find("        data:").unwrap();
        let drive = plain.find("drive:").unwrap();
        let named = format!(
            "{}        secretRef: {{ name: lab-key }}\n{}",
            &plain[..data],
            &plain[drive..]
        );
        let error = Policy::parse(&named, &|_| None).unwrap_err();
        assert_eq!(error, PolicyError::KeyMissing("lab-key".into()));
        let pem = pem();
        assert!(Policy::parse(&named, &|n| (n == "lab-key").then(|| pem.clone())).is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to, want) in [
            ("kind: ClusterImagePolicy", "kind: Policy", "Policy"),
            ("v1beta1", "v9", "v9"),
            ("  images:", "  image:", "image"),
            ("drive:", "drives:", "drives"),
            ("minLaps", "minimumLaps", "minimumLaps"),
            ("      key:", "      keyless: {}\n      key:", "keyless"),
            ("BEGIN PUBLIC", "BEGIN PRIVATE", "key.data"),
            ("r.example/team/**", "r.example/$(x)", "glob"),
            ("metadata:\n  name: demo", "metadata:\n  name: \"\"", "metadata.name"),
            ("  authorities:", "  mode: warn\n  authorities:", "mode"),
            ("minLaps: 3", "minLaps: 0", "minLaps"),
            ("carKinds: [donkeycar]", "carKinds: []", "carKinds"),
            (
                "    - name: release\n",
                "    - name: release\n      attestations: [{ name: a, predicateType: b }]\n",
                "spec.authorities",
            ),
            (
                "    - name: release\n",
                "    - { name: no, static: { action: fail } }\n    - name: release\n",
                "spec.authorities",
            ),
            ("spec:", "spec:\n  policy: {type: cue, data: x}", "policy"),
        ] {
            let error = Policy::parse(&text(&[(from, to)]), &|_| None).unwrap_err().to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
