//! What happens to a run, as it happens: server-sent events (WHATWG HTML, 9.2).
//!
//! `step` carries a `StepRecord` whenever one began or ended, `run` the `Run` whenever its state
//! changed, `progress` a `Transfer` while one is under way at this process; the stream ends with `end` once nothing more happens by itself. It is read from the
//! journal, so any replica can tell it, and who comes late gets all of it.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    progress::{Progress, Transfer},
    store::{Run, RunState, StepRecord, Store, StoreError},
};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A word when nothing happens, so that nobody in between takes the stream for dead.
const QUIET: Duration = Duration::from_secs(15);
/// Longest stream: a client that wants more connects again, and is told all of it again.
const LONGEST: Duration = Duration::from_hours(6);

/// One event, for the document.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "events are written as text; this says what is in it")]
pub(super) struct Happening {
    /// What the event is about.
    event: About,
    /// JSON: a `StepRecord`, a `Run`, a `Transfer`, its last state, or what went wrong.
    data: String,
}

/// What an event is about.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "as above")]
enum About {
    /// A step began or ended.
    Step,
    /// The run's state changed.
    Run,
    /// A transfer goes on.
    Progress,
    /// Nothing more happens by itself.
    End,
    /// The journal cannot be read.
    Error,
}

/// What was told so far.
struct Told {
    store: Store,
    run: String,
    state: Option<RunState>,
    steps: Vec<StepRecord>,
    progress: Progress,
    transfer: Option<Transfer>,
    began: tokio::time::Instant,
    spoke: tokio::time::Instant,
    stopping: watch::Receiver<bool>,
    over: bool,
}

/// The answer.
pub(super) fn stream(
    store: Store,
    run: String,
    progress: Progress,
    stopping: watch::Receiver<bool>,
) -> Response {
    let now = tokio::time::Instant::now();
    let told = Told {
        store,
        run,
        state: None,
        steps: Vec::new(),
        progress,
        transfer: None,
        began: now,
        spoke: now,
        stopping,
        over: false,
    };
    let events = stream::unfold(told, |mut told| async move {
        if told.over || *told.stopping.borrow() {
            return None;
        }
        loop {
            let news = told.news().await;
            if !news.is_empty() || *told.stopping.borrow() {
                told.spoke = tokio::time::Instant::now();
                return Some((Ok::<_, Infallible>(Bytes::from(news)), told));
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Told {
    /// What is new since the last look; empty when nothing is.
    async fn news(&mut self) -> String {
        let found = match self.look().await {
            Ok(found) => found,
            Err(error) => {
                self.over = true;
                return event("error", &error.to_string());
            }
        };
        let mut text = String::new();
        let (run, steps) = found;
        for record in &steps {
            let known = self
                .steps
                .iter()
                .find(|known| (known.step, known.attempt) == (record.step, record.attempt));
            if known.is_none_or(|known| known.outcome != record.outcome) {
                text.push_str(&event("step", record));
            }
        }
        self.steps = steps;
        let transfer = self.progress.of(&self.run);
        if transfer.is_some() && transfer != self.transfer {
            text.push_str(&event("progress", &transfer));
        }
        self.transfer = transfer;
        if self.state != Some(run.state) {
            self.state = Some(run.state);
            text.push_str(&event("run", &run));
        }
        let long = self.began.elapsed() > LONGEST;
        if run.state.is_over() || long {
            self.over = true;
            text.push_str(&event("end", &run.state));
        } else if text.is_empty() && self.spoke.elapsed() > QUIET {
            text.push_str(": still at it\n\n");
        }
        text
    }

    async fn look(&self) -> Result<(Run, Vec<StepRecord>), StoreError> {
        // The run first: a state that is over is told after all of its steps.
        let run = self.store.run(&self.run).await?;
        Ok((run, self.store.steps(&self.run).await?))
    }
}

/// One event; JSON has no line ends of its own.
fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    format!("event: {name}\ndata: {data}\n\n")
}
