//! A lane of its own for a test: keys, repositories, files, and the service.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Port, Process, Ran, bin, copy, cut, http, made, repository, run, swap, until};

/// Longest a run may take on a loaded machine (seconds).
const RUN_LIMIT: u64 = 180;

/// A lane: `pitlane serve` with one pipeline, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) dir: TempDir,
    pub(crate) registry: String,
    api: String,
    webhook: String,
    service: Option<Process>,
    ports: [Port; 3],
}

/// The pipeline without laps: it makes a release in well under a second.
pub(crate) fn quick(text: &str) -> String {
    cut(text, "  prove:", "  registry:")
}

/// The pipeline with one short proof: one lap on one track.
pub(crate) fn one_lap(text: &str) -> String {
    let text = cut(text, "      - { track: generated_road", "  registry:");
    swap(&text, "laps: 3", "laps: 1")
}

/// A pipeline that signs otherwise: `sign` are lines of its section `sign:`.
pub(crate) fn signed_by(text: &str, sign: &str) -> String {
    swap(&cut(text, "    key: ", "    builder:"), "  sign:\n", &format!("  sign:\n{sign}"))
}

/// A policy that asks for no lap.
pub(crate) fn lapless(text: &str) -> String {
    cut(text, "  laps:", "  provenance:")
}

/// A policy that one lap satisfies.
pub(crate) fn lenient(text: &str) -> String {
    swap(&swap(text, ", generated_road", ""), "minLaps: 3", "minLaps: 1")
}

impl Lane {
    /// A lane without laps, running.
    pub(crate) fn quick() -> Self {
        let mut lane = Self::new(quick, lapless);
        lane.start();
        lane
    }

    /// A lane, not yet running, with edits of the repository's pipeline and policy.
    pub(crate) fn new(pipeline: impl Fn(&str) -> String, policy: impl Fn(&str) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("pitlane-lane-").tempdir().unwrap();
        let ports = [super::port(), super::port(), super::port()];
        let at = |port: &Port| format!("127.0.0.1:{}", port.number);
        let [webhook, api, registry] = [at(&ports[0]), at(&ports[1]), at(&ports[2])];
        let lane = Self { dir, registry, api, webhook, service: None, ports };
        fs::create_dir_all(lane.path("state/keys")).unwrap();
        fs::create_dir_all(lane.path("config")).unwrap();
        super::write_secret(&lane.path("state/keys/password"), "correct horse battery");
        lane.keys("release");
        lane.policy_file("policy", policy);
        lane.pipeline_file("donkeycar", pipeline);
        let listen = json!({ "webhook": lane.webhook, "api": lane.api, "registry": lane.registry });
        let service = json!({
            "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": lane.path("state"),
            "pipelines": [lane.path("config/donkeycar.yaml")], "listen": listen,
        });
        fs::write(lane.path("config/service.yaml"), service.to_string()).unwrap();
        lane.repositories();
        lane
    }

    /// A path in the lane's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Registry and repository of the images.
    pub(crate) fn images(&self) -> String {
        format!("{}/team/donkeycar", self.registry)
    }

    /// Makes a key pair beside the release key.
    pub(crate) fn keys(&self, name: &str) -> PathBuf {
        let (out, password) = (self.path("state/keys"), self.path("state/keys/password"));
        let mut command = self.pitlane();
        command.args(["keys", "generate", "--name", name, "--out"]).arg(&out);
        run(command.arg("--password-file").arg(password)).ok();
        out.join(format!("{name}.pub"))
    }

    /// Makes a key pair elsewhere, with the password that lies there.
    pub(crate) fn keys_at(&self, name: &str, out: &Path) {
        let mut command = self.pitlane();
        command.args(["keys", "generate", "--name", name, "--out"]).arg(out);
        run(command.arg("--password-file").arg(out.join("password"))).ok();
    }

    /// An edition of the repository's policy; gives the file.
    pub(crate) fn policy_file(&self, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
        let text = fs::read_to_string(repository().join("policies/donkeycar.yaml")).unwrap();
        let file = self.path(&format!("config/{name}.yaml"));
        fs::write(&file, edit(&text)).unwrap();
        file
    }

    /// An edition of the repository's pipeline, with this lane's places; gives the file.
    pub(crate) fn pipeline_file(&self, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
        let mut text = fs::read_to_string(repository().join("pipelines/donkeycar.yaml")).unwrap();
        for (old, new) in [
            ("../pitlane-state", self.path("state")),
            ("../target/base/layout", made("target/base/layout")),
            ("../target/release/pitlane-car", bin("pitlane-car")),
            ("../target/arm64/pitlane-car", made("target/arm64/pitlane-car")),
            ("../policies/donkeycar.yaml", self.path("config/policy.yaml")),
            ("127.0.0.1:5000", PathBuf::from(&self.registry)),
        ] {
            text = swap(&text, old, new.to_str().unwrap());
        }
        let file = self.path(&format!("config/{name}.yaml"));
        fs::write(&file, edit(&text)).unwrap();
        file
    }

    fn repositories(&self) {
        for (name, source) in [("donkeycar", "examples/donkeycar"), ("gitops", "examples/gitops")] {
            let (bare, tree) = (self.bare(name), self.tree(name));
            fs::create_dir_all(&tree).unwrap();
            fs::create_dir_all(&bare).unwrap();
            let source = repository().join(source);
            if name == "donkeycar" {
                // Only what a release reads: the trainer's data may be large.
                fs::create_dir(tree.join("models")).unwrap();
                copy(&source.join("models"), &tree.join("models"));
            } else {
                copy(&source, &tree);
                let file = tree.join("car/kustomization.yaml");
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, swap(&text, "127.0.0.1:5000", &self.registry)).unwrap();
            }
            self.git(&bare, &["init", "--quiet", "--bare", "-b", "main"]);
            self.git(&tree, &["init", "--quiet", "-b", "main"]);
            self.git(&tree, &["add", "."]);
            self.git(&tree, &["commit", "--quiet", "-m", "Start"]);
            self.git(&tree, &["push", "--quiet", bare.to_str().unwrap(), "main"]);
        }
    }

    /// A repository that is pushed to.
    pub(crate) fn bare(&self, name: &str) -> PathBuf {
        self.path(&format!("state/git/team/{name}.git"))
    }

    /// The work tree of a repository.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}-tree"))
    }

    /// Runs git there, as nobody in particular.
    #[track_caller]
    pub(crate) fn git(&self, at: &Path, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(args).current_dir(at).env("HOME", self.dir.path());
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "A Racer");
            git.env(format!("GIT_{role}_EMAIL"), "racer@example.org");
        }
        run(&mut git).ok().trim().to_owned()
    }

    /// `pitlane`, with this lane's cache.
    pub(crate) fn pitlane(&self) -> Command {
        let mut command = Command::new(bin("pitlane"));
        command.args(["--log", "info"]).env("PITLANE_CACHE", self.path("state/cache"));
        command.env_remove("COSIGN_PASSWORD").current_dir(self.dir.path());
        command
    }

    /// Starts the service and connects the car repository's hook.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with more in the service's environment.
    pub(crate) fn start_with(&mut self, environment: &[(&str, &str)]) {
        let mut command = self.pitlane();
        command.envs(environment.iter().copied());
        command.arg("serve").arg("--config").arg(self.path("config/service.yaml"));
        let (service, _) = Process::server(&mut command, &self.path("service.log"));
        self.service = Some(service);
        if !self.bare("donkeycar").join("hooks/post-receive").exists() {
            let mut hook = self.pitlane();
            hook.args(["hook", "install", "--repository", "team/donkeycar", "--url"]);
            hook.arg(format!("http://{}/webhook", self.webhook));
            hook.arg("--secret-file").arg(self.path("state/webhook-secret"));
            run(hook.arg(self.bare("donkeycar"))).ok();
        }
    }

    /// The API's address, for `pitlane runs`.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The service's process.
    pub(crate) fn service_id(&self) -> u32 {
        self.service.as_ref().expect("it runs").id()
    }

    /// The webhook's host and port.
    pub(crate) fn webhook_host(&self) -> &str {
        &self.webhook
    }

    /// What the service said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("service.log")).unwrap_or_default()
    }

    /// `kill -9` of the service.
    pub(crate) fn kill(&mut self) {
        self.service.take().expect("it runs").kill();
        // A program that it was about to start has its sockets for another moment.
        let free = |port: &Port| TcpListener::bind(("127.0.0.1", port.number)).is_ok();
        until(10, "its ports are free", || self.ports.iter().all(free).then_some(()));
    }

    /// Ends the service in good order.
    pub(crate) fn stop(&mut self) {
        let status = self.service.take().expect("it runs").terminate();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Pushes an annotated tag of the car repository's head.
    pub(crate) fn push_tag(&self, tag: &str) {
        let tree = self.tree("donkeycar");
        self.git(&tree, &["tag", "-a", tag, "-m", "A release"]);
        self.git(
            &tree,
            &["push", "--quiet", self.bare("donkeycar").to_str().unwrap(), "main", tag],
        );
    }

    /// The API's answer, if the service answers.
    pub(crate) fn api(&self, path: &str) -> Option<Value> {
        let answer = http::get(&self.api, path)?;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        Some(answer.json())
    }

    /// Posts to the webhook as a git host does.
    pub(crate) fn deliver(&self, id: &str, body: &[u8], secret: &str) -> http::Answer {
        Self::deliver_to(&self.webhook, id, body, secret)
    }

    /// The same to any webhook, by its host and port.
    pub(crate) fn deliver_to(host: &str, id: &str, body: &[u8], secret: &str) -> http::Answer {
        use hmac::Mac as _;
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body);
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let headers = [
            ("Content-Type", "application/json"),
            ("X-GitHub-Event", "push"),
            ("X-GitHub-Delivery", id),
            ("X-Hub-Signature-256", &signature),
        ];
        http::send("POST", host, "/webhook", &headers, body).expect("an answer")
    }

    /// The runs of a tag.
    pub(crate) fn runs(&self, tag: &str) -> Option<Vec<Value>> {
        let found = self.api(&format!("/runs?tag={tag}"))?;
        Some(found["runs"].as_array().unwrap().clone())
    }

    /// The steps of a run.
    pub(crate) fn steps(&self, run: &Value) -> Option<Vec<Value>> {
        let found = self.api(&format!("/runs/{}/steps", run["id"].as_str().unwrap()))?;
        Some(found["steps"].as_array().unwrap().clone())
    }

    /// Waits until the newest run of a tag has ended, and wants it to have ended so.
    #[track_caller]
    pub(crate) fn wait(&self, tag: &str, state: &str) -> Value {
        let run = until(RUN_LIMIT, &format!("the run of {tag} ends"), || {
            let run = self.runs(tag)?.first()?.clone();
            ["done", "failed"].contains(&run["state"].as_str().unwrap()).then_some(run)
        });
        assert_eq!(run["state"], state, "{run:#}\n{}", self.log());
        run
    }

    /// Pushes a tag and waits for its release; gives the image by digest.
    #[track_caller]
    pub(crate) fn release(&self, tag: &str) -> String {
        self.push_tag(tag);
        self.image(&self.wait(tag, "done"))
    }

    /// The image of a finished run, by digest.
    pub(crate) fn image(&self, run: &Value) -> String {
        let steps = self.steps(run).unwrap();
        let check = steps.iter().rfind(|step| step["step"] == "check").unwrap();
        check["output"]["image"].as_str().unwrap_or_else(|| panic!("{check:#}")).to_owned()
    }

    /// `pitlane release` of the car's work tree; tags it first.
    pub(crate) fn one_shot(&self, tag: &str, pipeline: &Path, args: &[&str]) -> Ran {
        let tree = self.tree("donkeycar");
        if self.git(&tree, &["tag", "--list", tag]).is_empty() {
            self.git(&tree, &["tag", tag]);
        }
        let mut command = self.pitlane();
        command.args(["release", "--output", "json", "--tag", tag, "--pipeline"]).arg(pipeline);
        run(command.arg("--repo").arg(tree).args(args))
    }

    /// A pipeline for one-shot releases to this lane's registry, without GitOps.
    pub(crate) fn side_pipeline(&self, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
        self.pipeline_file(name, |text| {
            let text = &text[..text.find("  promote:").unwrap()];
            let image = format!("repository: {}\n", self.images());
            let token = self.path("state/registry-token");
            let with = format!("{image}    passwordFile: {}\n", token.display());
            edit(&swap(text, &image, &with))
        })
    }

    /// `pitlane-verifier check` by this lane's policy and key.
    pub(crate) fn check(&self, image: &str, args: &[&str]) -> Ran {
        self.check_by(&self.path("config/policy.yaml"), "release", image, args)
    }

    /// The same, by any policy and key.
    pub(crate) fn check_by(&self, policy: &Path, key: &str, image: &str, args: &[&str]) -> Ran {
        let mut command = Command::new(bin("pitlane-verifier"));
        command.args(["check", image, "--output", "json", "--policy"]).arg(policy);
        command.arg("--key").arg(self.path(&format!("state/keys/{key}.pub")));
        run(command.args(args))
    }
}
