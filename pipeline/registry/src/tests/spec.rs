//! The distribution specification 1.1, section by section: what a registry must answer to each
//! endpoint, as a table of requests that build on each other.
//!
//! It stands in for the specification's conformance suite, which is a Go program, with its
//! workflows: pull, push, content discovery, content management.

use pitlane_release::oci::INDEX;
use serde_json::json;

use super::{Answer, Digest, MANIFEST, Server, image};

/// What must hold of an answer besides its status.
enum Must<'a> {
    /// A header with this value.
    Have(&'static str, &'a str),
    /// A header that begins so.
    Begin(&'static str, &'a str),
    /// This body.
    Body(&'a [u8]),
    /// No body.
    Bare,
    /// This code of the table of errors.
    Code(&'static str),
    /// A body of JSON with this at a pointer.
    Json(&'static str, serde_json::Value),
}
use Must::{Bare, Begin, Body, Code, Have, Json};

fn holds(must: &Must<'_>, answer: &Answer) -> bool {
    match must {
        Have(name, value) => answer.header(name) == *value,
        Begin(name, value) => answer.header(name).starts_with(value),
        Body(bytes) => answer.body == *bytes,
        Bare => answer.body.is_empty(),
        Code(code) => answer.code() == *code,
        Json(pointer, value) => answer.json().pointer(pointer) == Some(value),
    }
}

struct Ask<'a> {
    what: &'static str,
    line: String,
    headers: Vec<String>,
    body: &'a [u8],
    status: u16,
    must: Vec<Must<'a>>,
}

fn ask<'a>(
    what: &'static str,
    line: impl Into<String>,
    body: &'a [u8],
    status: u16,
    must: Vec<Must<'a>>,
) -> Ask<'a> {
    Ask { what, line: line.into(), headers: Vec::new(), body, status, must }
}

impl Ask<'_> {
    fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }
}

async fn go(server: &Server, asks: Vec<Ask<'_>>) {
    for ask in asks {
        let headers: Vec<&str> = ask.headers.iter().map(String::as_str).collect();
        let answer = server.push(&ask.line, &headers, ask.body).await;
        let shown = format!("{}: {} {answer:?}", ask.what, ask.line);
        assert_eq!(answer.status, ask.status, "{shown}");
        for (at, must) in ask.must.iter().enumerate() {
            assert!(holds(must, &answer), "{shown}: demand {at}");
        }
    }
}

async fn start(server: &Server) -> String {
    let answer = server.push("POST /v2/spec/car/blobs/uploads/", &[], b"").await;
    assert_eq!(answer.status, 202);
    answer.header("location").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn pull_and_push() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let name = "/v2/spec/car";
    let (blob, manifest) = (&b"first layer"[..], image(b"first layer", &json!({})));
    let (digest, named) = (Digest::of(blob).to_string(), Digest::of(&manifest).to_string());
    let (at_blob, at_manifest) =
        (format!("{name}/blobs/{digest}"), format!("{name}/manifests/{named}"));
    let empty = Digest::of(b"{}").to_string();
    let other = Digest::of(b"another").to_string();
    let one = start(&server).await;
    let kind = format!("Content-Type: {MANIFEST}");
    let put = |tag: &str| format!("PUT {name}/manifests/{tag}");
    go(
        &server,
        vec![
            // Determining support (end-1).
            ask("end-1", "GET /v2/", b"", 200, vec![]),
            // Pulling what is not there.
            ask("end-2 unknown", format!("GET {at_blob}"), b"", 404, vec![Code("BLOB_UNKNOWN")]),
            ask("end-2 unknown", format!("HEAD {at_blob}"), b"", 404, vec![Bare]),
            ask(
                "end-3 unknown",
                format!("GET {at_manifest}"),
                b"",
                404,
                vec![Code("NAME_UNKNOWN")],
            ),
            ask("end-3 unknown", format!("HEAD {name}/manifests/v1"), b"", 404, vec![Bare]),
            // Pushing a blob: POST then PUT (end-4a, end-6).
            ask(
                "end-4a",
                format!("POST {name}/blobs/uploads/"),
                b"",
                202,
                vec![Begin("location", "/v2/spec/car/blobs/uploads/")],
            ),
            ask(
                "end-6",
                format!("PUT {one}?digest={digest}"),
                blob,
                201,
                vec![Have("location", &at_blob)],
            )
            .with("Content-Type: application/octet-stream"),
            ask(
                "end-2",
                format!("HEAD {at_blob}"),
                b"",
                200,
                vec![Have("content-length", "11"), Have("docker-content-digest", &digest), Bare],
            ),
            ask(
                "end-2",
                format!("GET {at_blob}"),
                b"",
                200,
                vec![Body(blob), Have("docker-content-digest", &digest)],
            ),
            ask(
                "end-2 range",
                format!("GET {at_blob}"),
                b"",
                206,
                vec![Body(b"rst"), Have("content-range", "bytes 2-4/11")],
            )
            .with("Range: bytes=2-4"),
            ask("end-2 range past the end", format!("GET {at_blob}"), b"", 416, vec![])
                .with("Range: bytes=11-"),
            // In one request (end-4b).
            ask(
                "end-4b",
                format!("POST {name}/blobs/uploads/?digest={empty}"),
                b"{}",
                201,
                vec![Begin("location", "/v2/spec/car/blobs/sha256:")],
            ),
            ask(
                "end-4b wrong digest",
                format!("POST {name}/blobs/uploads/?digest={other}"),
                b"{}",
                400,
                vec![Code("DIGEST_INVALID")],
            ),
            // Mounting (end-11).
            ask(
                "end-11",
                format!("POST /v2/spec/other/blobs/uploads/?mount={digest}&from=spec/car"),
                b"",
                201,
                vec![Have("location", &format!("/v2/spec/other/blobs/{digest}"))],
            ),
            ask(
                "end-11 unknown",
                format!("POST /v2/spec/other/blobs/uploads/?mount={other}&from=spec/car"),
                b"",
                202,
                vec![Begin("location", "/v2/spec/other/blobs/uploads/")],
            ),
            // Pushing a manifest (end-7).
            ask(
                "end-7",
                put("v1"),
                &manifest,
                201,
                vec![Have("location", &at_manifest), Have("docker-content-digest", &named)],
            )
            .with(&kind),
            ask("end-7 by digest", put(&named), &manifest, 201, vec![]).with(&kind),
            ask("end-7 another digest", put(&other), &manifest, 400, vec![Code("DIGEST_INVALID")])
                .with(&kind),
            ask("end-7 junk", put("v2"), b"junk", 400, vec![Code("MANIFEST_INVALID")]).with(&kind),
            ask(
                "end-3 by tag",
                format!("GET {name}/manifests/v1"),
                b"",
                200,
                vec![
                    Body(&manifest),
                    Have("content-type", MANIFEST),
                    Have("docker-content-digest", &named),
                ],
            ),
            ask(
                "end-3 by digest",
                format!("HEAD {at_manifest}"),
                b"",
                200,
                vec![Have("content-length", &manifest.len().to_string()), Bare],
            ),
            ask(
                "end-3 unknown tag",
                format!("GET {name}/manifests/nothing"),
                b"",
                404,
                vec![Code("MANIFEST_UNKNOWN")],
            ),
        ],
    )
    .await;

    // In chunks (end-5, end-13), in order and not.
    let at = start(&server).await;
    let chunks = Digest::of(b"onetwo").to_string();
    go(
        &server,
        vec![
            ask(
                "end-5",
                format!("PATCH {at}"),
                b"one",
                202,
                vec![Have("range", "0-2"), Have("location", &at)],
            )
            .with("Content-Range: 0-2"),
            ask(
                "end-5 out of order",
                format!("PATCH {at}"),
                b"two",
                416,
                vec![Have("range", "0-2"), Have("location", &at)],
            )
            .with("Content-Range: 4-6"),
            ask("end-5 repeated", format!("PATCH {at}"), b"one", 416, vec![])
                .with("Content-Range: 0-2"),
            ask(
                "end-13",
                format!("GET {at}"),
                b"",
                204,
                vec![Have("range", "0-2"), Have("location", &at), Bare],
            ),
            ask("end-5 no range", format!("PATCH {at}"), b"two", 202, vec![Have("range", "0-5")]),
            ask(
                "end-6",
                format!("PUT {at}?digest={chunks}"),
                b"",
                201,
                vec![Have("location", &format!("{name}/blobs/{chunks}"))],
            ),
            ask("end-13 ended", format!("GET {at}"), b"", 404, vec![Code("BLOB_UPLOAD_UNKNOWN")]),
            ask("end-2", format!("GET {name}/blobs/{chunks}"), b"", 200, vec![Body(b"onetwo")]),
        ],
    )
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn content_discovery_and_management() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let name = "/v2/spec/car";
    let manifest = server.image("spec/car", "b", b"layer").await;
    for tag in ["a", "c"] {
        server.put("spec/car", tag, &manifest).await;
    }
    let (named, none) = (Digest::of(&manifest).to_string(), Digest::of(b"nobody").to_string());
    let subject = json!({ "mediaType": MANIFEST, "digest": named, "size": manifest.len() });
    let of = |kind: &str| image(b"layer", &json!({ "subject": subject, "artifactType": kind }));
    let (lap, scan) = (of("application/lap"), of("application/scan"));
    let put = |bytes: &[u8]| format!("PUT {name}/manifests/{}", Digest::of(bytes));
    let referrers = format!("GET {name}/referrers/{named}");
    let delete = |what: &str| format!("DELETE {name}/{what}");
    let layer = Digest::of(b"layer");
    let kind = format!("Content-Type: {MANIFEST}");
    go(
        &server,
        vec![
            // Tags (end-8a, end-8b).
            ask(
                "end-8a",
                format!("GET {name}/tags/list"),
                b"",
                200,
                vec![Json("/name", json!("spec/car")), Json("/tags", json!(["a", "b", "c"]))],
            ),
            ask(
                "end-8b",
                format!("GET {name}/tags/list?n=2"),
                b"",
                200,
                vec![Json("/tags", json!(["a", "b"])), Begin("link", "<")],
            ),
            ask(
                "end-8b last",
                format!("GET {name}/tags/list?n=2&last=b"),
                b"",
                200,
                vec![Json("/tags", json!(["c"])), Have("link", "")],
            ),
            ask(
                "end-8b none",
                format!("GET {name}/tags/list?n=0"),
                b"",
                200,
                vec![Json("/tags", json!([]))],
            ),
            // Referrers (end-12a, end-12b).
            ask(
                "end-12a nobody",
                format!("GET {name}/referrers/{none}"),
                b"",
                200,
                vec![
                    Have("content-type", INDEX),
                    Json("/manifests", json!([])),
                    Json("/schemaVersion", json!(2)),
                    Json("/mediaType", json!(INDEX)),
                ],
            ),
            ask("end-7 subject", put(&lap), &lap, 201, vec![Have("oci-subject", &named)])
                .with(&kind),
            ask("end-7 subject", put(&scan), &scan, 201, vec![Have("oci-subject", &named)])
                .with(&kind),
            ask(
                "end-12a",
                referrers.clone(),
                b"",
                200,
                vec![Have("content-type", INDEX), Have("oci-filters-applied", "")],
            ),
            ask(
                "end-12b",
                format!("{referrers}?artifactType=application/scan"),
                b"",
                200,
                vec![
                    Have("oci-filters-applied", "artifactType"),
                    Json("/manifests/0/artifactType", json!("application/scan")),
                    Json("/manifests/0/digest", json!(Digest::of(&scan))),
                ],
            ),
            ask("end-12 not a digest", format!("GET {name}/referrers/v1"), b"", 400, vec![]),
            // Deleting tags, manifests, blobs (end-9, end-10).
            ask("end-9 tag", delete("manifests/a"), b"", 202, vec![]),
            ask("end-9 tag gone", format!("GET {name}/manifests/a"), b"", 404, vec![]),
            ask("end-9 others stay", format!("GET {name}/manifests/b"), b"", 200, vec![]),
            ask("end-9", delete(&format!("manifests/{named}")), b"", 202, vec![]),
            ask(
                "end-9 gone",
                format!("GET {name}/manifests/{named}"),
                b"",
                404,
                vec![Code("MANIFEST_UNKNOWN")],
            ),
            ask(
                "end-9 its tags too",
                format!("GET {name}/tags/list"),
                b"",
                200,
                vec![Json("/tags", json!([]))],
            ),
            ask("end-9 again", delete(&format!("manifests/{named}")), b"", 404, vec![]),
            ask("end-12a after", referrers.clone(), b"", 200, vec![Have("content-type", INDEX)]),
            ask(
                "end-9 referrer",
                delete(&format!("manifests/{}", Digest::of(&lap))),
                b"",
                202,
                vec![],
            ),
            ask(
                "end-12a one less",
                referrers,
                b"",
                200,
                vec![Json("/manifests/0/digest", json!(Digest::of(&scan)))],
            ),
            ask("end-10 in use", delete(&format!("blobs/{layer}")), b"", 403, vec![Code("DENIED")]),
            ask(
                "end-9 last",
                delete(&format!("manifests/{}", Digest::of(&scan))),
                b"",
                202,
                vec![],
            ),
            ask("end-10", delete(&format!("blobs/{layer}")), b"", 202, vec![]),
            ask("end-10 gone", format!("HEAD {name}/blobs/{layer}"), b"", 404, vec![]),
            ask(
                "end-10 again",
                delete(&format!("blobs/{layer}")),
                b"",
                404,
                vec![Code("BLOB_UNKNOWN")],
            ),
        ],
    )
    .await;
    server.stop().await;
}
