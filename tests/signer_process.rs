//! `pitlane signer`: a real process, callers that ask for too much, and a release of a service
//! that cannot read the key.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_pipeline::sign::apart::wire::{Ask, MAX_REQUEST, Request, line};
use pitlane_release::{
    Digest, bundle,
    key::PublicKey,
    statement::{COSIGN_SIGN, PAYLOAD_TYPE, STATEMENT_V1},
};
use serde_json::{Value, json};

use crate::common::{
    Process, bin, copy, is_root, json as parse,
    lane::{Lane, lapless, quick, signed_by},
    made, run, skip, swap, until,
};

/// `nobody` of Debian, and its group.
const NOBODY: &str = "65534";
/// Longest that an answer may take; silence is cut after 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A signer with a key of its own.
struct Desk {
    lane: Lane,
    socket: PathBuf,
    process: Option<Process>,
}

impl Desk {
    fn new() -> Self {
        let lane = Lane::new(quick, lapless);
        fs::set_permissions(lane.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where the service's user cannot look.
        let apart = lane.path("signer");
        fs::create_dir(&apart).unwrap();
        fs::set_permissions(&apart, fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["release.key", "password"] {
            fs::rename(lane.path("state/keys").join(name), apart.join(name)).unwrap();
        }
        let socket = lane.path("signer.sock");
        Self { lane, socket, process: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lane.pitlane();
        command.arg("signer").arg("--key").arg(self.lane.path("signer/release.key"));
        command.arg("--password-file").arg(self.lane.path("signer/password"));
        command.arg("--socket").arg(&self.socket).args(args);
        command
    }

    fn start(&mut self, args: &[&str]) {
        self.process = None;
        let mut command = self.command(args);
        self.process = Some(Process::server(&mut command, &self.lane.path("signer.log")).0);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.lane.path("signer.log")).unwrap()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What is answered to these bytes.
    fn say(&self, bytes: &[u8]) -> Value {
        let mut stream = self.connect();
        // Who says too much may find the door closed.
        drop(stream.write_all(bytes));
        listen(stream)
    }

    fn ask(&self, ask: Ask, payload: &[u8]) -> Value {
        self.say(&line(&Request::sign(ask, payload)))
    }

    fn key(&self) -> PublicKey {
        let pem = fs::read_to_string(self.lane.path("state/keys/release.pub")).unwrap();
        PublicKey::from_pem(&pem).unwrap()
    }

    /// It still signs what it should.
    fn signs(&self) {
        let payload = statement(COSIGN_SIGN).to_string();
        let answer = self.ask(Ask::Statement, payload.as_bytes());
        let signature = STANDARD.decode(answer["signature"].as_str().unwrap()).unwrap();
        let sealed = bundle::seal(payload.as_bytes(), "hint", |pae| {
            assert!(self.key().verifies(pae, &signature), "{answer}");
            Ok::<_, ()>(signature.clone())
        });
        assert!(String::from_utf8(sealed.unwrap()).unwrap().contains(PAYLOAD_TYPE));
    }
}

fn listen(mut stream: UnixStream) -> Value {
    let mut answer = String::new();
    // A connection that is closed while we still send ends with an error after the answer.
    drop(stream.read_to_string(&mut answer));
    parse(answer)
}

fn statement(kind: &str) -> Value {
    json!({
        "_type": STATEMENT_V1, "predicateType": kind, "predicate": {},
        "subject": [{ "digest": { "sha256": Digest::of("image").hex() } }],
    })
}

/// What somebody else's program is told.
fn as_nobody(socket: &Path) -> String {
    let client = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.connect(sys.argv[1])\n\
                  try: s.sendall(b'{\"ask\":\"publicKey\"}\\n')\n\
                  except BrokenPipeError: pass # it was answered before it asked\n\
                  print(s.recv(65536).decode())\n";
    // Not that of a home, which others cannot enter.
    let mut command = nobody("/usr/bin/python3");
    let ran = run(command.args(["-c", client]).arg(socket));
    ran.stdout + &ran.stderr
}

fn nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

#[test]
fn it_signs_statements_and_nothing_else() {
    let mut desk = Desk::new();
    desk.start(&[]);
    assert_eq!(fs::metadata(&desk.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let told = desk.say(b"{\"ask\":\"publicKey\"}\n");
    assert_eq!(PublicKey::from_pem(told["publicKey"].as_str().unwrap()).unwrap(), desk.key());
    desk.signs();
    let digest = Digest::of("a message of somebody's choice");
    for (payload, code) in [
        (digest.as_bytes().to_vec(), "statement"),
        (digest.hex().into_bytes(), "statement"),
        (statement("https://example.org/mine/v1").to_string().into_bytes(), "predicate"),
        (statement("https://pitlane.dev/release/v1").to_string().into_bytes(), "statement"),
        (vec![b' '; 3 * 1024 * 1024 + 1], "too-large"),
    ] {
        let answer = desk.ask(Ask::Statement, &payload);
        assert_eq!(answer["refused"]["code"], code, "{answer}");
        desk.signs();
    }
    let raw = json!({ "ask": "digest", "payload": STANDARD.encode(digest.as_bytes()) });
    let flood = vec![b'x'; MAX_REQUEST + 64 * 1024];
    for (bytes, code) in [
        (raw.to_string().into_bytes(), "request"),
        (b"\x00\xff\x17rubbish\n".to_vec(), "request"),
        (b"\n".to_vec(), "request"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "request"),
        (flood, "too-large"),
    ] {
        let answer = desk.say(&[&bytes[..], b"\n"].concat());
        assert_eq!(answer["refused"]["code"], code, "{answer}");
    }
    let simple = desk.ask(Ask::SimpleSigning, b"{\"critical\":{}}");
    assert_eq!(simple["refused"]["code"], "simple-signing", "{simple}");

    // Half a request, then silence; and somebody who leaves.
    let (began, mut half) = (Instant::now(), desk.connect());
    half.write_all(b"{\"ask\":\"pub").unwrap();
    let mut gone = desk.connect();
    gone.write_all(b"{").unwrap();
    drop(gone);
    desk.signs();
    assert_eq!(listen(half)["refused"]["code"], "slow");
    assert!((4..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());

    // As many silent ones as there is room for: the next is told so at once.
    let silent: Vec<UnixStream> = (0..8).map(|_| desk.connect()).collect();
    let busy = until(4, "it is full", || {
        let answer = desk.say(b"{\"ask\":\"publicKey\"}\n");
        answer["refused"].is_object().then_some(answer)
    });
    assert_eq!(busy["refused"]["code"], "busy", "{busy}");
    for stream in silent {
        assert_eq!(listen(stream)["refused"]["code"], "slow");
    }
    desk.signs();

    let log = desk.log();
    let signed = log.lines().filter(|line| line.contains(" signed ")).count();
    assert_eq!(signed, 8, "one line each: {log}");
    let subject = Digest::of("image").to_string();
    assert!(log.contains(&subject) && log.contains(COSIGN_SIGN), "{log}");
    let secret = fs::read_to_string(desk.lane.path("signer/password")).unwrap();
    assert!(!log.contains(secret.trim()) && !log.contains("PRIVATE"), "{log}");
    // Another process of the same user cannot read its memory.
    let owner = fs::metadata(format!("/proc/{}/mem", desk.process.as_ref().unwrap().id()));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner.unwrap()), 0, "not dumpable");

    // A second one has no place; one that was killed leaves it; one that is told to end clears up.
    let second = run(&mut desk.command(&[])).fails();
    assert!(second.contains("another signer listens"), "{second}");
    desk.process.as_mut().unwrap().kill();
    assert!(desk.socket.exists());
    desk.start(&["--per-minute", "3"]);
    let mut codes: Vec<String> = Vec::new();
    for _ in 0..5 {
        let answer = desk.say(b"{\"ask\":\"publicKey\"}\n");
        codes.push(answer["refused"]["code"].as_str().unwrap_or("answered").to_owned());
    }
    assert_eq!(codes, ["answered", "answered", "answered", "rate", "rate"]);
    assert!(desk.process.take().unwrap().terminate().success());
    assert!(!desk.socket.exists());
    fs::write(&desk.socket, "a file of somebody's").unwrap();
    let there = run(&mut desk.command(&[])).fails();
    assert!(there.contains("something else is there"), "{there}");
    let unknown = run(&mut desk.command(&["--predicate", "https://example.org/x"])).fails();
    assert!(unknown.contains("no type that pipelines make"), "{unknown}");
}

#[test]
fn users_that_are_not_on_the_list_are_refused() {
    if !is_root() {
        return skip("another user's call is tested as root");
    }
    let mut desk = Desk::new();
    desk.start(&[]);
    let kept_out = as_nobody(&desk.socket);
    assert!(kept_out.contains("PermissionError"), "the file's mode: {kept_out}");
    // The mode lets it in; the kernel tells who it is.
    desk.start(&["--group", NOBODY]);
    assert_eq!(fs::metadata(&desk.socket).unwrap().permissions().mode() & 0o777, 0o660);
    let refused = as_nobody(&desk.socket);
    assert_eq!(parse(&refused)["refused"]["code"], "peer", "{refused}");
    desk.signs();
    desk.start(&["--group", NOBODY, "--allow-user", "nobody"]);
    assert!(parse(as_nobody(&desk.socket))["publicKey"].is_string());
    // Root is a user like any other here.
    assert_eq!(desk.say(b"{\"ask\":\"publicKey\"}\n")["refused"]["code"], "peer");
    assert!(desk.log().contains("user 65534 is not on the list"), "{}", desk.log());
}

#[test]
fn a_service_without_the_key_releases() {
    if !is_root() {
        return skip("a service of another user is tested as root");
    }
    let mut desk = Desk::new();
    desk.start(&["--group", NOBODY, "--allow-user", NOBODY]);
    let lane = &desk.lane;
    // All that the service opens, where its user can.
    let programs = lane.path("programs");
    fs::create_dir_all(programs.join("layout")).unwrap();
    fs::create_dir_all(programs.join("arm64")).unwrap();
    copy(&made("target/base/layout"), &programs.join("layout"));
    let arm64 = made("target/arm64/pitlane-car");
    for (from, to) in [
        (bin("pitlane"), "pitlane"),
        (bin("pitlane-twin"), "pitlane-twin"),
        (bin("pitlane-car"), "pitlane-car"),
        (arm64.clone(), "arm64/pitlane-car"),
    ] {
        fs::copy(from, programs.join(to)).unwrap();
    }
    let public = lane.path("state/keys/release.pub");
    let (socket, pem) = (desk.socket.display(), public.display());
    let sign = format!("    socket: {socket}\n    publicKey: {pem}\n    sigTags: true\n");
    lane.pipeline_file("donkeycar", |text| {
        let text = signed_by(&quick(text), &sign);
        let moved = |text: String, from: PathBuf, to: &str| {
            swap(&text, from.to_str().unwrap(), programs.join(to).to_str().unwrap())
        };
        let text = moved(text, made("target/base/layout"), "layout");
        moved(moved(text, bin("pitlane-car"), "pitlane-car"), arm64.clone(), "arm64/pitlane-car")
    });
    lane.push_tag("v1.0.0");
    let named = |name: &str| lane.git(&lane.bare("donkeycar"), &["rev-parse", name]);
    let (tag, commit) = (named("v1.0.0"), named("v1.0.0^{commit}"));
    for place in ["state", "config", "programs", "donkeycar-tree", "gitops-tree"] {
        let owned = Command::new("chown").args(["-R", NOBODY]).arg(lane.path(place)).status();
        assert!(owned.unwrap().success());
    }
    let key = lane.path("signer/release.key");
    run(nobody("cat").arg(&key)).fails();

    let mut check = nobody(programs.join("pitlane"));
    check.args(["config", "check"]).arg(lane.path("config/donkeycar.yaml"));
    let found = parse(run(&mut check).ok());
    assert_eq!(found[0]["sign"]["by"], "socket", "{found}");
    let mut command = nobody(programs.join("pitlane"));
    command.args(["--log", "info", "serve", "--config"]).arg(lane.path("config/service.yaml"));
    command.env_remove("COSIGN_PASSWORD");
    let (service, _) = Process::server(&mut command, &lane.path("service.log"));
    let owner = fs::metadata(format!("/proc/{}", service.id())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner).to_string(), NOBODY);

    let body = json!({
        "ref": "refs/tags/v1.0.0", "before": "0".repeat(40), "after": tag,
        "created": true, "deleted": false, "forced": false,
        "head_commit": { "id": commit },
        "repository": { "full_name": "team/donkeycar" },
    });
    let secret = fs::read_to_string(lane.path("state/webhook-secret")).unwrap();
    let answer = lane.deliver("one", body.to_string().as_bytes(), secret.trim());
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let image = lane.image(&lane.wait("v1.0.0", "done"));
    let verdict = parse(lane.check(&image, &["--layers"]).ok());
    assert_eq!(verdict["admitted"], true, "{verdict}");
    let index = image.split('@').nth(1).unwrap().replace(':', "-");
    let signatures = lane.manifest(&format!("{index}.sig"));
    assert_eq!(signatures["layers"].as_array().unwrap().len(), 1, "{signatures:#}");

    // 10 bundles without laps and golden frames, 3 for `.sig` tags.
    let log = desk.log();
    let signed = log.lines().filter(|line| line.contains(" signed ")).count();
    assert_eq!(signed, 9 + 3, "{log}");
    assert!(!lane.log().contains("BEGIN"), "{}", lane.log());
    drop(service);

    // Another key behind the socket is found before anything is signed by it.
    lane.keys_at("other", &lane.path("signer"));
    let mut wrong = nobody(programs.join("pitlane"));
    desk.process = None;
    let mut other = desk.lane.pitlane();
    other.arg("signer").arg("--key").arg(desk.lane.path("signer/other.key"));
    other.arg("--password-file").arg(desk.lane.path("signer/password"));
    other.args(["--group", NOBODY, "--allow-user", NOBODY, "--socket"]).arg(&desk.socket);
    let _other = Process::server(&mut other, &desk.lane.path("signer.log"));
    wrong.args(["config", "check"]).arg(desk.lane.path("config/donkeycar.yaml"));
    let said = run(&mut wrong).fails();
    assert!(said.contains("the signer has the key"), "{said}");
}

#[test]
fn the_unit_of_the_page_is_closed() {
    let Some(analyze) = crate::common::peer("systemd-analyze") else { return };
    let page = fs::read_to_string(crate::common::repository().join("docs/keys.md")).unwrap();
    let unit = page.split("```ini\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pitlane-signer.service");
    let program = bin("pitlane");
    let write = |text: &str| {
        fs::write(&file, swap(text, "/usr/local/bin/pitlane", program.to_str().unwrap())).unwrap();
    };
    write(unit);
    let said = run(Command::new(&analyze).arg("verify").arg(&file));
    assert!(said.code == Some(0) && said.stderr.trim().is_empty(), "{said:?}");
    // At most 0.9 of 10, as systemd counts exposure; without one of its walls it is more.
    let judge = |text: &str| {
        write(text);
        let mut command = Command::new(&analyze);
        run(command.args(["security", "--offline=true", "--threshold=9"]).arg(&file))
    };
    judge(unit).ok();
    for wall in ["CapabilityBoundingSet=\n", "PrivateNetwork=yes\n", "ProtectSystem=strict\n"] {
        judge(&swap(unit, wall, "")).fails();
    }
    // The program knows these arguments.
    let start = unit.split("ExecStart=/usr/local/bin/pitlane ").nth(1).unwrap();
    let start = start.split("\nRestart").next().unwrap().replace("\\\n", " ");
    let mut dry = Command::new(program);
    let said = run(dry.args(start.split_whitespace()).args(["--allow-user", "0"])).fails();
    assert!(said.contains("no user `pitlane`") || said.contains("cannot be read"), "{said}");
}
