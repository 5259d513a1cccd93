//! Gates: programs that look at the commit before anything is built. A no stops the run with
//! nothing pushed; what a yes was made of is attested.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::common::{
    http,
    lane::{Lane, lapless, quick},
    run,
    store::PlainImage,
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

/// Files of this machine with the libraries that they are linked to, and more files, as a layer.
fn layer(programs: &[&str], more: &[(&str, &str)]) -> Vec<u8> {
    let zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(zipped);
    for program in programs {
        let linked = run(Command::new("ldd").arg(program)).ok();
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        for path in std::iter::once(*program).chain(libraries) {
            archive.append_path_with_name(fs::canonicalize(path).unwrap(), &path[1..]).unwrap();
        }
    }
    for (path, text) in more {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// The image holds program and report; the file beside it is proof that the commit is shown, too.
#[test]
fn a_gate_of_an_image_is_those_bytes_or_no_answer() {
    let clean = sarif(Some("note"));
    let image = PlainImage::new(&[
        layer(&["/bin/cp"], &[("reports/lint.sarif", &sarif(Some("error")))]),
        layer(&[], &[("reports/lint.sarif", &clean)]),
    ]);
    let mut lane = Lane::new(quick, lapless);
    let gates = format!(
        "  gates:
    - name: lint
      image:
        image: {}@{}
        argv: [/bin/cp, /reports/lint.sarif, '{{src}}/models/pilot.yaml', '{{work}}']
        report: {{format: sarif, path: lint.sarif}}
",
        lane.images(),
        image.digest()
    );
    lane.pipeline_file("donkeycar", |text| {
        swap(&quick(text), "  registry:\n", &format!("{gates}  registry:\n"))
    });
    lane.start();
    let broken = |tag| {
        lane.push_tag(tag);
        let run = lane.wait(tag, "failed");
        assert_eq!(run["error"]["code"], "gate-broken", "{run:#}");
        run["error"]["message"].as_str().unwrap().to_owned()
    };
    let said = broken("v1");
    assert!(said.contains(&image.digest()[7..]), "it is not in the registry: {said}");
    lane.put_image(&image);
    let said = lane.altered(&image.layer(1), |bytes| bytes[20] ^= 1, || broken("v2"));
    assert!(said.contains(&image.layer(1)), "{said}");
    let kept = lane.path("state/cache/gates").join(&image.digest()[7..]);
    assert!(!kept.exists(), "nothing of it is kept");
    lane.release("v3");
    assert_eq!(fs::read_to_string(kept.join("reports/lint.sarif")).unwrap(), clean);
}
