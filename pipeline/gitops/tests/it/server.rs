//! A git server over smart HTTP: git's own backend behind a small listener.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, Response, StatusCode},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::world::{World, candidate, commit_of, digest};

/// Serves the repositories below a directory; anybody may push.
pub(crate) async fn serve(root: PathBuf) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(backend).with_state(root);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// One request by CGI (RFC 3875).
async fn backend(State(root): State<PathBuf>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
    };
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "-c", "http.receivepack=true"])
        .args(["-c", "uploadpack.allowFilter=true", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = git.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async move { drop(stdin.write_all(&body).await) };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output.unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::builder().status(StatusCode::OK);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_http_as_by_a_path() {
    let mut world = World::new();
    // Something that no promotion needs: the server is asked to leave it out.
    world.write("big.bin", &"x".repeat(3 << 20));
    world.push("Big");
    let address = serve(world.dir.path().to_owned()).await;
    world.config.url = format!("http://{address}/gitops.git");
    let first = world.promote(1).await;
    assert_eq!(commit_of(&first), world.head());
    assert_eq!(commit_of(&world.promote(1).await), world.head());
    let mut tasks = tokio::task::JoinSet::new();
    for counter in [2, 4, 3] {
        let (config, dir) = (world.config.clone(), world.copies());
        tasks.spawn(async move {
            let environment = config.environments().remove(0);
            let forge = &pitlane_gitops::PlainGit;
            let promoter = pitlane_gitops::Promoter { config: &config, forge, dir: &dir };
            promoter.promote(&environment, &candidate(counter)).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert!(world.read("car/kustomization.yaml").contains(&digest(4).hex()));
    world.git(&["fsck", "--strict"]);
    // The file itself too large to be fetched: said as such.
    world.pull();
    world.write("car/kustomization.yaml", &"x".repeat(3 << 20));
    world.push("Giant");
    let error = world.try_promote(&candidate(9)).await.unwrap_err();
    assert_eq!(error.code(), "file-too-large", "{error}");
}
