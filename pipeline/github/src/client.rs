//! Asking GitHub: with the right token, within the limits, again where that is safe.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::Method;
use jiff::Timestamp;

use crate::{
    address::ApiAddress,
    budget::{Budget, Said},
    call::{Call, message},
    credential::Credentials,
    error::{GithubError, Limit, Problem},
    permission::Need,
    session::Sessions,
    transport::{Raw, Silence, Times, Transport, Wanted},
};

/// How often an address that moved is followed.
const REDIRECTS: usize = 3;
/// Requests of the hour that polling leaves for reports.
const RESERVE: u64 = 500;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is.
    pub address: ApiAddress,
    /// Who we are.
    pub credentials: Credentials,
    /// How long things may take.
    pub times: Times,
    /// Requests of the hour that polling leaves for the reports of runs.
    pub reserve: u64,
}

impl Settings {
    /// GitHub itself, with the usual times and reserve.
    pub fn new(credentials: Credentials) -> Self {
        let address = ApiAddress::default();
        Self { address, credentials, times: Times::default(), reserve: RESERVE }
    }
}

/// A client of GitHub; clones share connections, tokens and budget.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) address: ApiAddress,
    pub(crate) sessions: Sessions,
    transport: Transport,
    budget: Mutex<Budget>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, {:?})", self.0.address, self.0.sessions.credentials())
    }
}

/// What to do after an answer.
enum Next {
    Done(Raw),
    Again { after: Duration, reason: GithubError },
    Elsewhere(String),
    Renew,
    Fail(GithubError),
}

impl Client {
    /// Opens no connection yet. Must be called within a tokio runtime.
    pub fn new(settings: Settings) -> Result<Self, GithubError> {
        let transport = Transport::new(&settings.address, settings.times);
        let transport = transport.map_err(|reason| GithubError {
            repository: settings.address.to_string(),
            asked: "set up".to_owned(),
            problem: Problem::Ours(reason),
        })?;
        Ok(Self(Arc::new(Inner {
            address: settings.address,
            sessions: Sessions::new(settings.credentials),
            transport,
            budget: Mutex::new(Budget::new(settings.reserve)),
        })))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The budget; held only between two looks at it, never while waiting.
    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.0.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests left in this hour for a repository, if an answer told.
    pub fn remaining(&self, repository: &pitlane_release::RepoName) -> Option<u64> {
        self.budget().remaining(&self.0.sessions.window(repository.as_str()))
    }

    /// The pause before an attempt (1 is the first repetition), a little different each time.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let base = self.0.transport.times().backoff;
        let pause = base.saturating_mul(1 << attempt.saturating_sub(1).min(6));
        pause.mul_f64(0.75 + 0.5 * fastrand::f64())
    }

    /// Asks, and gives the answer if it is good (2xx, or 304 to a question with an `ETag`).
    pub(crate) async fn ask(&self, call: &Call<'_>) -> Result<Raw, GithubError> {
        // What the App asks as itself is counted apart from its installations.
        let window = match call.need {
            Need::App => "the App itself".to_owned(),
            _ => self.0.sessions.window(call.repository),
        };
        let mut path = call.path.clone();
        let (mut attempt, mut redirects, mut renewed) = (1, 0, false);
        loop {
            let permit = self.budget().permit(&window, call.purpose, Instant::now());
            if let Err((limit, wait)) = permit {
                if limit != Limit::Secondary || !self.waits(attempt, wait) {
                    return Err(call.error(Problem::Limited { limit, wait }));
                }
                tokio::time::sleep(wait).await;
            }
            let token = self.session(call).await?;
            let wanted = Wanted {
                method: call.method.clone(),
                path: &path,
                body: call.body.as_ref(),
                etag: call.etag.as_deref(),
                limit: call.limit,
            };
            let answer = self.0.transport.send(&wanted, &token).await;
            match self.judge(call, &window, answer, attempt) {
                Next::Done(raw) => return Ok(raw),
                Next::Fail(error) => return Err(error),
                Next::Renew if renewed => {
                    let hint = call.need.hint(401, None);
                    let message = "Bad credentials".to_owned();
                    return Err(call.error(Problem::Refused { status: 401, message, hint }));
                }
                Next::Renew => {
                    renewed = true;
                    self.0.sessions.forget(call.repository).await;
                }
                Next::Elsewhere(to) if redirects < REDIRECTS => {
                    redirects += 1;
                    path = self.0.address.local(&to).map_err(|reason| call.unreadable(reason))?;
                }
                Next::Elsewhere(_) => return Err(call.unreadable("it leads from place to place")),
                Next::Again { after, reason } => {
                    if !self.waits(attempt, after) {
                        return Err(reason);
                    }
                    tracing::debug!(repository = call.repository, asked = call.asked,
                        attempt, reason = %reason.problem, "github is asked again");
                    tokio::time::sleep(after).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Whether there is another attempt, and the wait before it is short enough.
    fn waits(&self, attempt: u32, wait: Duration) -> bool {
        let times = self.0.transport.times();
        attempt < times.attempts && wait <= times.patience
    }

    fn judge(
        &self,
        call: &Call<'_>,
        window: &str,
        answer: Result<Raw, Silence>,
        attempt: u32,
    ) -> Next {
        let silent = |reason: String| {
            let reason = call.error(Problem::Unavailable { attempts: attempt, reason });
            // Whether it was done before the answer was lost is not known here: who asked looks
            // before asking again.
            if call.may_repeat {
                Next::Again { after: self.pause(attempt), reason }
            } else {
                Next::Fail(reason)
            }
        };
        let raw = match answer {
            Ok(raw) => raw,
            Err(Silence::Gone(reason)) => return silent(reason),
            Err(Silence::TooLarge) => {
                return Next::Fail(
                    call.unreadable(format!("it is larger than {} bytes", call.limit)),
                );
            }
            Err(Silence::Unmade(reason)) => return Next::Fail(call.error(Problem::Ours(reason))),
        };
        let said = Said::read(&raw.headers, Timestamp::now().as_second());
        self.budget().learn(window, &said, Instant::now());
        let status = raw.status;
        match status {
            200..=299 => Next::Done(raw),
            304 if call.etag.is_some() => Next::Done(raw),
            301 | 302 | 307 | 308 if call.method == Method::GET || status >= 307 => {
                match raw.header("location") {
                    Some(to) => Next::Elsewhere(to.to_owned()),
                    None => Next::Fail(call.unreadable("it leads nowhere")),
                }
            }
            500..=599 => silent(format!("status {status}")),
            _ => self.refused(call, window, &raw, &said),
        }
    }

    fn refused(&self, call: &Call<'_>, window: &str, raw: &Raw, said: &Said) -> Next {
        let message = message(raw);
        if let Some((limit, wait)) = said.limit(raw.status, &message) {
            // The end of the hour is known from the headers; a pause is known only from here.
            if limit == Limit::Secondary {
                self.budget().block(window, wait, Instant::now());
            }
            // A limit refuses before anything is done, so this may be repeated always.
            let reason = call.error(Problem::Limited { limit, wait });
            return Next::Again { after: wait, reason };
        }
        if raw.status == 401 && self.0.sessions.can_renew(call) {
            return Next::Renew;
        }
        let hint = call.need.hint(raw.status, raw.header("x-accepted-github-permissions"));
        Next::Fail(call.error(Problem::Refused { status: raw.status, message, hint }))
    }
}
