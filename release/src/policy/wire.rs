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
    #[serde(default, deserialize_with = "super::given::value")]
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
    #[serde(default, deserialize_with = "super::given::value")]
    mode: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    policy: Option<Program>,
    #[serde(default, deserialize_with = "super::given::value", rename = "match")]
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
    #[serde(default, deserialize_with = "super::given::value")]
    name: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    key: Option<KeyFile>,
    #[serde(default, deserialize_with = "super::given::value")]
    keyless: Option<KeylessFile>,
    #[serde(default, deserialize_with = "super::given::value", rename = "static")]
    fixed: Option<StaticFile>,
    #[serde(default, deserialize_with = "super::given::items")]
    attestations: Vec<AttestationFile>,
    #[serde(default, deserialize_with = "super::given::value")]
    ctlog: Option<LogFile>,
    #[serde(default, deserialize_with = "super::given::value")]
    rfc3161timestamp: Option<StampFile>,
    #[serde(default, deserialize_with = "super::given::value")]
    signature_format: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    source: Option<Elsewhere>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    #[serde(default, deserialize_with = "super::given::value")]
    data: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    secret_ref: Option<SecretRef>,
    #[serde(default, deserialize_with = "super::given::value")]
    hash_algorithm: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    kms: Option<Kms>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretRef {
    name: String,
    #[serde(default, deserialize_with = "super::given::value")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    namespace: Option<Namespace>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeylessFile {
    #[serde(default, deserialize_with = "super::given::value")]
    url: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    trust_root_ref: Option<String>,
    #[serde(default, deserialize_with = "super::given::items")]
    identities: Vec<IdentityFile>,
    #[serde(default, rename = "insecureIgnoreSCT")]
    insecure_ignore_sct: bool,
    #[serde(default, deserialize_with = "super::given::value", rename = "ca-cert")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    ca_cert: Option<CaCert>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IdentityFile {
    #[serde(default, deserialize_with = "super::given::value")]
    issuer: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    issuer_reg_exp: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    subject: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    subject_reg_exp: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogFile {
    #[serde(default, deserialize_with = "super::given::value")]
    url: Option<String>,
    #[serde(default, deserialize_with = "super::given::value")]
    trust_root_ref: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StampFile {
    #[serde(default, deserialize_with = "super::given::value")]
    trust_root_ref: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StaticFile {
    action: String,
    #[serde(default, deserialize_with = "super::given::value")]
    message: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AttestationFile {
    name: String,
    predicate_type: String,
    #[serde(default, deserialize_with = "super::given::value")]
    #[schemars(skip)]
    #[expect(dead_code, reason = "refused where it is read")]
    policy: Option<Program>,
}
