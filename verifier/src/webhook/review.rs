//! The `AdmissionReview` that Kubernetes sends, and the one that it gets back.
//!
//! Source: `k8s.io/api/admission/v1`. The body is read twice: first all but the objects, then, for
//! kinds that hold Pods, the objects by their own types ([`super::pods`]). `v1beta1` has the same
//! fields and is answered in kind.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Deepest nesting of a review; Pods reach 15, and a parser that recurses is not asked to.
const MAX_DEPTH: usize = 100;
/// Longest `uid` (bytes); Kubernetes sends 36.
const MAX_UID: usize = 128;
/// Longest kind, namespace and name that are kept (bytes); Kubernetes has none above 253.
const MAX_NAME: usize = 256;
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
#[derive(Debug)]
pub struct Objects<O> {
    /// As it shall become; absent when it is removed.
    pub object: Option<O>,
    /// As it is; absent when it is made, and when it cannot be read: then nothing counts as
    /// having been there before.
    pub old_object: Option<O>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectsWire<'a, O> {
    object: Option<O>,
    /// The bytes as they stand in the body: nothing is built of what may not be readable.
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

fn format(error: &serde_json::Error) -> ReviewError {
    // It repeats what it did not expect, however long.
    ReviewError::Format(shown(&error.to_string(), MAX_WARNING))
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
        if !wire.uid.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "it has other characters than printable ASCII".into();
            return Err(ReviewError::Field { field: "uid", why });
        }
        let Some(kind) = wire.kind else {
            return Err(ReviewError::Field { field: "kind", why: "it is missing".into() });
        };
        let RequestWire { uid, operation, namespace, name, .. } = wire;
        let GroupVersionKind { group, version, kind } = kind;
        let [group, version, kind, namespace, name] =
            [group, version, kind, namespace, name].map(|text| shown(&text, MAX_NAME));
        let kind = GroupVersionKind { group, version, kind };
        Ok(Self { uid, api_version, kind, operation, namespace, name })
    }

    /// Reads the objects of the same body.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub fn objects<'a, O: Deserialize<'a>>(body: &'a [u8]) -> Result<Objects<O>, ReviewError> {
        let review: Review<ObjectsWire<'a, O>> =
            serde_json::from_slice(body).map_err(|e| format(&e))?;
        let Some(request) = review.request else {
            return Err(ReviewError::Format("it has no request".into()));
        };
        let old_object = request.old_object.and_then(|old| serde_json::from_str(old.get()).ok());
        Ok(Objects { object: request.object, old_object })
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

impl Outcome {
    /// The same, fit for terminals and logs: texts of strangers (names, a registry's words) are in
    /// its messages.
    #[must_use]
    pub fn shown(mut self) -> Self {
        if let Some(denial) = &mut self.denial {
            denial.message = shown(&denial.message, MAX_MESSAGE);
        }
        self.warnings.truncate(MAX_WARNINGS);
        for warning in &mut self.warnings {
            *warning = shown(warning, MAX_WARNING);
        }
        self
    }
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

/// Text for people, of at most `most` bytes: what would move a cursor, begin a line or turn its
/// direction is a question mark.
pub fn shown(text: &str, most: usize) -> String {
    let steers = |c: char| {
        let unseen = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}');
        c.is_control() || unseen
    };
    cut(text, most).replace(steers, "?")
}

/// Text of at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
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
