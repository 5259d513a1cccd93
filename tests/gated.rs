//! Gates: programs that look at the commit before anything is built. A no stops the run with
//! nothing pushed; what a yes was made of is attested.

use std::fs;

use serde_json::{Value, json};

use crate::common::{
    http,
    lane::{Lane, lapless, quick},
    swap,
};

/// A lane with these gates (lines of YAML).
fn gated(gates: &str) -> Lane {
    let pipeline = |text: &str| {
        swap(&quick(text), "  registry:\n", &format!("  gates:\n{gates}  registry:\n"))
    };
    let mut lane = Lane::new(pipeline, lapless);
    lane.start();
    lane
}

/// Commits a file of the car repository.
fn commit(lane: &Lane, name: &str, text: &str) {
    let tree = lane.tree("donkeycar");
    let file = tree.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    lane.git(&tree, &["add", "."]);
    lane.git(&tree, &["commit", "--quiet", "-m", name]);
}

fn sarif(level: Option<&str>) -> String {
    let result = level.map(|level| {
        json!({ "ruleId": "steer-1", "level": level, "message": { "text": "turns left only" },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": "drive.py" },
                "region": { "startLine": 7 } } }] })
    });
    let results: Vec<Value> = result.into_iter().collect();
    json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": { "name": "linter",
        "version": "1.2" } }, "results": results }] })
    .to_string()
}

/// A gate that takes a report out of the repository: as a linter would, without being one.
const COPY: &str = "    - name: lint
      command:
        argv: [/bin/cp, '{src}/lint.sarif', '{work}/lint.sarif']
        report: {format: sarif, path: lint.sarif}
";

/// The types of what is attached to a manifest.
fn attached(lane: &Lane, digest: &str) -> Vec<String> {
    let path = format!("/v2/team/donkeycar/referrers/{digest}");
    let answer = http::send("GET", &lane.registry, &path, &[], b"").unwrap().json();
    let all = answer["manifests"].as_array().unwrap();
    let kind = |one: &Value| {
        one["annotations"]["dev.sigstore.bundle.predicateType"].as_str().map(str::to_owned)
    };
    all.iter().filter_map(kind).collect()
}

#[test]
fn a_no_stops_the_run_and_a_yes_is_attested() {
    let lane = gated(&format!("{COPY}    - name: secrets\n      secrets: {{}}\n"));
    commit(&lane, "lint.sarif", &sarif(Some("error")));
    // Made here, so that no scanner finds it in this file.
    let key = format!(
        "-----BEGIN {} KEY-----\n{}\n-----END {0} KEY-----\n",
        "RSA PRIVATE",
        "MIIEow".repeat(40)
    );
    commit(&lane, "keys/id", &key);
    lane.push_tag("v1");
    let run = lane.wait("v1", "failed");
    assert_eq!(
        (&run["failedStep"], &run["error"]["code"]),
        (&json!("gates"), &json!("gate-failed"))
    );
    let said = run["error"]["message"].as_str().unwrap();
    // Both are told, with the place.
    for want in ["gate `lint`", "steer-1", "drive.py:7", "gate `secrets`", "keys/id"] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let tags = http::get(&lane.registry, "/v2/team/donkeycar/tags/list").unwrap();
    assert_eq!(tags.status, 404, "nothing was pushed: {}", String::from_utf8_lossy(&tags.body));
    fs::remove_file(lane.tree("donkeycar").join("keys/id")).unwrap();
    commit(&lane, "lint.sarif", &sarif(Some("note")));
    let image = lane.release("v2");
    let index = image.split('@').nth(1).unwrap();
    let manifests = lane.manifest(index)["manifests"].as_array().unwrap().clone();
    for manifest in &manifests {
        let types = attached(&lane, manifest["digest"].as_str().unwrap());
        let results = types.iter().filter(|kind| kind.contains("test-result")).count();
        // Of the gates; there are no laps here.
        assert_eq!(results, 2, "{types:?}");
        assert!(types.iter().any(|kind| kind.contains("sarif")), "{types:?}");
    }
    lane.check(&image, &[]).ok();
}

#[test]
fn a_gate_without_an_answer_is_no_yes() {
    let lane = gated(COPY);
    // There is no report to take.
    lane.push_tag("v1");
    let run = lane.wait("v1", "failed");
    assert_eq!(run["error"]["code"], "gate-broken", "{run:#}");
    assert_eq!(run["error"]["refused"], false);
    commit(&lane, "lint.sarif", "{}");
    lane.push_tag("v2");
    assert_eq!(lane.wait("v2", "failed")["error"]["code"], "gate-broken");
}

/// What a hostile repository can do to a gate's view: links that lead out, and attributes that
/// hide files or call programs.
#[test]
fn the_repository_has_no_say_in_what_a_gate_sees() {
    let lane = gated("    - name: secrets\n      secrets: {}\n");
    let tree = lane.tree("donkeycar");
    let key = format!(
        "-----BEGIN {} KEY-----\n{}\n-----END {0} KEY-----\n",
        "RSA PRIVATE",
        "MIIEow".repeat(40)
    );
    fs::write(tree.join(".gitattributes"), "hidden export-ignore\n* filter=evil\n").unwrap();
    std::os::unix::fs::symlink("/etc", tree.join("out")).unwrap();
    commit(&lane, "hidden", &key);
    lane.push_tag("v1");
    let run = lane.wait("v1", "failed");
    assert_eq!(run["error"]["code"], "gate-failed", "{run:#}");
    let said = run["error"]["message"].as_str().unwrap();
    assert!(said.contains("hidden") && !said.contains("out/"), "{said}");
}
