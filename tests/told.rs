//! Chats and webhooks are told what happened, exactly once each, whenever the service is killed;
//! releases go on through environments by the word of cars and people.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::common::{
    http,
    lane::{Lane, lapless, quick},
    until, write_secret,
};

const SECRET: &str = "an agreed secret";

/// Head and body of each request.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver of events: head and body of each request, all answered 200.
fn receiver() -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            let whole = loop {
                let Ok(read @ 1..) = stream.read(&mut chunk) else { break None };
                bytes.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let lower = head.to_ascii_lowercase();
                let length = lower.lines().find_map(|l| l.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |l| l.trim().parse().unwrap());
                if body.len() >= length {
                    break Some((lower, body.to_owned()));
                }
            };
            let Some((head, body)) = whole else { continue };
            kept.lock().unwrap().push((head, serde_json::from_str(&body).unwrap()));
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, got)
}

fn configure(lane: &Lane, name: &str, value: Value) {
    let file = lane.path("config/service.yaml");
    let mut service: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    service[name] = value;
    fs::write(&file, service.to_string()).unwrap();
}

fn kinds(got: &[(String, Value)]) -> Vec<String> {
    let kind = |event: &Value| {
        let kind = event["type"].as_str().unwrap();
        kind.trim_start_matches("dev.pitlane.").trim_end_matches(".v1").to_owned()
    };
    got.iter().map(|(_, event)| kind(event)).collect()
}

#[test]
fn everything_is_told_once_however_often_the_service_is_killed() {
    let (address, got) = receiver();
    let mut lane = Lane::new(quick, lapless);
    write_secret(&lane.path("config/hook"), SECRET);
    let webhook = json!({ "url": format!("http://{address}/events"), "secretFile": "hook" });
    configure(
        &lane,
        "notify",
        json!({ "channels": [{ "name": "lab", "webhook": webhook,
        "filter": { "severity": "debug", "events": ["run-queued", "run-released", "promoted", "tag-moved", "step-finished"] } }] }),
    );
    lane.start();
    lane.push_tag("v1");
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(150));
        lane.kill();
        lane.start();
    }
    lane.wait("v1", "done");
    until(30, "the promotion is told", || {
        kinds(&got.lock().unwrap()).contains(&"promoted".to_owned()).then_some(())
    });
    lane.release("v2");
    // Somebody moves the first tag.
    let tree = lane.tree("donkeycar");
    lane.git(&tree, &["commit", "--quiet", "--allow-empty", "-m", "another"]);
    lane.git(&tree, &["tag", "-f", "-a", "v1", "-m", "again", "HEAD"]);
    let bare = lane.bare("donkeycar");
    lane.git(&tree, &["push", "--quiet", "--force", bare.to_str().unwrap(), "v1"]);
    until(30, "everything is told", || {
        let kinds = kinds(&got.lock().unwrap());
        let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
        let all = (count("run-released"), count("promoted"), count("tag-moved"));
        (all.0 >= 2 && all.1 >= 2 && all.2 >= 1).then_some(())
    });
    lane.stop();
    let got = got.lock().unwrap();
    let said = kinds(&got);
    let count = |kind: &str| said.iter().filter(|one| *one == kind).count();
    // A kill between the receiver's answer and the note of it repeats an event, by the same id.
    let ids: BTreeSet<&str> = got.iter().map(|(_, event)| event["id"].as_str().unwrap()).collect();
    let repeated = said.len() - ids.len();
    assert!(repeated <= 4, "{repeated} of {said:?}");
    let once = |kind: &str| {
        let of = got.iter().filter(|(_, e)| e["type"].as_str().unwrap().contains(kind));
        of.map(|(_, event)| event["id"].as_str().unwrap()).collect::<BTreeSet<_>>().len()
    };
    let all = (once("run-queued"), once("run-released"), once("promoted"), once("tag-moved"));
    assert_eq!(all, (2, 2, 2, 1), "{said:?}");
    assert!(count("step-finished") >= 20, "{said:?}");
    for (head, _) in got.iter() {
        assert!(head.contains("x-pitlane-signature-256: "), "{head}");
        assert!(!head.contains(SECRET), "{head}");
    }
}

/// Three environments: the simulator's car, then cars, then the street.
fn environments(text: &str) -> String {
    let start = text.find("    file: car/kustomization.yaml").unwrap();
    let place = |name: &str, rest: &str| {
        format!(
            "      - name: {name}\n        target: {{kind: kustomize, file: {name}/kustomization.yaml, image: donkeycar}}\n{rest}"
        )
    };
    let all = [
        place("sim", ""),
        place("rc", "        approval: {afterConfirmed: sim}\n        confirmations: 2\n"),
        place("street", "        approval: manual\n"),
    ];
    format!("{}    environments:\n{}", &text[..start], all.concat())
}

#[test]
fn releases_go_on_by_the_word_of_cars_and_people() {
    let mut lane = Lane::new(|text| environments(&quick(text)), lapless);
    let tree = lane.tree("gitops");
    for name in ["sim", "rc", "street"] {
        fs::create_dir(tree.join(name)).unwrap();
        let file = "kustomization.yaml";
        fs::copy(tree.join("car").join(file), tree.join(name).join(file)).unwrap();
    }
    lane.git(&tree, &["add", "."]);
    lane.git(&tree, &["commit", "--quiet", "-m", "Environments"]);
    lane.git(&tree, &["push", "--quiet", lane.bare("gitops").to_str().unwrap(), "main"]);
    let cars = [("sim", "s1"), ("sim", "s2"), ("rc", "r1")];
    let lines = cars.map(|(environment, car)| {
        let digest = crate::common::store::digest(format!("token-{car}").as_bytes());
        format!("donkeycar {environment} {car} {digest}\n")
    });
    fs::write(lane.path("config/cars"), lines.concat()).unwrap();
    configure(&lane, "carTokens", json!("cars"));
    lane.start();
    let image = lane.release("v1");
    let digest = image.split('@').nth(1).unwrap().to_owned();
    let has = |lane: &Lane, name: &str| {
        let file = format!("main:{name}/kustomization.yaml");
        lane.git(&lane.bare("gitops"), &["show", &file]).contains(&digest)
    };
    assert!(has(&lane, "sim") && !has(&lane, "rc"), "the first at once, the next not yet");
    let api = lane.api_url();
    let host = api.strip_prefix("http://").unwrap().to_owned();
    let say = |token: &str, state: &str| {
        let body = json!({ "state": state, "image": image, "counter": 1 }).to_string();
        let login = format!("Bearer {token}");
        let headers = [("Authorization", login.as_str()), ("Content-Type", "application/json")];
        http::send("POST", &host, "/cars/status", &headers, body.as_bytes()).unwrap().status
    };
    assert_eq!(say("token-nobody", "confirmed"), 401);
    assert_eq!(say("token-s1", "driving"), 204);
    assert_eq!(say("token-s1", "confirmed"), 204);
    assert_eq!(say("token-s1", "confirmed"), 204);
    assert_eq!(say("token-r1", "confirmed"), 204);
    assert_eq!(say("token-s2", "flying"), 422, "a state that is none");
    let run = lane.runs("v1").unwrap()[0]["id"].as_str().unwrap().to_owned();
    let waits = |environment: &str| {
        let places = lane.api(&format!("/runs/{run}/places"))?["places"].clone();
        let of = places.as_array()?.iter().find(|one| one["environment"] == environment)?.clone();
        Some(of["progress"]["waits"].clone())
    };
    until(30, "it waits for a second car", || waits("rc").filter(|w| !w.is_null()));
    assert!(!has(&lane, "rc"), "one car twice, and one of another environment, are not two");
    // A kill here loses nothing.
    lane.kill();
    lane.start();
    assert_eq!(say("token-s2", "confirmed"), 204);
    until(60, "it comes to the cars", || has(&lane, "rc").then_some(()));
    assert!(!has(&lane, "street"), "nobody has approved it");
    let token = fs::read_to_string(lane.path("state/api-token")).unwrap();
    let approve = |token: &str, environment: &str| {
        let body = json!({ "environment": environment, "by": "ada" }).to_string();
        let login = format!("Bearer {}", token.trim());
        let headers = [("Authorization", login.as_str()), ("Content-Type", "application/json")];
        let path = format!("/runs/{run}/approve");
        http::send("POST", &host, &path, &headers, body.as_bytes()).unwrap().status
    };
    assert_eq!(approve("token-s1", "street"), 401, "a car is no person");
    assert_eq!(approve(&token, "Straße"), 422);
    assert_eq!(approve(&token, "streets"), 404, "there is no such environment");
    assert_eq!(approve(&token, "street"), 202);
    until(60, "it comes to the street", || has(&lane, "street").then_some(()));
    let commits =
        lane.git(&lane.bare("gitops"), &["log", "--format=%s", "--grep=Pitlane-Counter", "main"]);
    assert_eq!(commits.lines().count(), 3, "{commits}");
    let shown = lane.api("/cars").unwrap();
    assert_eq!(shown["cars"].as_array().unwrap().len(), 3, "{shown:#}");
}
