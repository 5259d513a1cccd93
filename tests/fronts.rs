//! A service that only takes deliveries (`work: false`), and one that executes them: two processes
//! on one `PostgreSQL` server.

use std::{fs, process::Command, time::Duration};

use serde_json::json;

use crate::common::{
    Process, bin, http, json as parse,
    lane::{Lane, lapless, quick},
    postgres::Server,
    run, skip, swap, until,
};

#[test]
fn a_front_takes_deliveries_and_opens_nothing_else() {
    let server = match Server::new() {
        Ok(server) => server,
        Err(why) => return skip(&why),
    };
    let lane = Lane::new(quick, lapless);
    // The front has neither key nor policy nor base: they are not where its file says.
    let edit = |text: &str| {
        let text = swap(&quick(text), "keys/release.key", "keys/not-here.key");
        swap(&text, "config/policy.yaml", "config/not-here.yaml")
    };
    lane.pipeline_file("front-donkeycar", edit);
    let config = |name: &str, pipeline: &str, more: serde_json::Value| {
        let mut config = json!({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": lane.path(name),
            "pipelines": [lane.path(&format!("config/{pipeline}.yaml"))],
            "listen": { "webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": null },
            "database": server.url(),
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = lane.path(&format!("config/{name}.yaml"));
        fs::write(&file, config.to_string()).unwrap();
        file
    };
    let start = |name: &str, file: &std::path::Path| {
        let mut command = Command::new(bin("pitlane"));
        command.args(["--log", "info", "serve", "--config"]).arg(file);
        command.env_remove("COSIGN_PASSWORD");
        let (process, told) = Process::server(&mut command, &lane.path(&format!("{name}.log")));
        let told = parse(told);
        let host = |which: &str| {
            let url = told["listening"][which].as_str().unwrap();
            url["http://".len()..].trim_end_matches("/webhook").to_owned()
        };
        (process, host("webhook"), host("api"))
    };
    let front = config("front", "front-donkeycar", json!({ "work": false }));
    let checked = run(lane.pitlane().args(["config", "check"]).arg(&front)).ok();
    assert_eq!(parse(checked)[0]["work"], false);
    let (mut process, webhook, api) = start("front", &front);
    lane.push_tag("v1.0.0");
    let of = |name: &str| lane.git(&lane.bare("donkeycar"), &["rev-parse", name]);
    let body = json!({
        "ref": "refs/tags/v1.0.0", "before": "0".repeat(40), "after": of("v1.0.0"),
        "created": true, "deleted": false, "forced": false,
        "head_commit": { "id": of("v1.0.0^{commit}") },
        "repository": { "full_name": "team/donkeycar" },
    });
    let secret = fs::read_to_string(lane.path("front/webhook-secret")).unwrap();
    let answer = Lane::deliver_to(&webhook, "one", body.to_string().as_bytes(), secret.trim());
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let state = || http::get(&api, "/runs").unwrap().json()["runs"][0].clone();
    // Longer than an executor takes to look.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(state()["state"], "queued", "{:#}", state());

    // What a server's texts cannot hold is found nowhere, and is no failure.
    let none = http::get(&api, "/runs?tag=v1%00&repository=%00").unwrap();
    assert_eq!((none.status, &none.json()["runs"]), (200, &json!([])));
    let token = fs::read_to_string(lane.path("front/api-token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let asked = json!({ "repository": "team/\0", "tag": "v1.0.0" }).to_string();
    let none = http::send("POST", &api, "/rollback", &headers, asked.as_bytes()).unwrap();
    assert_eq!(none.status, 404, "{}", String::from_utf8_lossy(&none.body));

    // The same file does not start a worker: what it names is missed.
    let would = config("would-be", "front-donkeycar", json!({}));
    for command in [["serve", "--config"].as_slice(), &["config", "check"]] {
        let said = run(lane.pitlane().args(command).arg(&would)).fails();
        assert!(said.contains("not-here"), "{said}");
    }

    let listen =
        json!({ "webhook": "127.0.0.1:0", "api": "127.0.0.1:0", "registry": lane.registry });
    let worker = config("worker", "donkeycar", json!({ "listen": listen }));
    let (worker, ..) = start("worker", &worker);
    let done = until(120, "the worker releases it", || {
        let run = state();
        ["done", "failed"].contains(&run["state"].as_str().unwrap()).then_some(run)
    });
    assert_eq!(done["state"], "done", "{done:#}");
    let holder = done["holder"].as_str().unwrap();
    assert!(holder.ends_with(&format!("-{}", worker.id())), "{done:#}");
    assert!(process.terminate().success());

    // Alone it would take deliveries that nobody executes.
    let alone = json!({
        "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": lane.path("alone"),
        "pipelines": [lane.path("config/donkeycar.yaml")], "work": false,
    });
    fs::write(lane.path("config/alone.yaml"), alone.to_string()).unwrap();
    let alone = lane.path("config/alone.yaml");
    let said = run(lane.pitlane().args(["serve", "--config"]).arg(alone)).fails();
    assert!(said.contains("nobody would execute the runs"), "{said}");
}
