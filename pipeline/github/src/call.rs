//! A request with all that is to be known of it, and how its answer is read.

use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    budget::Purpose,
    error::{GithubError, Problem, tame},
    permission::Need,
    transport::Raw,
};

/// Largest single answer (bytes): texts of up to 125,000 characters, and room.
const ONE: usize = 2 * 1024 * 1024;

/// A request with all that is to be known of it.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// `owner/name`, or empty where the App asks for itself.
    pub(crate) repository: &'a str,
    /// What is asked for, in words.
    pub(crate) asked: &'a str,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) etag: Option<String>,
    pub(crate) limit: usize,
    pub(crate) need: Need,
    pub(crate) purpose: Purpose,
    /// Whether a second time does what the first did.
    pub(crate) may_repeat: bool,
}

impl<'a> Call<'a> {
    /// A `GET` that a run needs.
    pub(crate) fn get(repository: &'a str, asked: &'a str, path: String, need: Need) -> Self {
        Self {
            repository,
            asked,
            method: Method::GET,
            path,
            body: None,
            etag: None,
            limit: ONE,
            need,
            purpose: Purpose::Work,
            may_repeat: true,
        }
    }

    pub(crate) fn write(self, method: Method, body: Value) -> Self {
        let may_repeat = method != Method::POST;
        Self { method, body: Some(body), may_repeat, ..self }
    }

    /// Not to be repeated when the answer is lost.
    pub(crate) fn once(self) -> Self {
        Self { may_repeat: false, ..self }
    }

    pub(crate) fn error(&self, problem: Problem) -> GithubError {
        let repository = if self.repository.is_empty() { "the App" } else { self.repository };
        GithubError { repository: repository.to_owned(), asked: self.asked.to_owned(), problem }
    }

    pub(crate) fn unreadable(&self, reason: impl Into<String>) -> GithubError {
        self.error(Problem::Unreadable(reason.into()))
    }

    /// The answer's JSON.
    pub(crate) fn parse<T: DeserializeOwned>(&self, raw: &Raw) -> Result<T, GithubError> {
        serde_json::from_slice(&raw.body).map_err(|error| self.unreadable(tame(&error.to_string())))
    }
}

/// What GitHub says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    errors: Option<Value>,
}

/// The message of a refusal.
pub(crate) fn message(raw: &Raw) -> String {
    let Ok(said) = serde_json::from_slice::<Refusal>(&raw.body) else {
        return "(no message)".to_owned();
    };
    let text = said.message.as_ref().and_then(Value::as_str).unwrap_or("(no message)");
    match said.errors {
        Some(errors) if !errors.is_null() => tame(&format!("{text} {errors}")),
        _ => tame(text),
    }
}
