//! Cloning and pushing over smart HTTP: `git http-backend` behind the same tokens as the API.
//! What git pushes changes branches on the disk; the API's tags and commits are those of the lab's
//! own functions.

use std::process::Stdio;

use axum::{
    body::{Body, Bytes},
    http::{Response, header, request::Parts},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    Shared,
    auth::{caller, need},
    world::Asked,
};

fn plain(status: u16, text: &'static str) -> Response<Body> {
    let challenge = "Basic realm=\"GitHub\"";
    let mut response = Response::builder().status(status);
    if status == 401 {
        response = response.header(header::WWW_AUTHENTICATE, challenge);
    }
    response.body(Body::from(text)).unwrap_or_default()
}

/// Why the request may not read or write this repository.
fn refusal(shared: &Shared, parts: &Parts, key: &str, level: &str) -> Option<Response<Body>> {
    let world = shared.world();
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let asks = || Some(plain(401, "Invalid username or token."));
    let Ok(caller) = caller(&world, header) else { return asks() };
    match need(&world, &caller, key, "contents", level) {
        Ok(()) => None,
        // git asks for a login after 401 alone.
        Err(_) if header.is_none() => asks(),
        Err(_) => Some(plain(403, "Write access to repository not granted.")),
    }
}

pub(crate) async fn serve(shared: &Shared, parts: &Parts, body: Bytes) -> Response<Body> {
    let path = parts.uri.path().to_lowercase();
    let key = path.split(".git/").next().unwrap_or_default().trim_start_matches('/').to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let push = path.ends_with("/git-receive-pack") || query.contains("git-receive-pack");
    let refused = refusal(shared, parts, &key, if push { "write" } else { "read" });
    let status = refused.as_ref().map_or(200, |refused| refused.status().as_u16());
    shared.world().asked.push(Asked {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        status,
        cost: false,
        api_version: String::new(),
    });
    if let Some(refused) = refused {
        return refused;
    }
    let folder = shared.world().folder.clone();
    match backend(&folder, parts, &path, query, body).await {
        Some(response) => response,
        None => plain(500, "git http-backend failed"),
    }
}

async fn backend(
    folder: &std::path::Path,
    parts: &Parts,
    path: &str,
    query: &str,
    body: Bytes,
) -> Option<Response<Body>> {
    let text = |name: &str| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let mut command = Command::new("git");
    command
        .args(["-c", "safe.directory=*", "-c", "http.receivepack=true", "http-backend"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", text("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let feed = tokio::spawn(async move { stdin.write_all(&body).await });
    let out = child.wait_with_output().await.ok()?.stdout;
    let _ = feed.await;
    let split = out.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&out[..split]).into_owned();
    let mut response = Response::builder();
    for line in head.lines() {
        let (name, value) = line.split_once(": ")?;
        if name.eq_ignore_ascii_case("status") {
            response = response.status(value.split(' ').next()?.parse::<u16>().ok()?);
        } else {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(out[split + 4..].to_vec())).ok()
}
