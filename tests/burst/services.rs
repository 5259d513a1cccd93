//! The programs of a burst: one service with everything in it, or several on one `PostgreSQL`
//! server with a registry beside them; and a GitHub that they hear of tags from.

use std::{fs, net::TcpListener, path::PathBuf, process::Command, sync::Arc};

use pitlane_github_lab::{Form, Lab};
use serde_json::{Value, json};

use crate::common::{
    Port, Process, bin, http,
    lane::{Lane, lapless, quick},
    port,
    postgres::Server,
    repository, swap, until, write_secret,
};

/// What the App of the service may do.
const GRANTED: &str = "contents=write metadata=read repository_hooks=write";
/// Requests of an hour: GitHub's own limit would end the burst before its time.
const HOURLY: u64 = 1_000_000;
/// Seconds between two looks at the tags; the shortest that there is.
const POLL: u64 = 5;

/// The car's repository.
pub(super) const SOURCE: &str = "team/donkeycar";
pub(super) const SECRET: &str = "the secret of all hooks of the burst";

/// One service: its configuration and its listeners stay, its process is killed.
struct Service {
    config: PathBuf,
    log: PathBuf,
    webhook: Port,
    api: Port,
    process: Option<Process>,
}

pub(super) struct Services {
    pub(super) lane: Lane,
    pub(super) lab: Arc<Lab>,
    all: Vec<Service>,
    _registry: Option<Process>,
    server: Option<Server>,
}

fn at(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number)
}

impl Services {
    /// So many services, running, with their hooks; or what is missing here.
    pub(super) fn start(count: usize) -> Result<Self, String> {
        let lane = Lane::new(quick, lapless);
        let lab = Lab::start(&lane.path("lab")).map_err(|error| error.to_string())?;
        lab.repository(SOURCE, true).unwrap();
        lab.set_hourly(HOURLY);
        let app = lab.app(GRANTED, &[SOURCE]).unwrap();
        write_secret(&lane.path("app.pem"), &app.pem);
        let clone = lab.clone_url(SOURCE);
        let token = lane.path("push-token");
        write_secret(&token, "a-token-for-the-registry-of-the-burst");
        write_secret(&lane.path("hook-secret"), SECRET);
        let images = format!("repository: {}\n", lane.images());
        let local = lane.bare("donkeycar").to_str().unwrap().to_owned();
        let pipeline = lane.pipeline_file("donkeycar", |text| {
            let text = swap(&quick(text), &local, &clone);
            match count {
                1 => text,
                _ => swap(
                    &text,
                    &images,
                    &format!("{images}    passwordFile: {}\n", token.display()),
                ),
            }
        });
        let server = if count > 1 { Some(Server::new()?) } else { None };
        let registry = (count > 1).then(|| {
            let mut registry = Command::new(bin("pitlane"));
            registry.args(["registry", "serve", "--listen", &lane.registry, "--push-token-file"]);
            registry.arg(&token).arg("--root").arg(lane.path("registry"));
            Process::server(&mut registry, &lane.path("registry.log")).0
        });
        let ports: Vec<(Port, Port)> = (0..count).map(|_| (port(), port())).collect();
        // Lost deliveries of the first hook are asked for again; tags are looked at in any case.
        let github = json!({
            "address": lab.url(), "app": { "id": app.id, "keyFile": lane.path("app.pem") },
            "pollSeconds": POLL, "redeliver": format!("http://{}/webhook", at(&ports[0].0)),
            "report": { "checks": false, "statuses": false, "deployments": false },
        });
        let all = (1..).zip(ports).map(|(number, (webhook, api))| {
            let own = server.is_none().then(|| lane.registry.clone());
            let config = json!({
                "apiVersion": "pitlane.dev/v1", "kind": "Service",
                "state": lane.path(&format!("state-{number}")), "pipelines": [pipeline],
                "listen": { "webhook": at(&webhook), "api": at(&api), "registry": own },
                "webhookSecretFiles": [lane.path("hook-secret")],
                "database": server.as_ref().map(Server::url), "github": github,
            });
            let file = lane.path(&format!("config/service-{number}.yaml"));
            fs::write(&file, config.to_string()).unwrap();
            let log = lane.path(&format!("service-{number}.log"));
            Service { config: file, log, webhook, api, process: None }
        });
        let all: Vec<Service> = all.collect();
        for (number, one) in all.iter().enumerate() {
            let form = if number % 2 == 0 { Form::Json } else { Form::Form };
            let url = format!("http://{}/webhook", at(&one.webhook));
            lab.hook(SOURCE, &url, SECRET, form).unwrap();
        }
        let mut services = Self { lane, lab: Arc::new(lab), all, _registry: registry, server };
        (0..count).for_each(|number| services.begin(number));
        // Tags that are there at the first look at a repository are old ones.
        let looked = || (services.lines(&["first look"]) > 0).then_some(());
        until(30, "the tags are looked at", looked);
        Ok(services)
    }

    pub(super) const fn count(&self) -> usize {
        self.all.len()
    }

    /// Starts a service that does not run.
    pub(super) fn begin(&mut self, number: usize) {
        let registry = self.lane.registry.clone();
        let one = &mut self.all[number];
        let mut own = vec![at(&one.webhook), at(&one.api)];
        own.extend(self.server.is_none().then_some(registry));
        // A program that a killed service was about to start has its sockets for another moment.
        let free = |host: &String| TcpListener::bind(host).is_ok();
        until(20, "the service's ports are free", || own.iter().all(free).then_some(()));
        let mut command = Command::new(bin("pitlane"));
        command.args(["--log", "info", "serve", "--config"]).arg(&one.config);
        command.env_remove("COSIGN_PASSWORD").current_dir(self.lane.dir.path());
        one.process = Some(Process::server(&mut command, &one.log).0);
    }

    /// `kill -9` of a service.
    pub(super) fn kill(&mut self, number: usize) {
        self.all[number].process.take().expect("it runs").kill();
    }

    /// Where deliveries go.
    pub(super) fn webhook(&self) -> String {
        at(&self.all[0].webhook)
    }

    pub(super) fn ask(&self, path: &str) -> Value {
        let answer = http::get(&at(&self.all[0].api), path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// All runs, newest first.
    pub(super) fn runs(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let before = all.last().map(|run| format!("&before={}", run["seq"]));
            let page = self.ask(&format!("/runs?limit=200{}", before.unwrap_or_default()));
            let page = page["runs"].as_array().unwrap();
            all.extend(page.iter().cloned());
            if page.len() < 200 {
                return all;
            }
        }
    }

    /// Lines of the logs that have all these words.
    pub(super) fn lines(&self, words: &[&str]) -> usize {
        let logs = self.all.iter().map(|one| fs::read_to_string(&one.log).unwrap_or_default());
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        logs.map(|log| log.lines().filter(has).count()).sum()
    }

    /// The logs stay where the report is.
    pub(super) fn keep_logs(&self) {
        let dir = repository().join("target/burst");
        fs::create_dir_all(&dir).unwrap();
        for one in &self.all {
            fs::copy(&one.log, dir.join(one.log.file_name().unwrap())).unwrap();
        }
    }
}
