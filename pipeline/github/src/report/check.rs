//! A check run for each step of a run.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    MOST_PAGES, Outcome, Run, TRIES, encode,
    step::{AT_ONCE, Annotation, Step, lines, message, name, texts},
};
use crate::{
    call::Call, client::Client, credential::Credentials, error::GithubError, permission::Need,
};

/// A check run, as far as it matters here.
#[derive(Clone, Deserialize)]
struct Found {
    id: u64,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    output: FoundOutput,
}

#[derive(Clone, Default, Deserialize)]
struct FoundOutput {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
struct FoundRuns {
    check_runs: Vec<Found>,
}

/// An annotation that is there already.
#[derive(Deserialize)]
struct FoundAnnotation {
    path: String,
    start_line: u32,
    end_line: u32,
    #[serde(default)]
    annotation_level: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl FoundAnnotation {
    fn is(&self, wanted: &Annotation) -> bool {
        self.path == wanted.path
            && (self.start_line, self.end_line) == lines(wanted)
            && self.annotation_level.as_deref() == Some(wanted.level.name())
            && self.message.as_deref() == Some(message(wanted).as_str())
    }
}

impl Found {
    /// Whether it shows the step as it is.
    fn shows(&self, step: &Step) -> bool {
        let (status, conclusion) = step.status();
        let (title, summary, text) = texts(step);
        self.status == status
            && self.conclusion.as_deref() == conclusion
            && self.output.title == Some(title)
            && self.output.summary == Some(summary)
            && self.output.text == text
    }
}

/// How far a status is; what is further is never taken back.
fn rank(status: &str) -> u8 {
    match status {
        "completed" => 2,
        "in_progress" => 1,
        _ => 0,
    }
}

impl Client {
    /// Whether check runs can be written: by Apps alone, and by tokens that are an App's.
    pub fn can_write_checks(&self) -> bool {
        match self.inner().sessions.credentials() {
            Credentials::App(_) => true,
            Credentials::Token(token) => token.is_installation(),
        }
    }

    /// Shows a step as a check run of the commit.
    pub async fn report_step(&self, run: &Run, step: &Step) -> Result<Outcome, GithubError> {
        if !self.can_write_checks() {
            return Ok(Outcome::NeedsApp);
        }
        let asked = format!("report the step {} of run {}", step.name, run.id);
        let mark = format!("pitlane {} {}", run.mark(), step.name);
        let mut tries = 1;
        loop {
            let done = match self.check_run(run, step, &asked, &mark).await? {
                Some(found) => self.update_check(run, step, &asked, &found, &mark).await,
                None => self.create_check(run, step, &asked, &mark).await,
            };
            match done {
                // It may have been done: look before doing it again.
                Err(error) if error.may_pass() && error.wait().is_none() && tries < TRIES => {
                    tokio::time::sleep(self.pause(tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn check_call<'a>(run: &'a Run, asked: &'a str, tail: &str) -> Call<'a> {
        let path = format!("/repos/{}{tail}", run.repository);
        Call::get(run.repository.as_str(), asked, path, Need::Checks)
    }

    /// The step's check run, if it was made; the oldest, should there be more.
    async fn check_run(
        &self,
        run: &Run,
        step: &Step,
        asked: &str,
        mark: &str,
    ) -> Result<Option<Found>, GithubError> {
        let name = encode(&name(run, step));
        let tail =
            format!("/commits/{}/check-runs?check_name={name}&filter=all&per_page=100", run.commit);
        let call = Self::check_call(run, asked, &tail);
        let pick = |page: FoundRuns| {
            let own = page.check_runs.into_iter();
            own.filter(|one| one.external_id.as_deref() == Some(mark)).min_by_key(|one| one.id)
        };
        self.find(call, pick).await
    }

    async fn create_check(
        &self,
        run: &Run,
        step: &Step,
        asked: &str,
        mark: &str,
    ) -> Result<Outcome, GithubError> {
        let mut body = step.body(run, mark, step.wanted());
        body["head_sha"] = json!(run.commit.as_str());
        let call = Self::check_call(run, asked, "/check-runs").write(Method::POST, body);
        let made: Found = call.parse(&self.ask(&call).await?)?;
        let rest = step.wanted().get(AT_ONCE..).unwrap_or_default();
        self.annotate(run, step, asked, made.id, rest).await?;
        Ok(Outcome::Made)
    }

    async fn update_check(
        &self,
        run: &Run,
        step: &Step,
        asked: &str,
        found: &Found,
        mark: &str,
    ) -> Result<Outcome, GithubError> {
        if rank(step.status().0) < rank(&found.status) {
            return Ok(Outcome::AsItWas);
        }
        // GitHub adds annotations to those that are there, so only new ones are sent.
        let missing = self.missing(run, step, asked, found.id).await?;
        if missing.is_empty() && found.shows(step) {
            return Ok(Outcome::AsItWas);
        }
        let body = step.body(run, mark, &missing);
        let tail = format!("/check-runs/{}", found.id);
        // Annotations pile up, so this must not be sent twice without looking between.
        let call = Self::check_call(run, asked, &tail).write(Method::PATCH, body).once();
        self.ask(&call).await?;
        let rest = missing.get(AT_ONCE..).unwrap_or_default();
        self.annotate(run, step, asked, found.id, rest).await?;
        Ok(Outcome::Changed)
    }

    /// The annotations that are not there yet.
    async fn missing(
        &self,
        run: &Run,
        step: &Step,
        asked: &str,
        id: u64,
    ) -> Result<Vec<Annotation>, GithubError> {
        let mut missing = step.wanted().to_vec();
        if missing.is_empty() {
            return Ok(missing);
        }
        let mut pages = 0;
        let tail = format!("/check-runs/{id}/annotations?per_page=100");
        let call = Self::check_call(run, asked, &tail);
        self.find(call, |page: Vec<FoundAnnotation>| {
            missing.retain(|wanted| !page.iter().any(|found| found.is(wanted)));
            pages += 1;
            (missing.is_empty() || pages == MOST_PAGES).then_some(())
        })
        .await?;
        Ok(missing)
    }

    async fn annotate(
        &self,
        run: &Run,
        step: &Step,
        asked: &str,
        id: u64,
        rest: &[Annotation],
    ) -> Result<(), GithubError> {
        for some in rest.chunks(AT_ONCE) {
            let body = json!({ "output": step.output(some) });
            let tail = format!("/check-runs/{id}");
            let call = Self::check_call(run, asked, &tail).write(Method::PATCH, body).once();
            self.ask(&call).await?;
        }
        Ok(())
    }
}
