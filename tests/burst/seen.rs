//! What is there in the end, looked at from outside: the API, the registry's own lists, the git
//! log, GitHub's releases, and the verifier's word.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    services::{SOURCE, Services},
    verdict::{Promotion, Seen, SeenRun},
};
use crate::common::{http, json as parse, lane::Lane};

const KIND: &str = "dev.sigstore.bundle.predicateType";
const RELEASE: &str = "https://pitlane.dev/release/v1";
/// Far above what a burst leaves.
const MOST_TAGS: usize = 9999;

/// Looks at everything.
pub(super) fn look(services: &Services) -> Seen {
    let lane = &services.lane;
    let runs = services.runs().iter().map(|run| seen_run(services, run)).collect();
    let path = format!("/v2/team/donkeycar/tags/list?n={MOST_TAGS}");
    let listed = http::get(&lane.registry, &path).expect("an answer").json();
    let tags = listed["tags"].as_array().into_iter().flatten();
    let tags = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
    let gitops = lane.bare("gitops");
    let file = lane.git(&gitops, &["show", "main:car/kustomization.yaml"]);
    let wanted = file.lines().find_map(|line| line.trim().strip_prefix("digest: "));
    let wanted = wanted.and_then(|rest| rest.split_whitespace().next());
    let commits = lane.git(&gitops, &["rev-list", "--count", "main"]).parse::<usize>().unwrap();
    let wanted = wanted.unwrap_or("").to_owned();
    let notes = services.lab.releases(SOURCE);
    let notes = notes.iter().map(|one| one["tag_name"].as_str().unwrap().to_owned()).collect();
    Seen { runs, tags, promotions: promotions(lane), commits: commits - 1, wanted, notes }
}

fn seen_run(services: &Services, run: &Value) -> SeenRun {
    let lane = &services.lane;
    let text = |name: &str| run[name].as_str().unwrap().to_owned();
    let steps = services.ask(&format!("/runs/{}/steps", text("id")));
    let steps = steps["steps"].as_array().unwrap();
    let interrupted = steps.iter().filter(|step| step["outcome"] == "interrupted");
    let mut seen = SeenRun {
        id: text("id"),
        tag: text("tag"),
        state: text("state"),
        counter: run["counter"].as_u64().unwrap(),
        interrupted: interrupted.map(|step| step["step"].as_str().unwrap().to_owned()).collect(),
        index: String::new(),
        platforms: Vec::new(),
        statements: Vec::new(),
        documents: BTreeMap::new(),
        admitted: Err("it is not in the registry".to_owned()),
    };
    let check = steps.iter().rfind(|step| step["step"] == "check");
    let Some(image) = check.and_then(|step| step["output"]["image"].as_str()) else { return seen };
    image.split('@').nth(1).unwrap().clone_into(&mut seen.index);
    let index = lane.manifest(&seen.index);
    let platforms = index["manifests"].as_array().unwrap().iter();
    seen.platforms = platforms.map(|one| one["digest"].as_str().unwrap().to_owned()).collect();
    for referrer in referrers(lane, &seen.index) {
        let kind = referrer["annotations"][KIND].as_str().unwrap_or("?");
        count(&mut seen.documents, format!("index {kind}"));
        if kind == RELEASE {
            seen.statements.push(statement(lane, referrer["digest"].as_str().unwrap()));
        }
    }
    for platform in &seen.platforms {
        for referrer in referrers(lane, platform) {
            let kind = referrer["annotations"][KIND].as_str().unwrap_or("?");
            count(&mut seen.documents, format!("platform {kind}"));
        }
    }
    let checked = lane.check(&format!("{}:{}", lane.images(), seen.tag), &["--layers"]);
    seen.admitted = match checked.code {
        Some(0) => Ok(parse(checked.stdout)["counter"].as_u64().unwrap()),
        _ => Err(checked.stderr + &checked.stdout),
    };
    seen
}

fn count(documents: &mut BTreeMap<String, usize>, what: String) {
    *documents.entry(what).or_default() += 1;
}

fn referrers(lane: &Lane, digest: &str) -> Vec<Value> {
    let path = format!("/v2/team/donkeycar/referrers/{digest}");
    let found = http::get(&lane.registry, &path).expect("an answer").json();
    found["manifests"].as_array().unwrap().clone()
}

/// Tag and counter that a statement speaks of.
fn statement(lane: &Lane, manifest: &str) -> (String, u64) {
    let manifest = lane.manifest(manifest);
    let bundle = parse(lane.blob(manifest["layers"][0]["digest"].as_str().unwrap()));
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    let said = parse(STANDARD.decode(payload).unwrap());
    let release = &said["predicate"];
    let tag = release["source"]["tag"].as_str().unwrap_or("?");
    (tag.to_owned(), release["counter"].as_u64().unwrap_or(0))
}

/// The promotions of the branch, oldest first, by the trailers of its commits.
fn promotions(lane: &Lane) -> Vec<Promotion> {
    let trailer = |name: &str| format!("%(trailers:key=Pitlane-{name},valueonly,separator=%x2C)");
    let format =
        format!("%x09{}%x09{}%x09{}", trailer("Counter"), trailer("Image"), trailer("Run"));
    let format = format!("--format={format}");
    let log = lane.git(&lane.bare("gitops"), &["log", "--reverse", &format, "main"]);
    let row = |line: &str| {
        let [counter, image, run] = line.trim_start().split('\t').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Promotion {
            counter: counter.parse().ok()?,
            index: image.split('@').nth(1)?.to_owned(),
            run: run.to_owned(),
        })
    };
    log.lines().filter_map(row).collect()
}
