//! A deployment for each group of cars that a release is promoted to.

use http::Method;
use pitlane_release::PinnedImage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Outcome, Run, TRIES, cut, encode};
use crate::{call::Call, client::Client, error::GithubError, permission::Need};

/// Characters of a description.
const LONGEST: usize = 140;
/// What marks our deployments among others.
const TASK: &str = "pitlane";

/// A release on its way to a group of cars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The group of cars; GitHub's environment.
    pub group: String,
    /// The image.
    pub image: PinnedImage,
    /// How far it is.
    pub state: DeploymentState,
    /// One line.
    pub description: String,
    /// Whether people drive with it.
    pub production: bool,
    /// Where the group can be looked at.
    pub url: Option<String>,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentState {
    /// It waits.
    Queued,
    /// It is promoted, and the cars have not taken it yet.
    InProgress,
    /// The cars drive it.
    Success,
    /// The cars refused it.
    Failure,
    /// Something went wrong on the way.
    Error,
    /// Another release took its place.
    Inactive,
}

impl DeploymentState {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Inactive => "inactive",
        }
    }

    /// What is further is never taken back.
    fn rank(name: &str) -> u8 {
        match name {
            "inactive" => 3,
            "success" | "failure" | "error" => 2,
            "in_progress" => 1,
            _ => 0,
        }
    }
}

#[derive(Deserialize)]
struct Found {
    id: u64,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct FoundStatus {
    state: String,
}

/// Whether a deployment is this run's. Payloads come back as they were sent, or as a text.
fn is_of(payload: &Value, run: &str) -> bool {
    match payload {
        Value::String(text) => serde_json::from_str::<Value>(text)
            .is_ok_and(|inner| !inner.is_string() && is_of(&inner, run)),
        other => other.pointer("/pitlane/run").and_then(Value::as_str) == Some(run),
    }
}

impl Client {
    /// Shows a release's way to a group of cars as a deployment, and how far it is as its status.
    pub async fn report_deployment(
        &self,
        run: &Run,
        deployment: &Deployment,
    ) -> Result<Outcome, GithubError> {
        let asked = format!("report the deployment of run {} to {}", run.id, deployment.group);
        let mut tries = 1;
        let mut made = false;
        loop {
            let found = self.find_deployment(run, deployment, &asked).await?;
            let id = if let Some(id) = found {
                Ok(id)
            } else {
                made = true;
                self.create_deployment(run, deployment, &asked).await
            };
            let told = match id {
                Ok(id) => self.tell(run, deployment, &asked, id).await,
                Err(error) => Err(error),
            };
            match told {
                Ok(outcome) if made && outcome == Outcome::Changed => return Ok(Outcome::Made),
                Ok(outcome) => return Ok(outcome),
                Err(error) if error.may_pass() && error.wait().is_none() && tries < TRIES => {
                    tokio::time::sleep(self.pause(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn deployment_call<'a>(run: &'a Run, asked: &'a str, tail: &str) -> Call<'a> {
        let path = format!("/repos/{}/deployments{tail}", run.repository);
        Call::get(run.repository.as_str(), asked, path, Need::Deployments)
    }

    async fn find_deployment(
        &self,
        run: &Run,
        deployment: &Deployment,
        asked: &str,
    ) -> Result<Option<u64>, GithubError> {
        let group = encode(&deployment.group);
        let tail = format!("?sha={}&task={TASK}&environment={group}&per_page=100", run.commit);
        let call = Self::deployment_call(run, asked, &tail);
        let pick = |page: Vec<Found>| {
            page.iter().filter(|one| is_of(&one.payload, &run.id)).map(|one| one.id).min()
        };
        self.find(call, pick).await
    }

    async fn create_deployment(
        &self,
        run: &Run,
        deployment: &Deployment,
        asked: &str,
    ) -> Result<u64, GithubError> {
        let body = json!({
            "ref": run.commit.as_str(), "task": TASK, "environment": deployment.group,
            "description": cut(&deployment.description, LONGEST),
            // Nothing is to be merged, and no status of ours is to be waited for.
            "auto_merge": false, "required_contexts": [],
            "production_environment": deployment.production,
            "payload": { "pitlane": {
                "run": run.id, "tag": run.tag.as_str(), "image": deployment.image.to_string(),
            } },
        });
        let call = Self::deployment_call(run, asked, "").write(Method::POST, body);
        let made: Found = call.parse(&self.ask(&call).await?)?;
        Ok(made.id)
    }

    /// Adds the state to the deployment's statuses, unless it or a later one is there.
    async fn tell(
        &self,
        run: &Run,
        deployment: &Deployment,
        asked: &str,
        id: u64,
    ) -> Result<Outcome, GithubError> {
        let name = deployment.state.name();
        let rank = DeploymentState::rank(name);
        let call = Self::deployment_call(run, asked, &format!("/{id}/statuses?per_page=100"));
        let pick = |page: Vec<FoundStatus>| {
            let said =
                |one: &FoundStatus| one.state == name || DeploymentState::rank(&one.state) > rank;
            page.iter().any(said).then_some(())
        };
        if self.find(call, pick).await?.is_some() {
            return Ok(Outcome::AsItWas);
        }
        let mut body = json!({
            "state": name, "description": cut(&deployment.description, LONGEST),
            "auto_inactive": true,
        });
        for (field, url) in [("log_url", &run.url), ("environment_url", &deployment.url)] {
            if let Some(url) = url {
                body[field] = json!(url);
            }
        }
        let call = Self::deployment_call(run, asked, &format!("/{id}/statuses"));
        self.ask(&call.write(Method::POST, body)).await?;
        Ok(Outcome::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_name_their_run() {
        let own = json!({ "pitlane": { "run": "r7" } });
        assert!(is_of(&own, "r7") && is_of(&json!(own.to_string()), "r7"));
        let twice = json!(json!(own.to_string()).to_string());
        for other in [json!({}), json!(null), json!(""), json!("r7"), json!([own]), twice] {
            assert!(!is_of(&other, "r7"), "{other}");
        }
        assert!(!is_of(&own, "r70"));
    }
}
