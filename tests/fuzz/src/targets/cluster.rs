//! The cluster's webhook: reviews, the Pods in them, and the images that those name.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::Digest;
use pitlane_verifier::webhook::{
    decide,
    image::KubeImage,
    pods::{Found, Images, MAX_IMAGES, PodKind},
    review::{Outcome, Replace, Request},
};
use serde_json::Value;

use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "admission-review",
    run: review,
    more: &["shared:conformance/admission/*.json"],
    words: &[
        "\"kind\":\"AdmissionReview\"",
        "\"apiVersion\":\"admission.k8s.io/v1\"",
        "\"operation\":\"UPDATE\"",
        "\"kind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"}",
        "\"kind\":{\"group\":\"batch\",\"version\":\"v1\",\"kind\":\"CronJob\"}",
        "\"containers\":[{\"name\":\"a\",\"image\":\"b\"}]",
        "\"initContainers\":[]",
        "\"ephemeralContainers\":null",
        "\"volumes\":[{\"name\":\"v\",\"image\":{\"reference\":\"r.example/m\"}}]",
        "\"image\":\"docker.io/nginx\"",
        "\"image\":\"index.docker.io/a\"",
        "\"image\":\"localhost:5000/a/b:c\"",
        "@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "\"oldObject\":",
        "\"ownerReferences\":[{\"controller\":true}]",
    ],
    max: 20_000,
}];

/// What every image is pinned to here.
const PIN: Digest = Digest::from_bytes([7; 32]);

fn review(input: &[u8]) -> Reached {
    let request = match Request::parse(input) {
        Ok(request) => request,
        Err(error) => return Reached::refused(error),
    };
    let images = match decide::images(&request, input) {
        Err(error) => return Reached::refused(error),
        Ok(Err(denial)) => {
            let reached = Reached::refused(&denial.message);
            let outcome = Outcome { denial: Some(denial), ..Outcome::default() };
            answered(&request, outcome);
            return reached;
        }
        Ok(Ok(None)) => {
            answered(&request, Outcome::default());
            return Reached::accepted("not looked at");
        }
        Ok(Ok(Some(images))) => images,
    };
    assert!(images.found.len() <= MAX_IMAGES);
    let kind = PodKind::of(&request.kind).expect("what has images is a kind that is known");
    // Numbers that no value can hold are skipped by the webhook and not read here.
    let whole = serde_json::from_slice::<Value>(input).ok();
    if let Some(object) = whole.as_ref().and_then(|whole| whole.pointer("/request/object")) {
        all_are_found(object, kind.spec, &images);
    }
    let mut reached = Reached::accepted(format!("{} {}", kind.kind, images.is_copy));
    let mut patch = Vec::new();
    for found in &images.found {
        let parsed = KubeImage::parse(&found.place.image);
        if let Ok(image) = &parsed {
            assert_eq!(&KubeImage::parse(&image.pulled(true)).unwrap(), image, "another image");
            let pinned = image.at(PIN);
            for keep_tag in [false, true] {
                let again = KubeImage::parse(&pinned.pulled(keep_tag)).unwrap();
                assert_eq!(again.digest(), Some(&PIN));
                assert_eq!(again.name().repository, image.name().repository);
            }
            patch.push((found.pointer.clone(), pinned.pulled(true)));
        }
        reached = reached.and(match parsed {
            Ok(image) if image.digest().is_some() => Reached::accepted("pinned"),
            Ok(_) => Reached::accepted("tagged"),
            Err(error) => Reached::refused(error),
        });
    }
    let all_parse = patch.len() == images.found.len();
    let changes = patch.iter().map(|(path, value)| Replace::new(path.clone(), value.clone()));
    let outcome = Outcome {
        denial: None,
        warnings: images.found.iter().map(Found::shown).collect(),
        patch: changes.collect(),
    };
    answered(&request, outcome);
    if let Some(whole) = whole.filter(|_| all_parse) {
        patched(&request, whole, &patch);
    }
    reached
}

/// Every image that is written in the object's lists is among those that are judged.
fn all_are_found(object: &Value, spec: &str, images: &Images) {
    let known: BTreeSet<(&str, &str)> = images
        .found
        .iter()
        .map(|found| (found.pointer.as_str(), found.place.image.as_str()))
        .collect();
    for (list, field) in [
        ("initContainers", "image"),
        ("containers", "image"),
        ("ephemeralContainers", "image"),
        ("volumes", "image/reference"),
    ] {
        let written = object.pointer(&format!("{spec}/{list}")).and_then(Value::as_array);
        for number in 0..written.map_or(0, Vec::len) {
            let pointer = format!("{spec}/{list}/{number}/{field}");
            if let Some(image) = object.pointer(&pointer).and_then(Value::as_str) {
                assert!(known.contains(&(&*pointer, image)), "{pointer}: {image} is not judged");
            }
        }
    }
}

/// The answer repeats the question's id, says one thing, and is short.
fn answered(request: &Request, outcome: Outcome) {
    let allowed = outcome.denial.is_none();
    let patched = !outcome.patch.is_empty();
    let answer = serde_json::to_value(request.answer(outcome)).unwrap();
    let response = &answer["response"];
    assert_eq!(response["uid"], request.uid.as_str());
    assert_eq!(response["allowed"], allowed);
    assert_eq!(response["status"].is_object(), !allowed);
    assert_eq!(response["patch"].is_string(), patched && allowed);
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    assert!(text(&response["status"]["message"]) <= 4096);
    let warnings = response["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(warnings.len() <= 16 && warnings.iter().all(|warning| text(warning) <= 250));
    if let Some(patch) = response["patch"].as_str() {
        serde_json::from_slice::<Value>(&STANDARD.decode(patch).unwrap()).unwrap();
    }
}

/// After the patch is applied, the same images stand in the same places, pinned.
fn patched(request: &Request, mut whole: Value, patch: &[(String, String)]) {
    for (path, value) in patch {
        match whole.pointer_mut(&format!("/request/object{path}")) {
            Some(place) => *place = value.as_str().into(),
            // Lists in place of objects are read, and have no names that could be pointed at.
            None => return,
        }
    }
    let body = serde_json::to_vec(&whole).unwrap();
    let images = decide::images(request, &body).unwrap().unwrap().expect("it had images before");
    let now: Vec<_> =
        images.found.into_iter().map(|found| (found.pointer, found.place.image)).collect();
    assert_eq!(now, patch, "the patch leaves other images than it says");
}
