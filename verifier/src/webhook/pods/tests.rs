//! Every kind and place, and what is no object.

use super::*;
use serde_json::{Value, json};

fn body(object: &Value, old: &Value) -> Vec<u8> {
    let kind = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let request = json!({ "uid": "u", "kind": kind, "operation": "UPDATE",
        "object": object, "oldObject": old });
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": request });
    serde_json::to_vec(&review).unwrap()
}

fn pod() -> Value {
    json!({
        "initContainers": [{ "name": "init", "image": "a" }, { "name": "side", "image": "b" }],
        "containers": [{ "name": "car", "image": "c", "env": [{ "name": "image" }] }],
        "ephemeralContainers": [{ "name": "debug", "image": "d" }],
        "volumes": [{ "name": "empty", "emptyDir": {} },
                    { "name": "model", "image": { "reference": "e", "pullPolicy": "Always" } }],
    })
}

/// The object of a kind around a Pod, by the kind's own pointer.
fn wrap(kind: &PodKind, pod: Value) -> Value {
    kind.spec.split('/').rev().filter(|part| !part.is_empty()).fold(pod, |inner, part| {
        let mut outer = json!({});
        outer[part] = inner;
        outer
    })
}

#[test]
fn every_kind_shows_all_its_images() {
    for kind in &KINDS {
        let object = wrap(kind, pod());
        let images = images(kind, &body(&object, &Value::Null)).unwrap();
        let seen: Vec<&str> = images.found.iter().map(|f| f.place.image.as_str()).collect();
        assert_eq!(seen, ["a", "b", "c", "d", "e"], "{}", kind.kind);
        for found in &images.found {
            assert_eq!(object.pointer(&found.pointer).unwrap(), &*found.place.image);
            assert!(!found.unchanged, "{}", kind.kind);
        }
        for group in kind.groups {
            let asked = GroupVersionKind {
                group: (*group).into(),
                version: "v1".into(),
                kind: kind.kind.into(),
            };
            assert_eq!(PodKind::of(&asked), Some(kind));
        }
    }
    let role = GroupVersionKind {
        group: "rbac.authorization.k8s.io".into(),
        version: "v1".into(),
        kind: "Role".into(),
    };
    assert_eq!(PodKind::of(&role), None);
    let other = GroupVersionKind { group: "example.org".into(), kind: "Pod".into(), ..role };
    assert_eq!(PodKind::of(&other), None, "another group's Pod is no Pod");
}

#[test]
fn unchanged_means_the_same_image_in_the_same_place() {
    let kind = &KINDS[0];
    let old = json!({ "spec": pod() });
    let mut new = json!({ "spec": pod() });
    new["spec"]["containers"][0]["image"] = "a".into();
    new["spec"]["initContainers"][1]["name"] = "renamed".into();
    let images = images(kind, &body(&new, &old)).unwrap();
    let kept: Vec<bool> = images.found.iter().map(|found| found.unchanged).collect();
    assert_eq!(kept, [true, false, false, true, true]);
    // What was there before is no excuse when it cannot be read.
    for old in [json!(""), json!({ "spec": { "containers": 7 } }), json!([])] {
        let images = super::images(kind, &body(&json!({ "spec": pod() }), &old)).unwrap();
        assert!(images.found.iter().all(|found| !found.unchanged), "{old}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_no_object() {
    let many = json!({ "containers": vec![json!({ "name": "x", "image": "a" }); 200] });
    for kind in &KINDS {
        for (pod, want) in [
            (json!({}), "containers"),
            (json!({ "containers": [] }), "containers"),
            (json!({ "containers": null }), "containers"),
            (Value::Null, "has no"),
            (many.clone(), "at most 128"),
            (json!({ "containers": "x" }), "invalid type"),
            (json!({ "containers": [{ "name": "x", "image": 7 }] }), "invalid type"),
            (json!({ "containers": [{ "name": "x", "image": ["a"] }] }), "invalid type"),
        ] {
            let error = images(kind, &body(&wrap(kind, pod), &Value::Null)).unwrap_err();
            assert!(error.to_string().contains(want), "{}: {error}", kind.kind);
        }
        assert!(images(kind, &body(&Value::Null, &Value::Null)).is_err());
    }
    // A name that is there twice could be read in two ways.
    let text = String::from_utf8(body(&json!({ "spec": pod() }), &Value::Null)).unwrap();
    let twice = text.replacen("\"image\":\"c\"", "\"image\":\"c\",\"image\":\"x\"", 1);
    assert!(matches!(images(&KINDS[0], twice.as_bytes()), Err(PodError::Review(_))));
    let none = json!({ "spec": { "containers": [{ "name": "x" }] } });
    assert_eq!(images(&KINDS[0], &body(&none, &none)).unwrap().found[0].place.image, "");
}

#[test]
fn no_list_is_built_beyond_its_bound() {
    type Listed = List<Container, MAX_IMAGES>;
    for (count, kept, whole) in [(0, 0, true), (128, 128, true), (129, 128, false)] {
        let list: Listed = serde_json::from_value(json!(vec![json!({}); count])).unwrap();
        assert_eq!((list.kept.len(), list.counted("x").is_ok()), (kept, whole), "{count}");
    }
    // As many as a review has room for.
    let million = format!("[{}{{}}]", "{},".repeat(2_300_000));
    let list: Listed = serde_json::from_str(&million).unwrap();
    assert!(list.kept.len() == MAX_IMAGES && list.kept.capacity() < 2 * MAX_IMAGES);
    let error = list.counted("/spec/containers").unwrap_err().to_string();
    assert!(error.contains("/spec/containers has 2300001 items, at most 128"), "{error}");

    let many = |item: Value| json!(vec![item; 2000]);
    for (list, field) in [
        ("containers", "image"),
        ("initContainers", "image"),
        ("ephemeralContainers", "image"),
        ("volumes", "emptyDir"),
    ] {
        let mut object = json!({ "spec": pod() });
        object["spec"][list] = many(json!({ "name": "x", field: null }));
        let error = images(&KINDS[0], &body(&object, &Value::Null)).unwrap_err();
        assert!(matches!(&error, PodError::Object(why) if why.contains(list)), "{error}");
        // In what was there before, the rest counts as not there.
        let new = json!({ "spec": { "containers": [{ "name": "x", "image": "a" }] } });
        assert!(!images(&KINDS[0], &body(&new, &object)).unwrap().found[0].unchanged);
    }
    let mut owned = json!({ "spec": pod() });
    owned["metadata"]["ownerReferences"] = many(json!({ "controller": true }));
    let error = images(&KINDS[0], &body(&owned, &Value::Null)).unwrap_err();
    assert!(matches!(&error, PodError::Object(why) if why.contains("ownerReferences")), "{error}");
}

#[test]
fn a_long_text_equals_only_itself_and_is_no_image() {
    let of = |image: &str| json!({ "spec": { "containers": [{ "name": "x", "image": image }] } });
    let long = format!("r.example/{}", "a".repeat(3_000_000));
    for (new, old, unchanged) in [
        (of(&long), of(&long), true),
        (of(&long), of(&format!("{long}b")), false),
        (of(&long[..bounded::MAX_TEXT]), of(&long), false),
    ] {
        let images = images(&KINDS[0], &body(&new, &old)).unwrap();
        let Found { place, unchanged: found, .. } = &images.found[0];
        assert!(place.image.len() <= bounded::MAX_TEXT && *found == unchanged);
        assert!(super::super::image::KubeImage::parse(&place.image).is_err());
    }
}

#[test]
fn only_templates_that_are_compared_are_copies() {
    for kind in &KINDS {
        for (controller, copy) in [(json!(true), true), (json!(false), false)] {
            let mut object = wrap(kind, pod());
            object["metadata"]["ownerReferences"] = json!([{ "controller": controller }]);
            let compared = ["ReplicaSet", "ReplicationController"].contains(&kind.kind);
            let images = images(kind, &body(&object, &Value::Null)).unwrap();
            assert_eq!(images.is_copy, copy && compared, "{}", kind.kind);
        }
    }
}
