//! The policy file as it is written, and its check into a [`Policy`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Authority, AuthorityRule, DriveRules, Glob, Policy, PolicyError};
use crate::key::PublicKey;

/// A policy file: `ClusterImagePolicy` and `drive:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyFile {
    #[expect(dead_code, reason = "its two values mean the same here; any other is refused")]
    api_version: ApiVersion,
    #[expect(dead_code, reason = "one value; any other is refused")]
    kind: Kind,
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    drive: Option<DriveRules>,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum ApiVersion {
    #[serde(rename = "policy.sigstore.dev/v1beta1")]
    V1Beta1,
    #[serde(rename = "policy.sigstore.dev/v1alpha1")]
    V1Alpha1,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum Kind {
    ClusterImagePolicy,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default)]
    #[expect(dead_code, reason = "allowed in every Kubernetes object, and without meaning here")]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    #[expect(dead_code, reason = "allowed in every Kubernetes object, and without meaning here")]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    images: Vec<ImagePattern>,
    authorities: Vec<AuthorityFile>,
    #[serde(default)]
    mode: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImagePattern {
    glob: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorityFile {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    key: Option<KeyFile>,
    #[serde(default, rename = "static")]
    fixed: Option<StaticFile>,
    #[serde(default)]
    attestations: Vec<AttestationFile>,
    #[serde(default)]
    signature_format: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    secret_ref: Option<SecretRef>,
    #[serde(default)]
    hash_algorithm: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretRef {
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StaticFile {
    action: String,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AttestationFile {
    name: String,
    predicate_type: String,
}

fn field(field: impl Into<String>, why: impl Into<String>) -> PolicyError {
    PolicyError::Field { field: field.into(), why: why.into() }
}

impl PolicyFile {
    pub(super) fn check(self, key: &dyn Fn(&str) -> Option<String>) -> Result<Policy, PolicyError> {
        if self.metadata.name.is_empty() {
            return Err(field("metadata.name", "it is empty; verdicts name the policy by it"));
        }
        if let Some(mode) = self.spec.mode.filter(|mode| mode != "enforce") {
            return Err(field("spec.mode", format!("`{mode}` is not supported, only enforce")));
        }
        if self.spec.images.is_empty() || self.spec.authorities.is_empty() {
            return Err(field("spec", "want at least one image pattern and one authority"));
        }
        let images = self.spec.images.iter().map(|pattern| {
            pattern.glob.parse::<Glob>().map_err(|why| field("spec.images[].glob", why))
        });
        let images = images.collect::<Result<_, _>>()?;
        let authorities = self.spec.authorities.into_iter().enumerate();
        let authorities = authorities.map(|(n, file)| file.check(n, key));
        let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
        if let Some(drive) = &self.drive {
            drive.check()?;
            let signing = |a: &Authority| {
                matches!(a.rule, AuthorityRule::Key(_)) && a.attestations.is_empty()
            };
            if !authorities.iter().all(signing) {
                let why = "with `drive:` every authority is a key without `attestations`: what \
                           must be proven is said in `drive:`";
                return Err(field("spec.authorities", why));
            }
            let any_key = authorities.iter().any(|a| matches!(a.rule, AuthorityRule::Key(_)));
            if !any_key {
                return Err(field("drive", "needs an authority with a key that signs releases"));
            }
        }
        Ok(Policy { name: self.metadata.name, images, authorities, drive: self.drive })
    }
}

impl AuthorityFile {
    fn check(
        self,
        number: usize,
        key: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Authority, PolicyError> {
        let path = format!("spec.authorities[{number}]");
        let name = self.name.unwrap_or_else(|| format!("authority-{number}"));
        if let Some(format) = self.signature_format.filter(|format| format != "bundle") {
            let why = format!("`{format}` is not supported, only bundle");
            return Err(field(format!("{path}.signatureFormat"), why));
        }
        let rule = match (self.key, self.fixed) {
            (Some(file), None) => AuthorityRule::Key(file.resolve(&path, key)?),
            (None, Some(fixed)) if self.attestations.is_empty() => match fixed.action.as_str() {
                "pass" => AuthorityRule::Static { pass: true, message: String::new() },
                "fail" => {
                    let message = fixed.message.unwrap_or_default();
                    AuthorityRule::Static { pass: false, message }
                }
                other => {
                    let why = format!("`{other}`, want pass or fail");
                    return Err(field(format!("{path}.static.action"), why));
                }
            },
            (None, Some(_)) => return Err(field(path, "static excludes attestations")),
            _ => return Err(field(path, "want exactly one of key and static")),
        };
        let attestations = self.attestations.into_iter().map(|a| {
            if a.predicate_type.is_empty() || a.name.is_empty() {
                return Err(field(format!("{path}.attestations"), "name or type is empty"));
            }
            Ok(a.predicate_type)
        });
        Ok(Authority { name, rule, attestations: attestations.collect::<Result<_, _>>()? })
    }
}

impl KeyFile {
    fn resolve(
        self,
        path: &str,
        key: &dyn Fn(&str) -> Option<String>,
    ) -> Result<PublicKey, PolicyError> {
        if let Some(other) = self.hash_algorithm.filter(|name| name != "sha256") {
            let why = format!("`{other}` is not supported, only sha256");
            return Err(field(format!("{path}.key.hashAlgorithm"), why));
        }
        let pem = match (self.data, self.secret_ref) {
            (Some(data), None) => data,
            (None, Some(secret)) => {
                key(&secret.name).ok_or(PolicyError::KeyMissing(secret.name))?
            }
            _ => return Err(field(format!("{path}.key"), "want exactly one of data, secretRef")),
        };
        PublicKey::from_pem(&pem)
            .map_err(|error| field(format!("{path}.key.data"), error.to_string()))
    }
}
