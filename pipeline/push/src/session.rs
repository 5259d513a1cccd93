//! Being logged in to a registry: its challenge, and the tokens for scopes that answered it.

use std::{collections::HashMap, sync::Mutex, time::Instant};

use reqwest::{
    StatusCode,
    header::{self, HeaderMap},
};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::{
    Login, PushError,
    auth::{self, Authorization, Challenge},
    http::{Http, Once, words},
};

/// Scopes whose tokens are remembered; then all are asked for anew.
const MAX_TOKENS: usize = 64;
/// The key of an answer that is good for all scopes.
const BASIC: &str = "";

/// What is known of a login.
pub(crate) struct Session {
    login: Option<Login>,
    tokens: Mutex<HashMap<String, Authorization>>,
    /// How the registry wants to be logged in to, once it was asked; only with a login.
    challenge: OnceCell<Option<Challenge>>,
}

impl Session {
    pub(crate) fn new(login: Option<Login>) -> Self {
        Self { login, tokens: Mutex::default(), challenge: OnceCell::new() }
    }

    /// The `Authorization` header for scopes, while it is good.
    pub(crate) fn token(&self, scopes: &[String]) -> Option<Zeroizing<String>> {
        let tokens = self.tokens.lock().ok()?;
        let found = tokens.get(&scopes.join(" ")).or_else(|| tokens.get(BASIC))?;
        let good = found.until.is_none_or(|until| until > Instant::now());
        good.then(|| found.value.clone())
    }
}

impl Http {
    /// The scopes of a request to the repository.
    pub(crate) fn scopes(&self, also: &[String]) -> Vec<String> {
        let own = format!("repository:{}:pull,push", self.repository.path());
        std::iter::once(own).chain(also.iter().map(|p| format!("repository:{p}:pull"))).collect()
    }

    /// Logs in before the first request, also to a registry that lets everybody read: who may push
    /// is told other things there than strangers, and one that knows us keeps what we ask for.
    pub(crate) async fn greet(&self, scopes: &[String]) -> Result<(), Once> {
        if self.session.login.is_none() {
            return Ok(());
        }
        let ping = async {
            let mut url = self.base.clone();
            url.set_path("/v2/");
            let answer = self.client.get(url).send().await.map_err(|e| Once::Broken(words(&e)))?;
            let wants = answer.status() == StatusCode::UNAUTHORIZED;
            Ok(wants.then(|| challenge(answer.headers())).flatten())
        };
        let Some(challenge) = self.session.challenge.get_or_try_init(|| ping).await? else {
            return Ok(());
        };
        if self.session.token(scopes).is_some() {
            return Ok(());
        }
        self.answer(challenge, scopes).await.map_err(Once::Final)
    }

    /// Answers the challenge of a 401. Without a login that answers it, the next 401 stands.
    pub(crate) async fn log_in(
        &self,
        headers: &HeaderMap,
        scopes: &[String],
    ) -> Result<(), PushError> {
        match challenge(headers) {
            Some(challenge) => self.answer(&challenge, scopes).await,
            None => Ok(()),
        }
    }

    async fn answer(&self, challenge: &Challenge, scopes: &[String]) -> Result<(), PushError> {
        let plain = self.base.scheme() == "http";
        let secure = !plain || pitlane_fetch::registry::is_loopback(self.place());
        let login = self.session.login.as_ref();
        let answer =
            auth::answer(&self.client, self.place(), secure, challenge, scopes, login).await?;
        let (Some(found), Ok(mut tokens)) = (answer, self.session.tokens.lock()) else {
            return Ok(());
        };
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        let key = if *challenge == Challenge::Basic { BASIC.to_owned() } else { scopes.join(" ") };
        tokens.insert(key, found);
        Ok(())
    }
}

/// The first challenge that can be answered.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let all = headers.get_all(header::WWW_AUTHENTICATE).iter();
    all.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse)
}
