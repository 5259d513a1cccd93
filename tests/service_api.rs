//! The API and the webhook against their own `OpenAPI` document, by schemathesis: requests that fit it
//! and requests that do not, to a running service.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::common::{Ran, http, lane::Lane, repository, run, skip};

/// Requests of each kind for each operation: enough to meet every field several times.
const EXAMPLES: &str = "40";
/// Requests are made of this, so that a failure can be repeated.
const SEED: &str = "20261127";

fn schemathesis() -> Option<PathBuf> {
    let program = repository().join("target/peers/venv-service/bin/schemathesis");
    if program.is_file() {
        return Some(program);
    }
    skip("schemathesis is missing: run scripts/peers.sh");
    None
}

/// A run of it over a document.
fn judge(program: &PathBuf, lane: &Lane, document: &Value, url: &str, args: &[&str]) -> Ran {
    let file = lane.path("openapi.json");
    fs::write(&file, document.to_string()).unwrap();
    let token = fs::read_to_string(lane.path("state/api-token")).unwrap();
    let mut command = Command::new(program);
    command.arg("run").arg(&file).args(["--url", url, "--checks", "all", "--mode", "all"]);
    command.args(["--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-examples", EXAMPLES, "--seed", SEED, "--request-timeout", "20"]);
    command.args(["--suppress-health-check", "all", "--no-color"]);
    command.arg("--header").arg(format!("Authorization: Bearer {}", token.trim()));
    command.args(args).current_dir(lane.dir.path());
    run(&mut command)
}

#[test]
fn the_service_does_as_its_document_says() {
    let Some(program) = schemathesis() else { return };
    let lane = Lane::quick();
    // Something to be found.
    lane.release("v1.0.0");
    let host = lane.api_url();
    let document = http::get(&host["http://".len()..], "/openapi.json").unwrap().json();
    assert_eq!(document, pitlane_pipeline::service::openapi());
    // Its requests about a run are about one that is there.
    let run = lane.runs("v1.0.0").unwrap()[0]["id"].clone();
    let mut known = document.clone();
    for (path, methods) in known["paths"].as_object_mut().unwrap() {
        for operation in
            methods.as_object_mut().unwrap().values_mut().filter(|_| path.contains("{id}"))
        {
            operation["parameters"][0]["example"] = run.clone();
        }
    }
    let examples = judge(&program, &lane, &known, &host, &["--include-path-regex", "\\{id\\}"]);
    let said = examples.ok();
    assert!(said.contains("Examples (in") && !said.contains("⏭   Examples"), "{said}");
    let api = judge(&program, &lane, &document, &host, &["--exclude-path", "/webhook"]);
    let said = api.stdout.clone() + &api.stderr;
    api.ok();
    for wanted in ["Fuzzing", "Coverage"] {
        assert!(said.contains(wanted), "{wanted} was not done: {said}");
    }
    let webhook = format!("http://{}", lane.webhook_host());
    let only = ["--include-path", "/webhook"];
    // What it sends is not signed, so that nothing of it is accepted, whatever it says.
    judge(&program, &lane, &document, &webhook, &only).ok();

    // The judge sees a document that is not the service's.
    let mut wrong = document.clone();
    wrong["components"]["schemas"]["Run"]["properties"]["seq"]["type"] = "string".into();
    let mut other = document.clone();
    other["paths"]["/alerts"]["get"]["responses"] = serde_json::json!({
        "204": { "description": "nothing" }
    });
    let mut open = document;
    open["paths"]["/alerts"]["get"]["security"] = serde_json::json!([{ "token": [] }]);
    for (bad, path, check) in [
        (wrong, "/runs", "response_schema_conformance"),
        (other, "/alerts", "status_code_conformance"),
        (open, "/alerts", "ignored_auth"),
    ] {
        let only = ["--include-path", path, "--checks", check];
        judge(&program, &lane, &bad, &host, &only).fails();
    }
    let log = lane.log();
    assert!(!log.contains("panicked") && !log.contains("store failed"), "{log}");
}
