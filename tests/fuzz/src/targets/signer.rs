//! What a signer process is asked to sign: requests, statements, cosign's documents.

use std::sync::LazyLock;

use pitlane_pipeline::sign::apart::{
    Allowed,
    judge::KNOWN,
    wire::{Ask, Request},
};
use pitlane_release::{bundle, simple::SimpleSigning};
use serde_json::Value;

use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "signer-request",
    run: request,
    more: &[],
    words: &[
        "\"_type\":\"https://in-toto.io/Statement/v1\"",
        "\"predicateType\":\"https://sigstore.dev/cosign/sign/v1\"",
        "\"predicateType\":\"https://cyclonedx.org/bom\"",
        "\"predicateType\":\"https://pitlane.dev/lap/v1\"",
        "\"predicate\":{}",
        "\"subject\":[]",
        "\"digest\":{\"sha256\":\"00\"}",
        "{\"ask\":\"statement\",\"payload\":\"e30=\"}",
        "{\"ask\":\"publicKey\"}",
        "\"optional\":null",
        "DSSEv1 28 application/vnd.in-toto+json 2 ",
    ],
    max: 20_000,
}];

/// The input is a request, and what a request would carry.
fn request(input: &[u8]) -> Reached {
    static ALL: LazyLock<Allowed> = LazyLock::new(Allowed::default);
    let line = Request::parse(input).and_then(|request| request.bytes().map(drop));
    let statement = ALL.judge(Ask::Statement, input);
    let simple = ALL.judge(Ask::SimpleSigning, input);
    assert!(statement.is_err() || simple.is_err(), "one document, two meanings");
    if let Ok(judged) = &statement {
        // What is signed is the envelope's encoding of these bytes, which others read the same.
        let sealed = bundle::seal(input, "hint", |pae| {
            assert_eq!(pae, judged.message);
            Ok::<_, ()>(vec![0; 70])
        });
        let parsed = bundle::Bundle::parse(&sealed.unwrap()).unwrap();
        assert_eq!(parsed.untrusted_payload(), input);
        let read: Value = serde_json::from_slice(input).unwrap();
        assert_eq!(read["predicateType"], judged.predicate);
        assert!(KNOWN.contains(&judged.predicate) && read["predicate"].is_object());
        let digests = read["subject"].as_array().unwrap().iter();
        let digests: usize = digests.map(|one| one["digest"].as_object().unwrap().len()).sum();
        assert_eq!((digests, judged.subjects.is_empty()), (judged.subjects.len(), false));
    }
    if let Ok(judged) = &simple {
        assert_eq!(judged.message, input);
        let read = SimpleSigning::parse(input).unwrap();
        assert_eq!(judged.subjects, [read.critical.image.docker_manifest_digest.to_string()]);
    }
    for refusal in [statement.as_ref().err(), simple.as_ref().err()].into_iter().flatten() {
        assert!(refusal.message.chars().count() <= 400 && !refusal.message.contains('\n'));
    }
    let judged = statement.map_or_else(
        |refusal| Reached::refused(refusal.to_string()),
        |judged| Reached::accepted(judged.predicate),
    );
    let simple = simple.map_or_else(
        |refusal| Reached::refused(refusal.to_string()),
        |_| Reached::accepted("simple"),
    );
    Reached::of(&line).and(judged).and(simple)
}
