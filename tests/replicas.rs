//! Several services on one `PostgreSQL` server: what one that is killed held goes on at another, which
//! has none of its files. Each tag is released once, signed once, promoted once.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{
    Process, bin, http, is_root, json as parse,
    lane::{Lane, lenient, one_lap},
    postgres::Server,
    skip, swap, until, write_secret,
};

const SECRET: &str = "shared by all replicas of the test";
/// A lease of a dead one has to end first (30 s).
const PATIENCE: u64 = 150;

/// One service.
struct Replica {
    process: Process,
    webhook: String,
    api: String,
}

struct Replicas {
    lane: Lane,
    services: Vec<Replica>,
    _registry: Process,
    _server: Server,
}

impl Replicas {
    /// Three services with folders of their own, a registry apart, and the server.
    fn start() -> Option<Self> {
        let server = match Server::new() {
            Ok(server) => server,
            Err(why) => {
                skip(&why);
                return None;
            }
        };
        let lane = Lane::new(one_lap, lenient);
        let token = lane.path("push-token");
        write_secret(&token, "a-token-of-the-tests-own-registry");
        let images = format!("repository: {}\n", lane.images());
        let pipeline = lane.pipeline_file("donkeycar", |text| {
            let login = format!("{images}    passwordFile: {}\n", token.display());
            swap(&one_lap(text), &images, &login)
        });
        let mut registry = Command::new(bin("pitlane"));
        registry.args(["registry", "serve", "--listen", &lane.registry, "--push-token-file"]);
        registry.arg(&token).arg("--root").arg(lane.path("registry"));
        let (registry, _) = Process::server(&mut registry, &lane.path("registry.log"));
        write_secret(&lane.path("shared-secret"), SECRET);
        let started = ["a", "b", "c"].map(|name| {
            let config = json!({
                "apiVersion": "pitlane.dev/v1", "kind": "Service",
                "state": lane.path(&format!("state-{name}")), "pipelines": [pipeline],
                "listen": {"webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": null},
                "webhookSecretFiles": [lane.path("shared-secret")], "database": server.url(),
            });
            let file = lane.path(&format!("config/service-{name}.yaml"));
            fs::write(&file, config.to_string()).unwrap();
            let mut command = Command::new(bin("pitlane"));
            command.args(["--log", "info", "serve", "--config"]).arg(&file);
            command.env_remove("COSIGN_PASSWORD").current_dir(lane.dir.path());
            let log = lane.path(&format!("service-{name}.log"));
            let (process, told) = Process::server(&mut command, &log);
            let told = parse(&told);
            let host_of = |name: &str| {
                let url = told["listening"][name].as_str().unwrap();
                url["http://".len()..].trim_end_matches("/webhook").to_owned()
            };
            Replica { process, webhook: host_of("webhook"), api: host_of("api") }
        });
        Some(Self { lane, services: started.into(), _registry: registry, _server: server })
    }

    /// Pushes a tag, and delivers that to every service.
    fn push(&self, tag: &str) {
        self.lane.push_tag(tag);
        let bare = self.lane.bare("donkeycar");
        let of = |name: &str| self.lane.git(&bare, &["rev-parse", name]);
        let body = json!({
            "ref": format!("refs/tags/{tag}"), "before": "0".repeat(40), "after": of(tag),
            "created": true, "deleted": false, "forced": false,
            "head_commit": {"id": of(&format!("{tag}^{{commit}}"))},
            "repository": {"full_name": "team/donkeycar"},
        });
        for one in &self.services {
            let id = format!("delivery-of-{tag}");
            let answer = Lane::deliver_to(&one.webhook, &id, body.to_string().as_bytes(), SECRET);
            assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
        }
    }

    fn ask(&self, path: &str) -> Value {
        http::get(&self.services[0].api, path).expect("an answer").json()
    }

    /// The one run of a tag.
    fn run(&self, tag: &str) -> Value {
        let found = self.ask(&format!("/runs?tag={tag}"));
        let runs = found["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{found:#}");
        runs[0].clone()
    }

    fn steps(&self, run: &Value) -> Vec<Value> {
        let found = self.ask(&format!("/runs/{}/steps", run["id"].as_str().unwrap()));
        found["steps"].as_array().unwrap().clone()
    }

    /// Kills the service that has the run once one of these steps has begun; whether it came in time.
    fn kill_in(&mut self, tag: &str, names: &[&str]) -> bool {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            assert!(Instant::now() < end, "{tag} never came to {names:?}");
            let run = self.run(tag);
            let begun = self.steps(&run);
            if !begun.iter().any(|step| names.contains(&step["step"].as_str().unwrap())) {
                continue;
            }
            if run["state"] == "done" {
                return false;
            }
            let holder = run["holder"].as_str().unwrap().to_owned();
            let has = |one: &Replica| holder.ends_with(&format!("-{}", one.process.id()));
            let at = self.services.iter().position(has).expect("one of ours has it");
            self.services.remove(at).process.kill();
            return true;
        }
    }

    /// The run is done, by somebody who lives, and what came of it is there once.
    fn released(&self, tag: &str, counter: u64) -> Value {
        let run = until(PATIENCE, &format!("the run of {tag} ends"), || {
            let run = self.run(tag);
            ["done", "failed"].contains(&run["state"].as_str().unwrap()).then_some(run)
        });
        assert_eq!((&run["state"], &run["counter"]), (&json!("done"), &json!(counter)), "{run:#}");
        let holder = run["holder"].as_str().unwrap();
        let lives = |one: &Replica| holder.ends_with(&format!("-{}", one.process.id()));
        assert!(self.services.iter().any(lives), "{run:#}");
        let steps = self.steps(&run);
        let check = steps.iter().rfind(|step| step["step"] == "check").unwrap();
        let image = check["output"]["image"].as_str().unwrap();
        let verdict = parse(self.lane.check(image, &["--layers"]).ok());
        assert_eq!(verdict["counter"], counter, "{verdict:#}");
        let digest = image.split('@').nth(1).unwrap();
        let log = ["log", "--format=%H", &format!("--grep={digest}"), "main"];
        let promotions = self.lane.git(&self.lane.bare("gitops"), &log);
        assert_eq!(promotions.lines().count(), 1, "promotions of {tag}: {promotions}");
        json!({ "run": run, "documents": self.documents(digest) })
    }

    /// How many documents refer to the index, by type.
    fn documents(&self, digest: &str) -> Value {
        let path = format!("/v2/team/donkeycar/referrers/{digest}");
        let answer = http::get(&self.lane.registry, &path).expect("an answer").json();
        json!(answer["manifests"].as_array().unwrap().len())
    }
}

#[test]
fn a_killed_replicas_runs_go_on_elsewhere() {
    if !is_root() {
        return skip("the jail of `prove` is tested as root");
    }
    let Some(mut all) = Replicas::start() else { return };
    // In the long step, before anything is in the registry: begun again at the checkout.
    all.push("v1.0.0");
    assert!(all.kill_in("v1.0.0", &["prove"]), "it was done before it could be killed");
    let first = all.released("v1.0.0", 1);
    let checkouts = all.steps(&first["run"]);
    let checkouts = checkouts.iter().filter(|step| step["step"] == "checkout");
    assert_eq!(checkouts.count(), 2, "its files were at the dead one");

    // While it is attested and signed: what was sealed is found, and nothing is sealed twice.
    let mut counter = 1;
    let killed = (0..6).find_map(|n| {
        let tag = format!("v1.1.{n}");
        // Another model, so that each release has documents of its own.
        let card = all.lane.tree("donkeycar").join("models/pilot.yaml");
        let text = fs::read_to_string(&card).unwrap();
        fs::write(&card, format!("{text}# {n}\n")).unwrap();
        all.lane.git(&all.lane.tree("donkeycar"), &["commit", "--quiet", "-am", "Another card"]);
        all.push(&tag);
        counter += 1;
        let in_time = all.kill_in(&tag, &["attest", "sign"]);
        let released = all.released(&tag, counter);
        in_time.then_some(released)
    });
    let killed = killed.expect("no kill came while a release was signed");
    assert_eq!(killed["documents"], first["documents"], "sealed twice: {killed:#}");
    assert_eq!(all.services.len(), 1);
}
