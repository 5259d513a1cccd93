//! Answers in GitHub's form, and their pages.

use serde_json::{Value, json};

/// Most entries on a page.
const LARGEST_PAGE: usize = 100;

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, body, headers: Vec::new() }
    }

    pub(crate) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }
}

/// A refusal as GitHub writes it.
pub(crate) fn refuse(status: u16, message: &str) -> Answer {
    let body = json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.to_string(),
    });
    Answer::new(status, body)
}

/// A refusal of fields.
pub(crate) fn invalid(resource: &str, field: &str, code: &str) -> Answer {
    let mut answer = refuse(422, "Validation Failed");
    answer.body["errors"] = json!([{ "resource": resource, "field": field, "code": code }]);
    answer
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    /// Where the API begins, as the caller addresses it.
    pub(crate) base: String,
    /// Decoded parts of the path below the base.
    pub(crate) parts: Vec<String>,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Ask {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.query(name)?.parse().ok()
    }

    /// The page that is asked for, with links to the others.
    pub(crate) fn page(&self, all: &[Value], wrap: impl Fn(usize, Vec<Value>) -> Value) -> Answer {
        let size = self.number("per_page").unwrap_or(30).clamp(1, LARGEST_PAGE);
        let page = self.number("page").unwrap_or(1).max(1);
        let pages = all.len().div_ceil(size).max(1);
        let shown = all.iter().skip((page - 1).saturating_mul(size)).take(size).cloned().collect();
        let mut answer = Answer::ok(wrap(all.len(), shown));
        let mut links = Vec::new();
        let mut link = |to: usize, name: &str| {
            links.push(format!("<{}>; rel=\"{name}\"", self.with(&[("page", &to.to_string())])));
        };
        if page > 1 {
            link(page - 1, "prev");
        }
        if page < pages {
            link(page + 1, "next");
            link(pages, "last");
        }
        if !links.is_empty() {
            answer.headers.push(("link".to_owned(), links.join(", ")));
        }
        answer
    }

    /// The address of this request with other parameters.
    pub(crate) fn with(&self, other: &[(&str, &str)]) -> String {
        let kept = self.query.iter().filter(|(key, _)| !other.iter().any(|(name, _)| name == key));
        let kept = kept.map(|(key, value)| (key.as_str(), value.as_str()));
        let query: Vec<String> = kept
            .chain(other.iter().copied())
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        format!("{}{}?{}", self.base, self.path, query.join("&"))
    }
}

/// Percent-encodes what is not plain.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| hex::decode(two).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.extend(byte);
                at += 3;
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            (other, _) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
