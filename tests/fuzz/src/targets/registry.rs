//! The embedded registry: paths, queries, headers, ranges, manifests, uploads, by whole requests.

use std::{fs, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pitlane_pipeline::registry::{Limits, PushToken, Registry, RegistryConfig, router};
use pitlane_release::Digest;

use super::{fresh_folder, text, wait};
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "registry-http",
    run: requests,
    more: &[],
    words: &[
        "PUT ",
        "GET ",
        "HEAD ",
        "POST ",
        "PATCH ",
        "DELETE ",
        "/v2/",
        "/blobs/uploads/",
        "/manifests/",
        "/tags/list",
        "/referrers/",
        "/_catalog",
        "/blobs/sha256:",
        "?digest=",
        "?mount=",
        "&from=team/car",
        "?n=1",
        "&last=v1",
        "content-range: 0-4",
        "range: bytes=0-1,3-",
        "range: bytes=-5",
        "content-length: 5",
        "content-type: application/vnd.oci.image.manifest.v1+json",
        "authorization: Bearer x",
        "\n%%\n",
        "{{d1}}",
        "{{s1}}",
        "{{upload}}",
        "%3A",
        "../",
        "sha512:",
        "\"subject\":",
    ],
    max: 5_000,
}];

const TOKEN: &str = "fuzzing-push-token";
const MIB: u64 = 1 << 20;
/// Most bytes that this registry may keep.
const QUOTA: u64 = 2 * MIB;

/// What is before the first empty line, and what is behind it.
pub(super) fn head_and_body(input: &[u8]) -> (&str, &[u8]) {
    match input.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (text(&input[..at]), &input[at + 2..]),
        None => (text(input), &[]),
    }
}

/// Each document is a request: a line `METHOD TARGET`, header lines, an empty line, the body.
/// `{{upload}}` is the last `Location`. The login is right unless a header says otherwise.
fn requests(input: &[u8]) -> Reached {
    let root = fresh_folder();
    let limits = Limits {
        blob_bytes: MIB,
        manifest_bytes: MIB,
        quota_bytes: QUOTA,
        uploads: 4,
        ..Limits::default()
    };
    let push_token = Some(PushToken::new(TOKEN).unwrap());
    let config = RegistryConfig {
        limits,
        push_token,
        allow_delete: true,
        sync: false,
        ..RegistryConfig::new(root.join("registry"))
    };
    let registry = Arc::new(Registry::open(config).unwrap());
    let app = TowerToHyperService::new(router(Arc::clone(&registry)));
    let mut reached = Reached::refused("");
    let mut location = String::new();
    // References to digests of bodies: `{{d1}}` is the digest of the second request's body.
    let bodies: Vec<Vec<u8>> =
        template::cut(input).iter().map(|one| head_and_body(one).1.to_vec()).collect();
    for one in template::cut(input) {
        let filled = template::fill(one, &|name| match name.split_at_checked(1)? {
            ("d", at) => {
                Some(Digest::of(bodies.get(at.parse::<usize>().ok()?)?).to_string().into())
            }
            ("s", at) => Some(bodies.get(at.parse::<usize>().ok()?)?.len().to_string().into()),
            _ => (name == "upload").then(|| location.clone().into_bytes()),
        });
        let Some(request) = request(&filled) else {
            reached = reached.and(Reached::refused("no request"));
            continue;
        };
        let asked = format!("{} {}", request.method(), request.uri());
        let answer: Response<Vec<u8>> = wait(async {
            let (parts, body) = app.call(request).await.unwrap().into_parts();
            Response::from_parts(parts, to_bytes(body, 8 << 20).await.unwrap().to_vec())
        });
        let status = answer.status();
        assert!(
            !status.is_server_error() || status == StatusCode::INSUFFICIENT_STORAGE,
            "{asked}: {status} {}",
            String::from_utf8_lossy(answer.body())
        );
        if let Some(found) = answer.headers().get("location").and_then(|l| l.to_str().ok()) {
            found.clone_into(&mut location);
        }
        let code = String::from_utf8_lossy(answer.body());
        let code = code.split('"').nth(5).unwrap_or("").to_owned();
        reached = reached.and(if status.is_success() {
            Reached::accepted(status_mark(status))
        } else {
            Reached::refused(format!("{} {code}", status_mark(status)))
        });
        assert!(registry.used_bytes() <= QUOTA, "{asked}: over the quota");
    }
    drop(app);
    drop(registry);
    stays_inside(&root);
    reached
}

/// A mark is blind to numbers, and a status is one.
fn status_mark(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("")
}

fn request(input: &[u8]) -> Option<Request<Body>> {
    let (head, body) = head_and_body(input);
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target).header("host", "r.example");
    let mut login = false;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")).take(40) {
        login |= name.eq_ignore_ascii_case("authorization");
        request = request.header(name, value);
    }
    if !login {
        request = request.header("authorization", format!("Bearer {TOKEN}"));
    }
    request.body(Body::from(body.to_vec())).ok()
}

/// Nothing but the registry's folder was made, and blobs are what their names say.
fn stays_inside(root: &std::path::Path) {
    let names: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["registry"]);
    let blobs = fs::read_dir(root.join("registry/blobs/sha256")).into_iter().flatten().flatten();
    for blob in blobs {
        let name = blob.file_name().to_string_lossy().into_owned();
        let bytes = fs::read(blob.path()).unwrap();
        assert_eq!(Digest::of(bytes).hex(), name, "a blob that is not what it is called");
    }
}
