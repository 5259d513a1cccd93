//! The policy file as it is written, and its check into a [`Policy`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Authority, DriveRules, Glob, Mode, Policy, PolicyError,
    unsupported::{CaCert, Elsewhere, Kms, Match, Namespace, Program},
};
use crate::sigstore::TrustRoot;

mod check;

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
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    policy: Option<Program>,
    #[serde(default, rename = "match")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    resources: Option<Match>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImagePattern {
    glob: String,
}

/// Someone who may vouch, as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthorityFile {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    key: Option<KeyFile>,
    #[serde(default)]
    keyless: Option<KeylessFile>,
    #[serde(default, rename = "static")]
    fixed: Option<StaticFile>,
    #[serde(default)]
    attestations: Vec<AttestationFile>,
    #[serde(default)]
    ctlog: Option<LogFile>,
    #[serde(default)]
    rfc3161timestamp: Option<StampFile>,
    #[serde(default)]
    signature_format: Option<String>,
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    source: Option<Elsewhere>,
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
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    kms: Option<Kms>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretRef {
    name: String,
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    namespace: Option<Namespace>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeylessFile {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    trust_root_ref: Option<String>,
    #[serde(default)]
    identities: Vec<IdentityFile>,
    #[serde(default, rename = "insecureIgnoreSCT")]
    insecure_ignore_sct: bool,
    #[serde(default, rename = "ca-cert")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    ca_cert: Option<CaCert>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IdentityFile {
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    issuer_reg_exp: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    subject_reg_exp: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogFile {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    trust_root_ref: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StampFile {
    #[serde(default)]
    trust_root_ref: Option<String>,
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
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    policy: Option<Program>,
}
