//! One status of the commit for the whole run.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Outcome, Run, TRIES, cut};
use crate::{call::Call, client::Client, error::GithubError, permission::Need};

/// Characters of a description.
const LONGEST: usize = 140;

/// How a run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It runs; the text says what it does.
    Pending(String),
    /// It is released.
    Success(String),
    /// It was refused.
    Failure(String),
    /// It could not be done.
    Error(String),
}

impl RunState {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Pending(text) => ("pending", text),
            Self::Success(text) => ("success", text),
            Self::Failure(text) => ("failure", text),
            Self::Error(text) => ("error", text),
        }
    }
}

#[derive(Deserialize)]
struct Found {
    state: String,
    #[serde(default)]
    context: String,
    #[serde(default)]
    description: Option<String>,
}

impl Client {
    /// Sets the commit's status `pitlane / PIPELINE`. Statuses are a list that only grows: what
    /// this attempt of the run said before is not said again, nor anything after its end.
    pub async fn report_run(&self, run: &Run, state: &RunState) -> Result<Outcome, GithubError> {
        let asked = format!("report the state of run {}", run.id);
        let context = cut(&format!("pitlane / {}", run.pipeline), LONGEST);
        let mark = format!("{}: ", run.mark());
        let (name, text) = state.parts();
        let description = cut(&format!("{mark}{text}"), LONGEST);
        let mut tries = 1;
        loop {
            let path =
                format!("/repos/{}/commits/{}/statuses?per_page=100", run.repository, run.commit);
            let call = Call::get(run.repository.as_str(), &asked, path, Need::Statuses);
            let said = self.find(call, |page: Vec<Found>| {
                let same = |one: &Found| {
                    let told = one.description.as_deref().unwrap_or_default();
                    let own = one.context == context && told.starts_with(&mark);
                    own && ((one.state == name && told == description) || one.state != "pending")
                };
                page.iter().any(same).then_some(())
            });
            if said.await?.is_some() {
                return Ok(Outcome::AsItWas);
            }
            let mut body = json!({ "state": name, "context": context, "description": description });
            if let Some(url) = &run.url {
                body["target_url"] = json!(url);
            }
            let path = format!("/repos/{}/statuses/{}", run.repository, run.commit);
            let call = Call::get(run.repository.as_str(), &asked, path, Need::Statuses);
            match self.ask(&call.write(Method::POST, body)).await {
                Ok(_) => return Ok(Outcome::Made),
                Err(error) if error.may_pass() && error.wait().is_none() && tries < TRIES => {
                    tokio::time::sleep(self.pause(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
