//! Whatever GitHub, or who answers in its place, says: an error or an answer, never a panic.

use std::collections::BTreeMap;

use pitlane_github::{Client, DeploymentState, Hook, TagWatch};
use pitlane_github_lab::{Fault, Rule};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::{
    common::{Setup, tag},
    reports::{deployment, done, notes, pending, remarks, run},
};

/// Any JSON, and now and then none.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[0-9a-f]{40}".prop_map(Value::from),
        Just(json!("2026-11-26T22:00:00Z")),
    ];
    let name = prop_oneof![Just("id".to_owned()), Just("object".to_owned()), "[a-z_]{1,8}"];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(name.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Answers as they should be; one field of one of them is made into something else.
fn answers() -> Vec<Value> {
    let id = "a".repeat(40);
    let check = json!({ "id": 1, "external_id": "x", "status": "completed", "conclusion": "success",
                        "output": { "title": "t", "summary": "s", "text": null } });
    vec![
        json!({ "ref": "refs/tags/v1.0.0", "object": { "sha": id, "type": "tag" } }),
        json!([{ "ref": "refs/tags/v1.0.0", "object": { "sha": id, "type": "commit" } }]),
        json!({ "sha": id, "tag": "v1", "object": { "sha": id, "type": "commit" },
                "verification": { "verified": true, "reason": "valid", "signature": "s", "payload": "p" } }),
        json!({ "id": 7, "token": "ghs_x", "expires_at": "2026-11-26T23:00:00Z" }),
        json!([{ "id": 1, "guid": "g", "delivered_at": "2026-11-26T22:00:00Z", "redelivery": false,
                 "status": "OK", "status_code": 200, "event": "push", "repository_id": 1,
                 "config": { "url": "http://h" } }]),
        json!({ "id": 1, "guid": "g", "delivered_at": "2026-11-26T22:00:00Z", "event": "push",
                "request": { "payload": { "ref": "x" } } }),
        json!({ "total_count": 1, "check_runs": [check] }),
        json!([{ "path": "p", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m" }]),
        json!([{ "id": 1, "state": "success", "context": "c", "description": "d",
                 "payload": { "pitlane": { "run": "r7-5f3a9c01" } } }]),
        json!({ "id": 1, "tag_name": "v1.0.0", "body": "text", "draft": false }),
    ]
}

fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| places(inner, &format!("{path}/{name}"), found));
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(n, inner)| places(inner, &format!("{path}/{n}"), found));
        }
        _ => {}
    }
}

fn nonsense() -> impl Strategy<Value = String> {
    let changed = (proptest::sample::select(answers()), any::<prop::sample::Index>(), anything());
    let changed = changed.prop_map(|(mut answer, place, other)| {
        let mut found = Vec::new();
        places(&answer, "", &mut found);
        if let Some(field) = answer.pointer_mut(&found[place.index(found.len())]) {
            *field = other;
        }
        answer.to_string()
    });
    let raw = prop_oneof![".{0,40}", Just("[".repeat(10_000)), Just("{\"id\":1e999}".to_owned())];
    prop_oneof![6 => changed, 3 => anything().prop_map(|json| json.to_string()), 1 => raw]
}

async fn everything(setup: &Setup, client: &Client) -> usize {
    let run = run(setup);
    let hook = Hook::Repository { repository: setup.repo.clone(), id: 1 };
    let long_ago = jiff::Timestamp::UNIX_EPOCH;
    let step = pitlane_github::Step {
        annotations: remarks(2),
        ..done("prove", pitlane_github::Conclusion::Success)
    };
    let (mut watch, known) = (TagWatch::default(), BTreeMap::new());
    let good = [
        client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.is_ok(),
        client.look(&setup.repo, "v", &|_| true, &known, &mut watch).await.is_ok(),
        client.find_hook(&setup.repo, "http://h").await.is_ok(),
        client.deliveries(&hook, long_ago).await.is_ok(),
        client.delivery(&hook, 1).await.is_ok(),
        client.redeliver(&Hook::App, 1).await.is_ok(),
        client.report_step(&run, &step).await.is_ok(),
        client.report_run(&run, &pending("x")).await.is_ok(),
        client.report_deployment(&run, &deployment("cars", DeploymentState::Success)).await.is_ok(),
        client.report_release(&run, &notes()).await.is_ok(),
        client.git_env(&setup.repo, &setup.lab.clone_url("octo/car")).await.is_ok(),
    ];
    good.into_iter().filter(|good| *good).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_makes_it_panic() {
    let setup = Setup::new();
    let mut settings = setup.settings(setup.app_credentials());
    settings.times.attempts = 1;
    settings.times.backoff = std::time::Duration::ZERO;
    let mut runner = TestRunner::deterministic();
    let strategy = nonsense();
    let (mut answered, mut cases) = (0, 0);
    for round in 0..150 {
        let says = strategy.new_tree(&mut runner).unwrap().current();
        setup.lab.clear_rules();
        if round % 2 == 0 {
            // Tokens are as they should be, so that the rest is reached.
            let good = r#"{"id":7,"token":"ghs_x","expires_at":"2126-11-26T23:00:00Z"}"#;
            setup.lab.rule(Rule::always("", "/access_tokens", Fault::Says(good.to_owned())));
            setup.lab.rule(Rule::always("", "/installation", Fault::Says(good.to_owned())));
        }
        setup.lab.rule(Rule::always("", "/", Fault::Says(says)));
        answered += everything(&setup, &Client::new(settings.clone()).unwrap()).await;
        cases += 11;
    }
    // Neither everything nor nothing is taken.
    assert!(answered > cases / 50 && answered < cases / 2, "{answered} of {cases}");
}
