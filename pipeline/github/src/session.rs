//! Tokens for requests and for clones: the one that was given, or those of an App's installation,
//! each kept until shortly before its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    call::Call,
    client::Client,
    credential::{Credentials, Token},
    error::{GithubError, Problem},
    permission::Need,
};

/// A token for requests is renewed when it ends sooner than this.
const SPARE: Duration = Duration::from_mins(2);
/// A token for a clone must outlive the longest fetch (ten minutes) and some waiting before it.
const SPARE_FOR_CLONES: Duration = Duration::from_mins(15);
/// Repositories and uses whose tokens are kept.
const MOST: usize = 1000;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// Requests, with all that the App may.
    Requests,
    /// A clone, with nothing but reading.
    Clone,
    /// A push, with nothing but contents.
    Push,
}

#[derive(Debug)]
struct Kept {
    token: Token,
    ends: Timestamp,
}

/// A repository in lower case, and a use.
type Place = (String, Use);

/// What is kept for a repository and a use.
#[derive(Debug, Default)]
struct Slot {
    kept: Option<Kept>,
    installation: Option<u64>,
}

/// All tokens of a client.
#[derive(Debug)]
pub(crate) struct Sessions {
    credentials: Credentials,
    slots: StdMutex<HashMap<Place, Arc<Mutex<Slot>>>>,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Deserialize)]
struct Issued {
    token: String,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

impl Sessions {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, slots: StdMutex::default() }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What requests about a repository are counted under: an installation covers an owner.
    pub(crate) fn window(&self, repository: &str) -> String {
        match &self.credentials {
            Credentials::Token(_) => String::new(),
            Credentials::App(_) => {
                repository.split('/').next().unwrap_or_default().to_ascii_lowercase()
            }
        }
    }

    /// Whether a token that was refused can be made anew.
    pub(crate) fn can_renew(&self, call: &Call<'_>) -> bool {
        call.need != Need::App && matches!(self.credentials, Credentials::App(_))
    }

    /// Forgets the tokens for a repository.
    pub(crate) async fn forget(&self, repository: &str) {
        for purpose in [Use::Requests, Use::Clone, Use::Push] {
            // With the installation: the App may have been taken away and installed again.
            *self.slot(repository, purpose).lock().await = Slot::default();
        }
    }

    /// The place of a token. Its lock is held while the token is made, so that many requests at
    /// once make one, and those for other repositories do not wait.
    fn slot(&self, repository: &str, purpose: Use) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (repository.to_ascii_lowercase(), purpose);
        if slots.len() >= MOST && !slots.contains_key(&place) {
            // Those in use live on with their users; the others are made anew when wanted.
            slots.clear();
        }
        Arc::clone(slots.entry(place).or_default())
    }
}

impl Client {
    /// The token for a request.
    pub(crate) async fn session(&self, call: &Call<'_>) -> Result<Token, GithubError> {
        match &self.inner().sessions.credentials {
            Credentials::Token(token) => Ok(token.clone()),
            Credentials::App(app) if call.need == Need::App => {
                app.signed().map_err(|reason| call.error(Problem::Ours(reason)))
            }
            Credentials::App(_) => self.installation_token(call.repository, Use::Requests).await,
        }
    }

    /// A token of the installation that covers a repository, for that repository alone.
    pub(crate) async fn installation_token(
        &self,
        repository: &str,
        purpose: Use,
    ) -> Result<Token, GithubError> {
        let spare = if purpose == Use::Requests { SPARE } else { SPARE_FOR_CLONES };
        let slot = self.inner().sessions.slot(repository, purpose);
        let mut slot = slot.lock().await;
        let now = Timestamp::now();
        if let Some(kept) = &slot.kept
            && kept.ends.duration_since(now) > spare.try_into().unwrap_or_default()
        {
            return Ok(kept.token.clone());
        }
        let known = slot.installation.take();
        let mut installation = match known {
            Some(id) => id,
            None => self.installation(repository).await?,
        };
        let mut issued = self.make_token(repository, installation, purpose).await;
        if known.is_some() && issued.as_ref().is_err_and(|error| error.status() == Some(404)) {
            // It was taken away and installed again, which gives it another number.
            installation = self.installation(repository).await?;
            issued = self.make_token(repository, installation, purpose).await;
        }
        let (token, ends) = issued?;
        slot.installation = Some(installation);
        // Without an end it is not kept.
        slot.kept = Some(Kept { token: token.clone(), ends: ends.unwrap_or(now) });
        Ok(token)
    }

    async fn make_token(
        &self,
        repository: &str,
        installation: u64,
        purpose: Use,
    ) -> Result<(Token, Option<Timestamp>), GithubError> {
        let name = repository.split('/').nth(1).unwrap_or_default();
        let mut wanted = json!({ "repositories": [name] });
        match purpose {
            Use::Requests => {}
            Use::Clone => wanted["permissions"] = json!({ "contents": "read" }),
            Use::Push => wanted["permissions"] = json!({ "contents": "write" }),
        }
        let path = format!("/app/installations/{installation}/access_tokens");
        let asked = "make a token of the App's installation";
        let call = Call::get(repository, asked, path, Need::App).write(Method::POST, wanted);
        // A token too many does no harm, so this is asked again where other POSTs are not.
        let call = Call { may_repeat: true, ..call };
        let issued: Issued = call.parse(&Box::pin(self.ask(&call)).await?)?;
        let token = Token::new(&issued.token, "GitHub's answer");
        let token = token.map_err(|error| call.unreadable(error.to_string()))?;
        Ok((token, issued.expires_at))
    }

    async fn installation(&self, repository: &str) -> Result<u64, GithubError> {
        if let Credentials::App(app) = &self.inner().sessions.credentials
            && let Some(id) = app.installation()
        {
            return Ok(id);
        }
        let path = format!("/repos/{repository}/installation");
        let call = Call::get(repository, "find the App's installation", path, Need::App);
        let found: Installation = call.parse(&Box::pin(self.ask(&call)).await?)?;
        Ok(found.id)
    }
}
