//! What a delivery says: a tag was pushed, or deleted, or nothing that starts a run.
//!
//! The payload is parsed with our own few fields, loosely typed: senders differ (GitHub, its
//! enterprise server, plain git hooks) and change, and a delivery must not be lost over a field
//! that nobody here reads. What is read is checked.

use pitlane_release::{Commit, ReleaseTag, RepoName};
use serde::Deserialize;
use serde_json::Value;

pub use pitlane_runs::TagPush;

/// The meaning of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The hook was set up; nothing happened.
    Ping,
    /// A tag was made or moved.
    Tag(TagPush),
    /// A tag was deleted.
    Deleted {
        /// `owner/name` as the sender wrote it.
        repository: String,
        /// Short name of the tag.
        tag: String,
    },
    /// Something that starts nothing.
    Ignored {
        /// `owner/name`, where the payload has one.
        repository: Option<String>,
        /// Why, for the sender.
        reason: String,
    },
}

impl Event {
    /// The repository that the event speaks of.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Ping => None,
            Self::Tag(push) => Some(&push.repository),
            Self::Deleted { repository, .. } => Some(repository),
            Self::Ignored { repository, .. } => repository.as_deref(),
        }
    }
}

/// Why a payload means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or not an object.
    #[error("the body is not a JSON object: {0}")]
    Json(String),
    /// The form has no `payload` field, or it is not valid form data.
    #[error("the form has no readable `payload` field")]
    Form,
    /// A field of a push is missing or wrong.
    #[error("the push has no usable `{field}`: {reason}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What was found.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, rename = "ref")]
    name: Option<Value>,
    #[serde(default)]
    before: Option<Value>,
    #[serde(default)]
    after: Option<Value>,
    #[serde(default)]
    deleted: Option<Value>,
    #[serde(default)]
    forced: Option<Value>,
    #[serde(default)]
    head_commit: Option<Head>,
    #[serde(default)]
    repository: Option<Repo>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    id: Option<Value>,
}

#[derive(Deserialize)]
struct Repo {
    #[serde(default)]
    full_name: Option<Value>,
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn truth(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true))) || text(value) == Some("true")
}

fn zeros(object: &str) -> bool {
    !object.is_empty() && object.bytes().all(|b| b == b'0')
}

/// Reads the JSON body of the event that `X-GitHub-Event` names.
pub fn parse(event: &str, body: &[u8]) -> Result<Event, EventError> {
    // serde would take an array as the fields in order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(EventError::Json("it does not start with `{`".to_owned()));
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|e| EventError::Json(e.to_string()))?;
    let repository = repository(wire.repository.as_ref())?;
    match event {
        "ping" => Ok(Event::Ping),
        "push" => push(&wire, repository),
        "create" | "delete" | "release" => Ok(Event::Ignored {
            repository,
            reason: format!("`{event}` starts nothing: the push of the tag does"),
        }),
        other => Ok(Event::Ignored {
            repository,
            reason: format!("`{}` starts nothing", other.escape_default()),
        }),
    }
}

fn repository(wire: Option<&Repo>) -> Result<Option<String>, EventError> {
    let Some(name) = wire.and_then(|repo| text(repo.full_name.as_ref())) else { return Ok(None) };
    let name: RepoName = name.parse().map_err(|e: pitlane_release::source::SourceError| {
        EventError::Field { field: "repository.full_name", reason: e.to_string() }
    })?;
    Ok(Some(name.as_str().to_owned()))
}

fn push(wire: &Wire, repository: Option<String>) -> Result<Event, EventError> {
    let field = |field, reason: &str| EventError::Field { field, reason: reason.to_owned() };
    let repository = repository.ok_or_else(|| field("repository.full_name", "missing"))?;
    let name = text(wire.name.as_ref()).ok_or_else(|| field("ref", "missing"))?;
    let ignored = |reason: String| Event::Ignored { repository: Some(repository.clone()), reason };
    let Some(tag) = name.strip_prefix("refs/tags/") else {
        return Ok(ignored("not the push of a tag".to_owned()));
    };
    let tag: ReleaseTag = match tag.parse() {
        Ok(tag) => tag,
        Err(error) => return Ok(ignored(error.to_string())),
    };
    let tag = tag.as_str().to_owned();
    let after = text(wire.after.as_ref()).ok_or_else(|| field("after", "missing"))?;
    if truth(wire.deleted.as_ref()) || zeros(after) {
        return Ok(Event::Deleted { repository, tag });
    }
    let head = wire.head_commit.as_ref().and_then(|head| text(head.id.as_ref()));
    let commit = head.map(|id| object(id, "head_commit.id")).transpose()?;
    let before = text(wire.before.as_ref()).unwrap_or_default();
    let moved = !before.is_empty() && !zeros(before) && before != after;
    Ok(Event::Tag(TagPush {
        repository,
        tag,
        object: object(after, "after")?,
        commit,
        forced: truth(wire.forced.as_ref()) || moved,
    }))
}

fn object(id: &str, field: &'static str) -> Result<String, EventError> {
    let id: Commit = id.parse().map_err(|e: pitlane_release::source::SourceError| {
        EventError::Field { field, reason: e.to_string() }
    })?;
    Ok(id.as_str().to_owned())
}

/// The JSON of a form-encoded delivery: its `payload` field, decoded.
pub fn form_payload(body: &[u8]) -> Result<Vec<u8>, EventError> {
    let mut found = None;
    for field in body.split(|b| *b == b'&') {
        if let Some(value) = field.strip_prefix(b"payload=") {
            // Two payloads: which of them was meant is nobody's guess.
            if found.replace(value).is_some() {
                return Err(EventError::Form);
            }
        }
    }
    let value = found.ok_or(EventError::Form)?;
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = match first {
            b'+' => {
                out.push(b' ');
                tail
            }
            b'%' => {
                let digits = tail.get(..2).ok_or(EventError::Form)?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).map_err(|_| EventError::Form)?;
                out.push(byte[0]);
                &tail[2..]
            }
            other => {
                out.push(*other);
                tail
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn push_with(change: &Value) -> Result<Event, EventError> {
        let mut body = json!({
            "ref": "refs/tags/v1", "before": ZERO, "after": A, "deleted": false, "forced": false,
            "head_commit": {"id": A}, "repository": {"full_name": "octo/car", "pushed_at": 1}
        });
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        parse("push", body.to_string().as_bytes())
    }

    fn tag(change: &Value) -> TagPush {
        match push_with(change).unwrap() {
            Event::Tag(push) => push,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_of_tags() {
        let light = tag(&json!({}));
        assert_eq!(
            (light.commit.as_deref(), light.tag_object(), light.forced),
            (Some(A), None, false)
        );
        let annotated = tag(&json!({"after": B}));
        assert_eq!((annotated.commit.as_deref(), annotated.tag_object()), (Some(A), Some(B)));
        assert!(tag(&json!({"before": B, "forced": true})).forced);
        assert!(tag(&json!({"before": B})).forced, "moved though the sender does not say so");
        assert!(tag(&json!({"forced": "true"})).forced, "loose types");
        let unpeeled = tag(&json!({"head_commit": null}));
        assert_eq!((unpeeled.commit, unpeeled.object.as_str()), (None, A));
        for gone in [json!({"deleted": true}), json!({"after": ZERO, "head_commit": null})] {
            assert!(matches!(push_with(&gone).unwrap(), Event::Deleted { tag, .. } if tag == "v1"));
        }
    }

    #[test]
    fn what_starts_nothing() {
        for change in [
            json!({"ref": "refs/heads/main"}),
            json!({"ref": "refs/heads/refs/tags/v1"}),
            json!({"ref": "refs/tags/"}),
            json!({"ref": "refs/tags/a/b"}),
            json!({"ref": "refs/tags/-rf"}),
            json!({"ref": "refs/tags/v1\n"}),
        ] {
            let event = push_with(&change).unwrap();
            assert!(matches!(event, Event::Ignored { .. }), "{change}: {event:?}");
        }
        let body = json!({"ref": "v1", "ref_type": "tag", "repository": {"full_name": "o/c"}});
        for event in ["create", "release", "workflow_run", "x\ny"] {
            let event = parse(event, body.to_string().as_bytes()).unwrap();
            assert!(matches!(event, Event::Ignored { .. }), "{event:?}");
        }
        assert_eq!(parse("ping", b"{\"zen\":\"x\"}").unwrap(), Event::Ping);
    }

    #[test]
    fn payloads_that_are_wrong() {
        for change in [
            json!({"after": null}),
            json!({"after": "abc"}),
            json!({"after": A.to_uppercase().replace('1', "A")}),
            json!({"head_commit": {"id": "main"}}),
            json!({"repository": {"full_name": "../../etc"}}),
            json!({"repository": null}),
            json!({"ref": 7}),
        ] {
            let found = push_with(&change);
            assert!(matches!(found, Err(EventError::Field { .. })), "{change}: {found:?}");
        }
        let deep = "[".repeat(100_000);
        let twice = r#"{"after":"1","after":"2"}"#;
        for bad in ["", "{", "[]", "null", "\"x\"", twice, &deep, "{} {}"] {
            assert!(matches!(parse("push", bad.as_bytes()), Err(EventError::Json(_))), "{bad:.20}");
        }
    }

    #[test]
    fn forms() {
        let decoded = form_payload(b"a=1&payload=%7B%22a%22%3A+%22%C3%A4%2B%22%7D&b=").unwrap();
        assert_eq!(decoded, "{\"a\": \"ä+\"}".as_bytes());
        for bad in ["", "x=1", "payload=%7", "payload=%zz", "payload=a&payload=b", "payload"] {
            assert_eq!(form_payload(bad.as_bytes()), Err(EventError::Form), "{bad}");
        }
        assert_eq!(form_payload(b"payload="), Ok(vec![]));
    }
}
