//! `pitlane hook post`: reads git's "old new ref" lines, posts what happened to tags.
//!
//! git waits for this program while the pusher waits for git, so all of it ends in bounded time,
//! and nothing that goes wrong here makes a push fail: the tags are already there.

use std::{
    io::Read,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use pitlane_release::{Commit, ReleaseTag, causes};
use rand_core::{OsRng, RngCore as _};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use super::super::{
    client::bounded,
    secret::{sign, signing_secret},
};

/// The pusher waits no longer than this, however many tags there are.
const ALL_TIME: Duration = Duration::from_secs(10);
/// One delivery: GitHub waits 10 s too, ours are answered in milliseconds.
const ONE_TIME: Duration = Duration::from_secs(5);
/// git peels a tag in a millisecond.
const GIT_TIME: Duration = Duration::from_secs(5);
/// Lines of a push: 100 000 refs of 200 bytes.
const MAX_INPUT: u64 = 20 * 1024 * 1024;
/// An answer of the webhook.
const MAX_ANSWER: usize = 64 * 1024;
const ZERO: &str = "0000000000000000000000000000000000000000";

/// Where to post, and as whom.
#[derive(Clone, Debug)]
pub struct Post {
    /// The webhook.
    pub url: String,
    /// File with the shared secret (its first line).
    pub secret_file: PathBuf,
    /// `owner/name`.
    pub repository: String,
    /// The repository's folder: the hook's working folder, where absent.
    pub repository_dir: Option<PathBuf>,
}

/// What became of one tag: a line for the pusher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The tag's short name.
    pub tag: String,
    /// Whether the service has it.
    pub accepted: bool,
    /// `v1.2.3 accepted, run r7-...`.
    pub line: String,
}

struct Change {
    old: String,
    new: String,
    tag: String,
}

/// The tags among git's lines; other refs and names that no release can have are left out.
fn changes(input: &str) -> Vec<Change> {
    let mut found = Vec::new();
    for line in input.lines() {
        let mut words = line.split(' ');
        if let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next())
            && let Some(tag) = name.strip_prefix("refs/tags/")
            && [old, new].iter().all(|id| id.parse::<Commit>().is_ok())
            && tag.parse::<ReleaseTag>().is_ok()
        {
            found.push(Change { old: old.into(), new: new.into(), tag: tag.into() });
        }
    }
    found
}

/// Posts every tag of the push that `input` (git's lines) describes. Never fails: what went
/// wrong is in the lines. Takes 10 s at most.
pub async fn post(want: &Post, input: impl Read) -> Vec<Told> {
    let mut text = String::new();
    let read = input.take(MAX_INPUT).read_to_string(&mut text);
    let changes = changes(&text);
    if read.is_err() && changes.is_empty() {
        return vec![failed("tags", "what git sent could not be read")];
    }
    let end = Instant::now() + ALL_TIME;
    let mut told = Vec::new();
    let http = client();
    for change in &changes {
        let left = end.saturating_duration_since(Instant::now());
        let outcome = match (&http, left.is_zero()) {
            (_, true) => Err("there was no time left".to_owned()),
            (Err(error), _) => Err(error.clone()),
            (Ok(http), false) => timeout(left.min(ONE_TIME), one(http, want, change))
                .await
                .unwrap_or_else(|_| Err(format!("no answer from {}", want.url))),
        };
        told.push(match outcome {
            Ok((accepted, line)) => {
                Told { tag: change.tag.clone(), accepted, line: format!("{} {line}", change.tag) }
            }
            Err(reason) => failed(&change.tag, &reason),
        });
    }
    told
}

fn failed(tag: &str, reason: &str) -> Told {
    let line = format!("{tag} was pushed, but Pitlane was not told: {reason}");
    Told { tag: tag.to_owned(), accepted: false, line }
}

fn client() -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder().timeout(ONE_TIME);
    builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|e| causes(&e))
}

/// Posts one change; whether it was accepted, and what to say.
async fn one(
    http: &reqwest::Client,
    want: &Post,
    change: &Change,
) -> Result<(bool, String), String> {
    let key = signing_secret(&want.secret_file).map_err(|e| e.to_string())?;
    let body = payload(want, change).await?.to_string();
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    let request = http
        .post(&want.url)
        .header("content-type", "application/json")
        .header("user-agent", concat!("pitlane-hook/", env!("CARGO_PKG_VERSION")))
        .header("x-github-event", "push")
        .header("x-github-delivery", hex::encode(id))
        .header("x-hub-signature-256", sign(&key, body.as_bytes()))
        .body(body);
    let mut response = request.send().await.map_err(|e| causes(&e))?;
    let status = response.status().as_u16();
    let answer = bounded(&mut response, MAX_ANSWER).await.map_err(|e| causes(&e))?;
    let answer: Value = answer
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| format!("{} answered {status} with no JSON", want.url))?;
    let field = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    match status {
        202 => Ok((true, format!("accepted, run {}", plain(field("/run"))))),
        200 => Ok((true, format!("ignored: {}", plain(field("/ignored"))))),
        _ => {
            let (message, hint) = (plain(field("/error/message")), plain(field("/error/hint")));
            Ok((false, format!("refused ({status}): {message}; {hint}")))
        }
    }
}

/// One line of an answer, for a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// GitHub's push event, as far as anybody reads it.
async fn payload(want: &Post, change: &Change) -> Result<Value, String> {
    let (created, deleted) = (change.old == ZERO, change.new == ZERO);
    let head = if deleted { None } else { peel(want, &change.new).await? };
    Ok(json!({
        "ref": format!("refs/tags/{}", change.tag),
        "before": change.old,
        "after": change.new,
        "created": created,
        "deleted": deleted,
        "forced": !created && !deleted,
        "head_commit": head.map(|id| json!({"id": id})),
        "commits": [],
        "repository": {"full_name": want.repository},
    }))
}

/// The commit that an object leads to; `None` where it leads to none (a tag of a file).
async fn peel(want: &Post, object: &str) -> Result<Option<String>, String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--quiet", "--verify", "--end-of-options"])
        .arg(format!("{object}^{{commit}}"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some(dir) = &want.repository_dir {
        git.current_dir(dir).env_remove("GIT_DIR");
    }
    let output =
        timeout(GIT_TIME, git.output()).await.map_err(|_| "git took too long".to_owned())?;
    let output = output.map_err(|e| format!("git did not start: {e}"))?;
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && id.parse::<Commit>().is_ok()).then_some(id))
}
