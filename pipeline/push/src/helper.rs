//! Asks one of Docker's credential helpers: a program that reads a registry's name and writes a
//! login. Its time and its answer are bounded, and nothing that it says is repeated.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{Login, logins::Secret};

/// How long a helper may take; one that asks a keychain of the network needs seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of an answer; tokens of clouds have some thousands.
const MAX_ANSWER: u64 = 64 * 1024;
/// What a helper says when it has no login, which is no failure.
const NOT_FOUND: &[u8] = b"credentials not found";
/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// The login that a helper keeps for a registry, if it does. Errors go on a sentence that begins
/// with the helper's name.
pub(crate) async fn get(
    name: &str,
    folder: Option<&Path>,
    server: &str,
) -> Result<Option<Login>, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(word) {
        return Err("is no name of a helper: use letters, digits, `-`, `_`, `.`".into());
    }
    let file = PathBuf::from(format!("docker-credential-{name}"));
    let program = folder.map_or(file.clone(), |folder| folder.join(file));
    let Some(bytes) = run(&program, server, LIMIT).await? else { return Ok(None) };
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| "gives what is no answer of a helper")?;
    Ok(Some(if answer.username == TOKEN_USER {
        Login::Identity(answer.secret.0)
    } else {
        Login::Password { user: answer.username, password: answer.secret.0 }
    }))
}

/// Runs a helper to its end; `None` when it has no login.
pub(crate) async fn run(
    program: &Path,
    server: &str,
    limit: Duration,
) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let talked = timeout(limit, talk(&mut child, server)).await;
    let answer = talked.unwrap_or_else(|_| {
        Err(format!("did not end within {} s and was killed", limit.as_secs_f32()))
    });
    if let (Err(_), Some(group), Some(_)) = (&answer, group, child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        let _ = child.wait().await;
    }
    answer
}

async fn talk(child: &mut Child, server: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let broken = |error: std::io::Error| format!("could not be talked to: {error}");
    if let Some(mut stdin) = child.stdin.take() {
        // One that needs no name may not read it.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER + 1).read_to_end(&mut bytes).await.map_err(broken)?;
    }
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(format!("gives more than {MAX_ANSWER} bytes and was killed"));
    }
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(Some(bytes));
    }
    if bytes.windows(NOT_FOUND.len()).any(|part| part.eq_ignore_ascii_case(NOT_FOUND)) {
        return Ok(None);
    }
    Err(format!("ended with {status}"))
}
