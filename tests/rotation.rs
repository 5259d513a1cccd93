//! The drill of docs/keys.md: a second key, both, then the new one alone; and what a rollback is
//! worth meanwhile.

use std::{path::Path, process::Command};

use crate::common::{
    Ran, bin, json as parse,
    lane::{Lane, lapless, quick},
    run, swap,
};

/// A policy with these authorities, each named like its key.
fn policy(names: &[&str]) -> impl Fn(&str) -> String {
    let authority = |name: &&str| {
        format!("    - name: {name}\n      key: {{ secretRef: {{ name: {name} }} }}\n")
    };
    let authorities: String = names.iter().map(authority).collect();
    move |text: &str| {
        let text = lapless(text);
        let (head, rest) = text.split_once("  authorities:\n").unwrap();
        let (_, drive) = rest.split_once("drive:\n").unwrap();
        format!("{head}  authorities:\n{authorities}drive:\n{drive}")
    }
}

struct Drill {
    lane: Lane,
}

impl Drill {
    /// Puts a policy in force, and lets a key sign.
    fn set(&mut self, key: &str, names: &[&str]) {
        self.lane.stop();
        self.lane.policy_file("policy", policy(names));
        let keys = self.lane.path("state/keys");
        let map: Vec<String> =
            names.iter().map(|name| format!("{name}: {}/{name}.pub", keys.display())).collect();
        let file = self.lane.pipeline_file("donkeycar", |text| {
            let text = swap(&quick(text), "keys/release.key", &format!("keys/{key}.key"));
            let map = format!("  policyKeys: {{ {} }}\n  policy: ", map.join(", "));
            swap(&text, "  policy: ", &map)
        });
        run(self.lane.pitlane().args(["config", "check"]).arg(file)).ok();
        self.lane.start();
    }

    fn check(&self, image: &str, names: &[&str]) -> Ran {
        let mut command = Command::new(bin("pitlane-verifier"));
        command.args(["check", image, "--output", "json", "--policy"]);
        command.arg(self.lane.path("config/policy.yaml"));
        for name in names {
            let file = self.lane.path(&format!("state/keys/{name}.pub"));
            command.arg("--key").arg(format!("{name}={}", file.display()));
        }
        run(&mut command)
    }

    /// `pitlane rollback`, to the end of its run.
    fn rollback(&self, tag: &str, state: &str) {
        let token: &Path = &self.lane.path("state/api-token");
        let mut command = self.lane.pitlane();
        command.args(["rollback", tag, "--repository", "team/donkeycar", "--output", "json"]);
        command.args(["--api", &self.lane.api_url(), "--token-file"]).arg(token);
        run(&mut command).ok();
        self.lane.wait(tag, state);
    }
}

#[test]
fn the_drill_of_a_rotation() {
    let lane = Lane::quick();
    lane.keys("release-2");
    let old = lane.release("v1.0.0");
    let mut drill = Drill { lane };
    let both = ["release", "release-2"];
    drill.set("release-2", &both);
    let new = drill.lane.release("v1.1.0");
    let verdict = parse(drill.check(&new, &both).ok());
    assert_eq!(verdict["counter"], 2, "counters go on: {verdict:#}");
    let found = verdict["checks"].to_string();
    assert!(found.contains("release-2"), "{found}");
    assert_eq!(parse(drill.check(&old, &both).ok())["counter"], 1);
    // Going back while both are known: the statement by the new key, the evidence by the old.
    drill.rollback("v1.0.0", "done");
    assert_eq!(parse(drill.check(&old, &both).ok())["counter"], 3);

    let alone = ["release-2"];
    drill.set("release-2", &alone);
    assert_eq!(parse(drill.check(&new, &alone).ok())["counter"], 2);
    let refused = parse(drill.check(&old, &alone).stdout);
    assert_eq!(refused["refusal"]["code"], "wrong-signer", "{refused:#}");
    drill.rollback("v1.0.0", "failed");
    let steps = drill.lane.steps(&drill.lane.runs("v1.0.0").unwrap()[0]).unwrap();
    let last = steps.last().unwrap();
    assert_eq!((&last["step"], &last["error"]["code"]), (&"check".into(), &"wrong-signer".into()));
    // What drives is not disturbed, and the next release is.
    assert_eq!(parse(drill.check(&new, &alone).ok())["counter"], 2);
    let next = drill.lane.release("v1.2.0");
    assert_eq!(parse(drill.check(&next, &alone).ok())["admitted"], true);
}
