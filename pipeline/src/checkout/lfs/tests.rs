//! Pointers are read as attacks, and what they stand for comes over real HTTP or from a folder, or is
//! an error that names the next step.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path as At, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use futures_util::stream;
use pitlane_release::Digest;
use serde_json::{Value, json};

use super::*;
use crate::checkout::{Checkout, Extras, checkout};

const MODEL: &[u8] = b"a model that is too large for git, if it only were";
const LOGIN: &str = "Basic dGVzdDpzZWNyZXQ=";
const MAX: u64 = 4096;

fn pointer(oid: &Digest, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid {oid}\nsize {size}\n")
}

#[test]
fn pointers_are_read_and_broken_ones_refused() {
    let good = pointer(&Digest::of(MODEL), 7);
    assert_eq!(Pointer::parse(&good).unwrap(), Pointer { oid: Digest::of(MODEL), size: 7 });
    let hex = Digest::of(MODEL).hex();
    for (from, to) in [
        ("sha256:", "md5:"),
        (&hex[..], "../../etc/passwd"),
        ("size 7", "size -7"),
        ("size 7", "size 7\nsize 8"),
        ("size 7\n", ""),
        ("oid ", "ext-0-foo sha256:x\noid "),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(Pointer::parse(&bad).is_err(), "{bad}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for (bytes, is) in [(good.as_bytes(), true), (MODEL, false), (b"\xff\xfe", false), (b"", false)]
    {
        fs::write(file.path(), bytes).unwrap();
        assert_eq!(Pointer::read(file.path()).unwrap().is_some(), is);
    }
    fs::write(file.path(), good.clone() + &"x".repeat(2000)).unwrap();
    assert!(Pointer::read(file.path()).unwrap().is_none(), "no pointer is that long");
}

#[test]
fn the_login_of_a_clone_is_found_among_its_variables() {
    let header = format!("Authorization: {LOGIN}");
    let variables = [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "http.https://h.example/.extraHeader"),
        ("GIT_CONFIG_VALUE_0", &header),
    ];
    assert_eq!(authorization(variables), Some(LOGIN));
    assert_eq!(authorization([("GIT_CONFIG_VALUE_0", "X-Other: 1"), ("AUTH", &header)]), None);
}

/// A bare repository whose tag v1 has a pointer at models/pilot.onnx.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn with(pointer: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("models")).unwrap();
        fs::write(tree.join("models/pilot.onnx"), pointer).unwrap();
        fs::write(tree.join("models/pilot.yaml"), "card").unwrap();
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.args(args).current_dir(&tree).env("HOME", dir.path());
            git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
            let out = git.stdin(Stdio::null()).output().unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        let who = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        git(&[&who[..], &["commit", "--quiet", "-m", "a"]].concat());
        git(&["tag", "v1"]);
        git(&["clone", "--quiet", "--bare", ".", "../car.git"]);
        Self { dir }
    }

    fn bare(&self) -> PathBuf {
        self.dir.path().join("car.git")
    }

    fn object(&self, bytes: &[u8]) {
        let oid = Digest::of(MODEL);
        let place = Pointer { oid, size: 0 }.place(&self.bare());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
    }
}

async fn take(url: &str, lfs: LfsAt<'_>, dir: &Path) -> anyhow::Result<Checkout> {
    let (model, card) = (Path::new("models/pilot.onnx"), Path::new("models/pilot.yaml"));
    let extras = Extras { max_model: MAX, lfs, ..Extras::default() };
    checkout(url, &"v1".parse().unwrap(), model, card, dir, &extras).await
}

#[tokio::test]
async fn objects_beside_a_bare_repository_are_taken_by_their_digest() {
    let text = pointer(&Digest::of(MODEL), MODEL.len() as u64);
    let repository = Repository::with(&text);
    let bare = repository.bare().display().to_string();
    let run = tempfile::tempdir().unwrap();
    let refused = async |want: &str| {
        let error = take(&bare, LfsAt::default(), run.path()).await.unwrap_err();
        let hint = error.downcast_ref::<StepError>().map(|error| error.hint.clone());
        let error = format!("{error:#}");
        assert!(error.contains(want) && error.contains("models/pilot.onnx"), "{want}: {error}");
        assert!(hint.unwrap().contains("git lfs push"), "{want}");
        assert!(error.contains(&Digest::of(MODEL).to_string()), "the pointer is named: {error}");
    };
    refused("it is not at").await;
    repository.object(&MODEL[1..]);
    refused("bytes came").await;
    repository.object(&[MODEL, b"x"].concat());
    refused("more than").await;
    repository.object(&vec![b'x'; MODEL.len()]);
    refused("what came is").await;
    repository.object(MODEL);
    for url in [bare.clone(), format!("file://{bare}")] {
        let found = take(&url, LfsAt::default(), run.path()).await.unwrap();
        assert_eq!(fs::read(found.model).unwrap(), MODEL, "{url}");
    }
    let large = Repository::with(&pointer(&Digest::of(MODEL), MAX + 1));
    large.object(MODEL);
    let url = large.bare().display().to_string();
    let error = take(&url, LfsAt::default(), run.path()).await.unwrap_err();
    assert!(format!("{error:#}").contains("at most 4096 are taken"), "{error:#}");
}

/// What was asked for, with which login.
type Heard = (String, Option<String>);

/// What a server does, and what it heard.
#[derive(Clone, Default)]
struct Lab {
    repository: Option<Arc<Repository>>,
    /// What it answers to a batch; `@` is its own address.
    answer: Arc<Mutex<Value>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Lab {
    fn hear(&self, what: &str, headers: &HeaderMap) {
        let login = headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
        self.heard.lock().unwrap().push((what.to_owned(), login));
    }

    fn answers(&self, object: Value) {
        let mut object = object;
        object["oid"] = Digest::of(MODEL).hex().into();
        *self.answer.lock().unwrap() = json!({ "transfer": "basic", "objects": [object] });
    }

    fn logins(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// A real server of Git's smart HTTP and of Git LFS.
    async fn serve(self) -> String {
        async fn refs(State(lab): State<Lab>) -> Response {
            let bare = lab.repository.as_ref().unwrap().bare();
            let mut git = Command::new("git");
            git.args(["upload-pack", "--stateless-rpc", "--advertise-refs", "."]);
            let out = git.current_dir(bare).output().unwrap().stdout;
            let kind = [(header::CONTENT_TYPE, "application/x-git-upload-pack-advertisement")];
            (kind, [b"001e# service=git-upload-pack\n0000", &out[..]].concat()).into_response()
        }
        async fn pack(State(lab): State<Lab>, headers: HeaderMap, body: Bytes) -> Response {
            let bare = lab.repository.as_ref().unwrap().bare();
            let plain = match headers.get(header::CONTENT_ENCODING) {
                Some(_) => {
                    let mut plain = Vec::new();
                    let mut gzip = flate2::read::GzDecoder::new(&body[..]);
                    std::io::Read::read_to_end(&mut gzip, &mut plain).unwrap();
                    plain
                }
                None => body.to_vec(),
            };
            let mut git = Command::new("git");
            git.args(["upload-pack", "--stateless-rpc", "."]).current_dir(bare);
            let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &plain).unwrap();
            let out = child.wait_with_output().unwrap().stdout;
            ([(header::CONTENT_TYPE, "application/x-git-upload-pack-result")], out).into_response()
        }
        async fn batch(State(lab): State<Lab>, headers: HeaderMap, body: Bytes) -> Response {
            lab.hear("batch", &headers);
            let asked: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(asked["operation"], "download");
            assert_eq!(asked["objects"][0]["oid"], Digest::of(MODEL).hex());
            let kind = [(header::CONTENT_TYPE, "application/vnd.git-lfs+json")];
            (kind, lab.answer.lock().unwrap().to_string()).into_response()
        }
        async fn object(
            State(lab): State<Lab>,
            At(name): At<String>,
            headers: HeaderMap,
        ) -> Response {
            lab.hear(&name, &headers);
            match name.as_str() {
                "whole" => MODEL.into_response(),
                "short" => MODEL[1..].into_response(),
                "other" => vec![b'x'; MODEL.len()].into_response(),
                "moved" => Redirect::temporary("/o/whole").into_response(),
                "endless" => {
                    let more = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 65536]));
                    Body::from_stream(more).into_response()
                }
                "busy" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        }
        let router = Router::new()
            .route("/car.git/info/refs", get(refs))
            .route("/car.git/git-upload-pack", post(pack))
            .route("/car.git/info/lfs/objects/batch", post(batch))
            .route("/own/objects/batch", post(batch))
            .route("/o/{name}", get(object))
            .with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        at
    }
}

fn download(href: &str) -> Value {
    json!({ "actions": { "download": { "href": href } } })
}

#[tokio::test]
async fn objects_of_a_server_are_taken_with_the_logins_that_belong_there() {
    let text = pointer(&Digest::of(MODEL), MODEL.len() as u64);
    let lab = Lab { repository: Some(Arc::new(Repository::with(&text))), ..Lab::default() };
    let store = Lab::default();
    let (here, there) = (lab.clone().serve().await, store.clone().serve().await);
    let url = format!("{here}/car.git");
    let run = tempfile::tempdir().unwrap();
    let login = LfsAt { server: None, authorization: Some(LOGIN) };
    let own = Some(LOGIN.to_owned());

    lab.answers(download(&format!("{here}/o/whole")));
    let found = take(&url, login, run.path()).await.unwrap();
    assert_eq!(fs::read(&found.model).unwrap(), MODEL);
    assert_eq!(
        lab.logins(),
        [("batch".to_owned(), own.clone()), ("whole".to_owned(), own.clone())]
    );

    // An object elsewhere gets what the server says, and never the clone's login.
    lab.answers(download(&format!("{there}/o/whole")));
    take(&url, login, run.path()).await.unwrap();
    assert_eq!(store.logins(), [("whole".to_owned(), None)]);
    let mut with = download(&format!("{there}/o/moved"));
    with["actions"]["download"]["header"] =
        json!({ "Authorization": "RemoteAuth x", "Host": "evil" });
    lab.answers(with);
    take(&url, login, run.path()).await.unwrap();
    let theirs = Some("RemoteAuth x".to_owned());
    assert_eq!(
        store.logins(),
        [("moved".to_owned(), theirs.clone()), ("whole".to_owned(), theirs)]
    );
    lab.logins();

    // A server that the operator names is asked instead, without the login of another host.
    store.answers(download(&format!("{there}/o/whole")));
    let named = format!("{there}/own");
    let named = LfsAt { server: Some(&named), ..login };
    take(&url, named, run.path()).await.unwrap();
    assert_eq!(store.logins(), [("batch".to_owned(), None), ("whole".to_owned(), None)]);
    assert!(lab.logins().is_empty());
}

#[tokio::test]
async fn a_server_that_lies_gives_no_model() {
    let text = pointer(&Digest::of(MODEL), MODEL.len() as u64);
    let lab = Lab { repository: Some(Arc::new(Repository::with(&text))), ..Lab::default() };
    let here = lab.clone().serve().await;
    let url = format!("{here}/car.git");
    let at = |name: &str| download(&format!("{here}/o/{name}"));
    let run = tempfile::tempdir().unwrap();
    for (object, want) in [
        (at("short"), "bytes came"),
        (at("other"), "what came is"),
        (at("endless"), "more than"),
        (at("none"), "answered 404"),
        (download("file:///etc/passwd"), "which is not https"),
        (download("no address"), "names no address"),
        (json!({}), "names no download"),
        (
            json!({ "error": { "code": 404, "message": "gone\u{1b}[2J" } }),
            "has it not: gone[2J (404)",
        ),
    ] {
        lab.answers(object);
        let error = take(&url, LfsAt::default(), run.path()).await.unwrap_err();
        let step = error.downcast_ref::<StepError>().expect("an answer that will not change");
        assert_eq!((step.code.as_str(), step.retryable), ("lfs-object", false));
        let error = format!("{error:#}");
        assert!(error.contains(want) && error.contains("sha256:"), "{want}: {error}");
        assert!(fs::read_to_string(run.path().join("model.onnx")).unwrap() == text, "{want}");
    }
    *lab.answer.lock().unwrap() = json!({ "objects": [] });
    let error = take(&url, LfsAt::default(), run.path()).await.unwrap_err();
    assert!(format!("{error:#}").contains("says nothing of it"), "{error:#}");
    // What is busy may pass.
    lab.answers(at("busy"));
    let error = take(&url, LfsAt::default(), run.path()).await.unwrap_err();
    assert!(error.chain().any(<dyn std::error::Error>::is::<reqwest::Error>), "{error:#}");
    assert!(error.downcast_ref::<StepError>().is_none(), "{error:#}");
}
