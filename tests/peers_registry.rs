//! The embedded registry against the clients that people use: crane, cosign, Docker, skopeo, oras.
//!
//! Each test starts `pitlane registry serve` on a free port with a push token, so every push also
//! goes through that client's own way to log in, and every pull without a login shows that reads
//! are open.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{docker::Daemon, peer};

const TOKEN: &str = "peers-push-token-0123456789";
const TOKEN_BASE64_LOGIN: &str = "Y2k6cGVlcnMtcHVzaC10b2tlbi0wMTIzNDU2Nzg5";

/// A registry process and a folder for its clients.
struct World {
    dir: TempDir,
    host: String,
    server: Child,
}

impl World {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("push.token");
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let (server, host) = serve(&dir.path().join("registry"), &token);
        // A login as `docker login` leaves it, and a place without one.
        let auths = serde_json::json!({ "auths": { &host: { "auth": TOKEN_BASE64_LOGIN } } });
        for (place, config) in [("login", auths), ("nobody", serde_json::json!({}))] {
            fs::create_dir(dir.path().join(place)).unwrap();
            fs::write(dir.path().join(place).join("config.json"), config.to_string()).unwrap();
        }
        let world = Self { dir, host, server };
        world.layer("first", 1);
        world.layer("second", 2);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// A tar of one file that nothing else contains.
    fn layer(&self, name: &str, fill: u8) {
        let folder = self.path(&format!("{name}.d"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("model.bin"), vec![fill; 3_000_000]).unwrap();
        let tar = self.path(&format!("{name}.tar"));
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--mtime=@0", "-cf"]).arg(tar).arg("-C").arg(folder).arg(".");
        assert!(command.status().unwrap().success());
    }

    /// Runs a client that is logged in, and gives its stdout.
    fn ok(&self, program: &Path, args: &[&str]) -> String {
        let out = self.command(program, args, "login").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(out.status.success(), "{} {args:?}: {}", program.display(), text(&out.stderr));
        text(&out.stdout)
    }

    /// Runs a client that must fail, and gives what it said.
    fn fails(&self, program: &Path, args: &[&str], place: &str) -> String {
        let out = self.command(program, args, place).output().unwrap();
        assert!(!out.status.success(), "{} {args:?} should fail", program.display());
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
    }

    fn anonymous(&self, program: &Path, args: &[&str]) -> String {
        let out = self.command(program, args, "nobody").output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn command(&self, program: &Path, args: &[&str], place: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("DOCKER_CONFIG", self.path(place))
            .env("REGISTRY_AUTH_FILE", self.path(place).join("config.json"))
            .env("HOME", self.dir.path())
            .env("COSIGN_PASSWORD", "");
        command
    }

    /// Ends the registry as a power switch would, and starts it again on the same folder.
    fn kill_and_restart(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        let (server, host) = serve(&self.path("registry"), &self.path("push.token"));
        let old = std::mem::replace(&mut self.host, host);
        self.server = server;
        let config = self.path("login").join("config.json");
        let text = fs::read_to_string(&config).unwrap().replace(&old, &self.host);
        fs::write(config, text).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve(root: &Path, token: &Path) -> (Child, String) {
    let mut command = Command::new(crate::common::bin("pitlane"));
    command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--allow-delete"]);
    command.arg("--root").arg(root).arg("--push-token-file").arg(token);
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    (server, ready["listening"].as_str().unwrap().to_owned())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn crane_pushes_copies_lists_pulls_and_survives_a_kill() {
    let Some(crane) = peer("crane") else { return };
    let mut world = World::start();
    let image = world.image("cars/donkey/linear");
    let one = format!("{image}:v1");

    let refused = world.fails(&crane, &["append", "-f", "first.tar", "-t", &one], "nobody");
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("401"), "{refused}");
    world.ok(&crane, &["append", "-f", "first.tar", "-t", &one]);
    let first = world.anonymous(&crane, &["digest", &one]).trim().to_owned();
    world.ok(&crane, &["append", "-f", "second.tar", "-b", &one, "-t", &format!("{image}:v2")]);
    world.ok(&crane, &["tag", &one, "stable"]);
    assert_eq!(world.anonymous(&crane, &["ls", &image]), "stable\nv1\nv2\n");
    assert!(world.anonymous(&crane, &["catalog", &world.host]).contains("cars/donkey/linear"));

    // A two-platform index, copied to another repository: its blobs are mounted, not sent.
    for platform in ["linux/amd64", "linux/arm64"] {
        let tag = format!("{image}:{}", platform.replace('/', "-"));
        world.ok(&crane, &["mutate", &one, "--set-platform", platform, "-t", &tag]);
    }
    let (amd, arm) = (format!("{image}:linux-amd64"), format!("{image}:linux-arm64"));
    world.ok(&crane, &["index", "append", "-m", &amd, "-m", &arm, "-t", &format!("{image}:both")]);
    let copy = world.image("elsewhere");
    world.ok(&crane, &["copy", &format!("{image}:both"), &format!("{copy}:both")]);
    let index = json(&world.anonymous(&crane, &["manifest", &format!("{copy}:both")]));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);

    let validate = ["validate", "--remote", &format!("{image}:v2")];
    assert!(world.anonymous(&crane, &validate).contains("PASS"));
    world.anonymous(&crane, &["pull", "--format=oci", &format!("{copy}:both"), "pulled"]);
    assert!(world.path("pulled/index.json").is_file());

    world.kill_and_restart();
    let image = world.image("cars/donkey/linear");
    assert_eq!(world.anonymous(&crane, &["digest", &format!("{image}:stable")]).trim(), first);
    assert!(
        world.anonymous(&crane, &["validate", "--remote", &format!("{image}:v1")]).contains("PASS")
    );

    world.ok(&crane, &["delete", &format!("{image}@{first}")]);
    world.fails(&crane, &["digest", &format!("{image}:v1")], "nobody");
    assert!(!world.anonymous(&crane, &["ls", &image]).contains("stable"));
}

/// `kill -9` in the middle of an upload: no half blob, and the next push of it succeeds.
#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_nothing() {
    let Some(crane) = peer("crane") else { return };
    let mut world = World::start();
    let layer = fs::read(world.path("first.tar")).unwrap();
    let mut stream = TcpStream::connect(&world.host).unwrap();
    let head = format!(
        "POST /v2/cars/a/blobs/uploads/?digest=sha256:{} HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        "0".repeat(64),
        layer.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&layer[..layer.len() / 2]).unwrap();
    let uploads = world.path("registry/uploads");
    let size = || {
        fs::read_dir(&uploads).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    while size() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    world.kill_and_restart();
    assert_eq!(size(), 0);
    for folder in ["blobs/sha256", "staged", "tmp"] {
        assert_eq!(fs::read_dir(world.path("registry").join(folder)).unwrap().count(), 0);
    }
    let tag = world.image("cars/a:v1");
    world.ok(&crane, &["append", "-f", "first.tar", "-t", &tag]);
    assert!(world.anonymous(&crane, &["validate", "--remote", &tag]).contains("PASS"));
}

#[test]
fn cosign_signs_attests_and_verifies_through_referrers() {
    let (Some(crane), Some(cosign)) = (peer("crane"), peer("cosign")) else { return };
    let world = World::start();
    let tag = world.image("cars/donkey:v1");
    world.ok(&crane, &["append", "-f", "first.tar", "-t", &tag]);
    let digest = world.anonymous(&crane, &["digest", &tag]).trim().to_owned();
    let image = world.image(&format!("cars/donkey@{digest}"));

    world.ok(&cosign, &["generate-key-pair"]);
    let offline =
        ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
    world.ok(
        &cosign,
        &[&["signing-config", "create", "--out", "offline.json"], &offline[..]].concat(),
    );
    let sign = ["sign", "--key", "cosign.key", "--signing-config", "offline.json", "-y", &image];
    world.fails(&cosign, &sign, "nobody");
    let verify = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", &image];
    world.fails(&cosign, &verify, "nobody");
    world.ok(&cosign, &sign);
    assert!(world.anonymous(&cosign, &verify).contains(&digest));

    fs::write(world.path("predicate.json"), r#"{"laps":3}"#).unwrap();
    let kind = "https://example.com/laps/v1";
    world.ok(
        &cosign,
        &[
            "attest",
            "--key",
            "cosign.key",
            "--signing-config",
            "offline.json",
            "-y",
            "--type",
            kind,
            "--predicate",
            "predicate.json",
            &image,
        ],
    );
    world.anonymous(
        &cosign,
        &[
            "verify-attestation",
            "--key",
            "cosign.pub",
            "--insecure-ignore-tlog",
            "--type",
            kind,
            &image,
        ],
    );

    // Both are referrers; the registry knows them, so no tag stands in for the list.
    let list = world.anonymous(&crane, &["ls", &world.image("cars/donkey")]);
    assert_eq!(list, "v1\n");
    let url = format!("http://{}/v2/cars/donkey/referrers/{digest}", world.host);
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let index = json(&world.anonymous(Path::new("curl"), &["-sf", &url]));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry["artifactType"] == bundle));

    // The older form, in tags.
    let old = ["--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"];
    world.ok(
        &cosign,
        &[&["sign", "--key", "cosign.key", "-y"], &old[..], &[image.as_str()]].concat(),
    );
    assert!(world.anonymous(&crane, &["ls", &world.image("cars/donkey")]).contains(".sig"));
}

#[test]
fn oras_attaches_discovers_and_pulls() {
    let (Some(crane), Some(oras)) = (peer("crane"), peer("oras")) else { return };
    let world = World::start();
    let tag = world.image("cars/donkey:v1");
    world.ok(&crane, &["append", "-f", "first.tar", "-t", &tag]);
    fs::write(world.path("card.yaml"), "kind: ModelCard\n").unwrap();
    world.fails(&oras, &["push", "--plain-http", &world.image("files:v1"), "card.yaml"], "nobody");
    world.ok(&oras, &["push", "--plain-http", &world.image("files:v1"), "card.yaml:text/yaml"]);
    let kind = "application/vnd.example.card";
    world.ok(
        &oras,
        &["attach", "--plain-http", "--artifact-type", kind, &tag, "card.yaml:text/yaml"],
    );
    let seen = world.anonymous(&oras, &["discover", "--plain-http", "--artifact-type", kind, &tag]);
    assert!(seen.contains(kind), "{seen}");
    let other =
        world.anonymous(&oras, &["discover", "--plain-http", "--artifact-type", "a/b", &tag]);
    assert!(!other.contains(kind), "{other}");
    world.anonymous(&oras, &["pull", "--plain-http", "-o", "out", &world.image("files:v1")]);
    assert_eq!(fs::read_to_string(world.path("out/card.yaml")).unwrap(), "kind: ModelCard\n");
}

#[test]
fn skopeo_copies_in_and_out_and_reads_the_folder() {
    let (Some(crane), Some(skopeo)) = (peer("crane"), peer("skopeo")) else { return };
    let world = World::start();
    let tag = world.image("cars/donkey:v1");
    world.ok(&crane, &["append", "-f", "first.tar", "-t", &tag]);
    let from = format!("docker://{tag}");
    world.anonymous(
        &skopeo,
        &["copy", "--src-tls-verify=false", "--insecure-policy", &from, "oci:local:v1"],
    );
    let to = format!("docker://{}", world.image("copied/by/skopeo:v1"));
    let push = ["copy", "--dest-tls-verify=false", "--insecure-policy", "oci:local:v1", &to];
    world.fails(&skopeo, &push, "nobody");
    world.ok(&skopeo, &push);
    let seen = json(&world.anonymous(&skopeo, &["inspect", "--tls-verify=false", &to]));
    assert_eq!(seen["RepoTags"], serde_json::json!(["v1"]));

    // The registry's folder is an OCI layout: readable without the registry.
    let folder = format!("oci:{}:copied/by/skopeo:v1", world.path("registry").display());
    let raw = ["inspect", "--raw", &folder];
    let tries = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(250));
        world.command(&skopeo, &raw, "nobody").output().unwrap()
    });
    let out = tries.take(20).find(|out| out.status.success()).expect("index.json follows the tags");
    assert!(json(&String::from_utf8(out.stdout).unwrap())["layers"].is_array());
}

#[test]
fn docker_logs_in_pushes_and_pulls() {
    let (Some(docker), Some(_)) = (peer("docker"), peer("dockerd")) else { return };
    let daemon = Daemon::start();
    let world = World::start();
    let tag = world.image("cars/from-docker:v1");
    let (host, server) = (Daemon::host(), world.host.clone());
    let args = |rest: &[&str]| {
        let mut all = vec!["--host".to_owned(), host.clone()];
        all.extend(rest.iter().map(|arg| (*arg).to_owned()));
        all
    };
    let run = |rest: &[&str], place: &str| {
        world.command(&docker, &[], place).args(args(rest)).output().unwrap()
    };
    let ok = |rest: &[&str], place: &str| {
        let out = run(rest, place);
        assert!(out.status.success(), "{rest:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    ok(&["import", "first.tar", &tag], "nobody");
    assert!(!run(&["push", &tag], "nobody").status.success());
    assert!(
        !run(&["login", "-u", "ci", "-p", "wrong-wrong-wrong-wrong", &server], "nobody")
            .status
            .success()
    );
    fs::create_dir(world.path("fresh")).unwrap();
    ok(&["login", "-u", "ci", "-p", TOKEN, &server], "fresh");
    let pushed = ok(&["push", &tag], "fresh");
    let digest = pushed.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    ok(&["rmi", &tag], "nobody");
    let pinned = world.image(&format!("cars/from-docker@{digest}"));
    ok(&["pull", &pinned], "nobody");
    ok(&["rmi", &pinned], "nobody");
    daemon.stop();
}
