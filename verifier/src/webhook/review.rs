//! The `AdmissionReview` that Kubernetes sends, and the one that it gets back.
//!
//! Source: `k8s.io/api/admission/v1`. The body is read twice: first all but the objects, then, for
//! kinds that hold Pods, the objects by their own types ([`super::pods`]). `v1beta1` has the same
//! fields and is answered in kind.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::IgnoredAny};

/// Deepest nesting of a review; Pods reach 15, and a parser that recurses is not asked to.
const MAX_DEPTH: usize = 100;
/// Longest `uid` (bytes); Kubernetes sends 36.
const MAX_UID: usize = 128;
/// Most warnings in an answer, and longest of them (bytes): more is cut off by Kubernetes.
const MAX_WARNINGS: usize = 16;
const MAX_WARNING: usize = 250;
/// Longest message of a denial (bytes); it ends up in events and on terminals.
const MAX_MESSAGE: usize = 4096;

/// Why a body is no review: an HTTP error, since there is no `uid` to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// Nested deeper than any object.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// Not JSON of that shape.
    #[error("not an AdmissionReview: {0}")]
    Format(String),
    /// Another kind or version.
    #[error("`{0}` is not supported: want kind AdmissionReview of admission.k8s.io/v1")]
    Version(String),
    /// A field that cannot be.
    #[error("request.{field}: {why}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// What is about to happen to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
    /// Somebody connects to it (exec, attach, proxy).
    Connect,
}

/// Group, version and kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

/// A request, without its objects.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the answer must repeat.
    pub uid: String,
    /// `admission.k8s.io/v1` or `v1beta1`.
    api_version: ApiVersion,
    /// What the object is.
    pub kind: GroupVersionKind,
    /// What happens to it.
    pub operation: Operation,
    /// Its namespace.
    pub namespace: String,
    /// Its name, when it has one already.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum ApiVersion {
    #[serde(rename = "admission.k8s.io/v1")]
    V1,
    #[serde(rename = "admission.k8s.io/v1beta1")]
    V1Beta1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<R> {
    api_version: String,
    kind: String,
    request: Option<R>,
}

#[derive(Deserialize)]
struct RequestWire {
    #[serde(default)]
    uid: String,
    kind: Option<GroupVersionKind>,
    operation: Operation,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// The objects of a request, read as what its kind says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects<O> {
    /// As it shall become; absent when it is removed.
    pub object: Option<O>,
    /// As it is; absent when it is made, and when it cannot be read: then nothing counts as
    /// having been there before.
    #[serde(default = "none", deserialize_with = "if_readable")]
    pub old_object: Option<O>,
}

const fn none<O>() -> Option<O> {
    None
}

fn if_readable<'a, D, O>(reader: D) -> Result<Option<O>, D::Error>
where
    D: serde::Deserializer<'a>,
    O: Deserialize<'a>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Old<O> {
        Readable(O),
        Other(IgnoredAny),
    }
    Ok(match Old::deserialize(reader)? {
        Old::Readable(object) => Some(object),
        Old::Other(_) => None,
    })
}

fn format(error: &serde_json::Error) -> ReviewError {
    ReviewError::Format(error.to_string())
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no review with a request.
    pub fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        if depth(body) > MAX_DEPTH {
            return Err(ReviewError::Deep);
        }
        let review: Review<RequestWire> = serde_json::from_slice(body).map_err(|e| format(&e))?;
        let api_version = match (review.kind.as_str(), review.api_version.as_str()) {
            ("AdmissionReview", "admission.k8s.io/v1") => ApiVersion::V1,
            ("AdmissionReview", "admission.k8s.io/v1beta1") => ApiVersion::V1Beta1,
            (kind, version) => {
                return Err(ReviewError::Version(cut(&format!("{version} {kind}"), 120)));
            }
        };
        let Some(wire) = review.request else {
            return Err(ReviewError::Format("it has no request".into()));
        };
        if wire.uid.is_empty() || wire.uid.len() > MAX_UID {
            let why = format!("it has {} bytes, want 1 to {MAX_UID}", wire.uid.len());
            return Err(ReviewError::Field { field: "uid", why });
        }
        let Some(kind) = wire.kind else {
            return Err(ReviewError::Field { field: "kind", why: "it is missing".into() });
        };
        let RequestWire { uid, operation, namespace, name, .. } = wire;
        Ok(Self { uid, api_version, kind, operation, namespace, name })
    }

    /// Reads the objects of the same body.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn objects<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Objects<O>, ReviewError> {
        let review: Review<Objects<O>> = serde_json::from_slice(body).map_err(|e| format(&e))?;
        review.request.ok_or_else(|| ReviewError::Format("it has no request".into()))
    }

    /// The answer to it.
    pub fn answer(&self, outcome: Outcome) -> Answer {
        let Outcome { denial, warnings, patch } = outcome;
        let (patch_type, patch) = match (&denial, patch.is_empty()) {
            (None, false) => {
                let text = serde_json::to_vec(&patch).unwrap_or_default();
                (Some("JSONPatch"), Some(STANDARD.encode(text)))
            }
            _ => (None, None),
        };
        let warnings = warnings.iter().take(MAX_WARNINGS).map(|w| cut(w, MAX_WARNING)).collect();
        let allowed = denial.is_none();
        let status = denial.map(|denial| Status {
            code: denial.status,
            message: cut(&denial.message, MAX_MESSAGE),
            reason: denial.code,
        });
        let uid = self.uid.clone();
        let response = Response { uid, allowed, status, warnings, patch_type, patch };
        Answer { api_version: self.api_version, kind: "AdmissionReview", response }
    }
}

/// What was decided about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why not, when it is denied.
    pub denial: Option<Denial>,
    /// What to tell whoever asked, in any case.
    pub warnings: Vec<String>,
    /// What to change in the object.
    pub patch: Vec<Replace>,
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status for the client of the API server: 403 refused, 503 or 504 no answer.
    pub status: u16,
    /// The stable code of the first reason.
    pub code: &'static str,
    /// Everything that is wrong, for people.
    pub message: String,
}

/// One change of a JSON Patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replace {
    op: &'static str,
    path: String,
    value: String,
}

impl Replace {
    /// Puts another text where `path` points.
    pub const fn new(path: String, value: String) -> Self {
        Self { op: "replace", path, value }
    }
}

/// An answer as it is sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: ApiVersion,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    message: String,
    reason: &'static str,
}

/// Text of at most `most` bytes.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// How deep arrays and objects are nested, without parsing.
fn depth(body: &[u8]) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
