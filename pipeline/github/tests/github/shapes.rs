//! The lab's payloads have the fields and types of GitHub's own examples.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use pitlane_github_lab::{Form, Signature};
use serde_json::{Value, json};

use crate::common::Setup;

fn samples() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
    let folder = folder.join("conformance/github-webhooks");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "CI=true, but {} is missing: set PITLANE_SHARED",
        folder.display()
    );
    eprintln!("SKIP: {} is missing (set PITLANE_SHARED)", folder.display());
    None
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// What of `ours` has another type than in `theirs`, or is not there.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, value) in ours {
                let path = format!("{path}.{name}");
                match theirs.get(name) {
                    Some(theirs) => differences(&path, value, theirs, found),
                    None => found.push(format!("{path} is not in GitHub's")),
                }
            }
        }
        // What can be empty is null in one example and not in another.
        (Value::Null, _) | (_, Value::Null) => {}
        _ if kind(ours) != kind(theirs) => {
            found.push(format!("{path}: {} here, {} there", kind(ours), kind(theirs)));
        }
        _ => {}
    }
}

/// Fields that came after the examples were made.
fn is_newer(difference: &str) -> bool {
    [".throttled_at", ".deliveries_url"].iter().any(|field| difference.contains(field))
}

/// The fields that are read, of each kind of event.
fn read(event: &str) -> &'static [&'static str] {
    match event {
        "push" => &[
            "/ref",
            "/before",
            "/after",
            "/deleted",
            "/forced",
            "/created",
            "/repository/full_name",
        ],
        "create" | "delete" => &["/ref", "/ref_type", "/repository/full_name"],
        "release" => &["/action", "/release/tag_name", "/repository/full_name"],
        _ => &["/zen", "/hook_id", "/hook/type", "/hook/config/content_type"],
    }
}

fn events(setup: &Setup) -> Vec<(String, Value)> {
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    lab.hook("octo/car", "http://127.0.0.1:1/", "s", Form::Json).unwrap();
    lab.push_tags("octo/car", &[("v2", Some(commit))]).unwrap();
    lab.push_tags("octo/car", &[("v2", None)]).unwrap();
    lab.lined_up()
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_shaped_as_githubs() {
    let Some(folder) = samples() else { return };
    let setup = Setup::new();
    let mut events = events(&setup);
    setup.lab.forget_lined_up();
    let notes = crate::reports::notes();
    setup.client().report_release(&crate::reports::run(&setup), &notes).await.unwrap();
    events.extend(setup.lab.lined_up());
    let names: Vec<&str> = events.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(names, ["ping", "push", "create", "push", "delete", "release"]);
    let files = [
        "ping.00.json",
        "push.00.tag.created.json",
        "create.00.tag.json",
        "push--1.payload.json",
        "delete.00.tag.json",
        "release.00.published.json",
    ];
    for ((event, ours), file) in events.iter().zip(files) {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let mut found = Vec::new();
        differences(event, ours, &theirs, &mut found);
        found.retain(|difference| !is_newer(difference));
        assert!(found.is_empty(), "{file}: {found:#?}");
        for field in read(event) {
            let (ours, theirs) = (ours.pointer(field), theirs.pointer(field));
            let kinds = (ours.map(kind), theirs.map(kind));
            assert!(kinds.0.is_some() && kinds.0 == kinds.1, "{file} {field}: {kinds:?}");
        }
    }
    // The comparison finds what differs.
    let mut found = Vec::new();
    differences("x", &json!({"a": 1, "b": {"c": []}}), &json!({"a": "1", "b": {}}), &mut found);
    assert_eq!(found, ["x.a: number here, text there", "x.b.c is not in GitHub's"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_say_what_the_examples_do_not_show() {
    let setup = Setup::new();
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    lab.hook("octo/car", "http://127.0.0.1:1/", "s", Form::Json).unwrap();
    let object = lab.tag_object("octo/car", "v2", commit, Signature::None).unwrap();
    let second = lab.commit("octo/car", &[("a", b"b")], "another").unwrap();
    lab.forget_lined_up();
    lab.push_tags("octo/car", &[("v2", Some(&object))]).unwrap();
    lab.push_tags("octo/car", &[("v2", Some(&second))]).unwrap();
    lab.push_tags("octo/car", &[("v2", None)]).unwrap();
    let zero = "0".repeat(40);
    let pushes: Vec<Value> = lab
        .lined_up()
        .into_iter()
        .filter(|(event, _)| event == "push")
        .map(|(_, body)| {
            let fields = ["before", "after", "created", "forced", "deleted"];
            let mut shown: Vec<Value> = fields.iter().map(|name| body[*name].clone()).collect();
            shown.push(body.pointer("/head_commit/id").cloned().unwrap_or(Value::Null));
            json!(shown)
        })
        .collect();
    assert_eq!(
        pushes,
        [
            // Annotated: the tag object, and the commit it leads to.
            json!([zero, object, true, false, false, commit]),
            json!([object, second, false, true, false, second]),
            json!([second, zero, false, false, true, null]),
        ]
    );
}
