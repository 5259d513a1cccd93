//! The section in the notes of the tag's release.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Outcome, ReleaseNotes, Run, TRIES, splice};
use crate::{
    call::Call,
    client::Client,
    error::{GithubError, Problem},
    permission::Need,
};

/// Largest list of releases (bytes): a hundred texts.
const LIST: usize = 48 * 1024 * 1024;

#[derive(Deserialize)]
struct Found {
    id: u64,
    #[serde(default)]
    tag_name: String,
    #[serde(default)]
    body: Option<String>,
}

impl Client {
    /// Puts a section into the notes of the tag's release, which is made if there is none. Other
    /// text stays as it is; a draft stays a draft.
    ///
    /// GitHub has no way to change a text only if nobody else did: somebody who saves the same
    /// release within the same second may lose what they wrote.
    pub async fn report_release(
        &self,
        run: &Run,
        notes: &ReleaseNotes,
    ) -> Result<Outcome, GithubError> {
        let asked = format!("write the release notes of {}", run.tag);
        let ours =
            |reason: String| Self::release_call(run, &asked, "").error(Problem::Ours(reason));
        let section = notes.render(run).map_err(|error| ours(error.to_string()))?;
        let mut tries = 1;
        loop {
            let done = match self.find_release(run, &asked).await? {
                Some(found) => {
                    let old = found.body.unwrap_or_default();
                    let new = splice(&old, &run.pipeline, &section);
                    let new = new.map_err(|error| ours(error.to_string()))?;
                    if new == old {
                        return Ok(Outcome::AsItWas);
                    }
                    let call = Self::release_call(run, &asked, &format!("/{}", found.id));
                    let call = call.write(Method::PATCH, json!({ "body": new }));
                    self.ask(&call).await.map(|_| Outcome::Changed)
                }
                None => self.create_release(run, notes, &asked, &section).await,
            };
            let again = |error: &GithubError| {
                // 422: somebody else made it between our look and now.
                (error.may_pass() && error.wait().is_none()) || error.status() == Some(422)
            };
            match done {
                Err(error) if again(&error) && tries < TRIES => {
                    tokio::time::sleep(self.pause(tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn release_call<'a>(run: &'a Run, asked: &'a str, tail: &str) -> Call<'a> {
        let path = format!("/repos/{}/releases{tail}", run.repository);
        Call::get(run.repository.as_str(), asked, path, Need::WriteContents)
    }

    /// The tag's release; drafts are not found by their tag, only in the list.
    async fn find_release(&self, run: &Run, asked: &str) -> Result<Option<Found>, GithubError> {
        let call = Self::release_call(run, asked, &format!("/tags/{}", run.tag));
        match self.ask(&call).await {
            Ok(raw) => return call.parse(&raw).map(Some),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
        let call = Self::release_call(run, asked, "?per_page=100");
        let call = Call { limit: LIST, ..call };
        let own = |page: Vec<Found>| page.into_iter().find(|one| one.tag_name == run.tag.as_str());
        self.find(call, own).await
    }

    async fn create_release(
        &self,
        run: &Run,
        notes: &ReleaseNotes,
        asked: &str,
        section: &str,
    ) -> Result<Outcome, GithubError> {
        let call = Self::release_call(run, asked, "");
        let ours = |reason: String| call.error(Problem::Ours(reason));
        // GitHub makes the tag if there is none; a tag that is gone must not come back by us.
        let now = self.resolve_tag(&run.repository, &run.tag).await?;
        match now.map(|found| found.commit) {
            Some(commit) if commit == run.commit => {}
            Some(commit) => {
                return Err(ours(format!(
                    "the tag names {commit} now, not {}: no release is made for it",
                    run.commit
                )));
            }
            None => return Err(ours("the tag is gone: no release is made for it".to_owned())),
        }
        let body = splice("", &run.pipeline, section).map_err(|error| ours(error.to_string()))?;
        let body = json!({
            "tag_name": run.tag.as_str(), "name": run.tag.as_str(), "body": body,
            "target_commitish": run.commit.as_str(), "draft": false,
            "prerelease": notes.prerelease,
        });
        let call = Self::release_call(run, asked, "").write(Method::POST, body);
        self.ask(&call).await.map(|_| Outcome::Made)
    }
}
