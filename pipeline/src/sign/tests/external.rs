//! Programs that sign, and programs that do something else.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{ALL, fresh};
use crate::sign::{Algorithm, CommandOptions, Input, KeySource, Signer};

const MESSAGE: &[u8] = b"DSSEv1 28 application/vnd.in-toto+json 2 {}";

/// A folder with a public key, and a signature by its key of [`MESSAGE`] in the file `answer`.
struct Bench {
    dir: tempfile::TempDir,
    key: Signer,
}

impl Bench {
    fn new(algorithm: Algorithm) -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            key: Signer::from_pkcs8(&fresh(algorithm)).unwrap(),
        };
        bench.write("key.pub", bench.key.public().unwrap().to_pem().as_bytes());
        bench.write("answer", &bench.key.sign(MESSAGE).unwrap());
        bench
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    fn signer(&self, script: &str, options: CommandOptions) -> anyhow::Result<Signer> {
        let mut source = KeySource {
            command: Some(["sh", "-c", script].map(str::to_owned).into()),
            public_key: Some("key.pub".into()),
            command_options: options,
            ..KeySource::default()
        };
        source.rebase(self.path());
        Signer::of(&source, self.path())
    }

    fn sign(&self, script: &str) -> anyhow::Result<Vec<u8>> {
        let options = CommandOptions { timeout_seconds: 5, ..CommandOptions::default() };
        self.signer(script, options).unwrap().sign(MESSAGE)
    }
}

/// `r ‖ s` of a DER signature.
fn pair(der: &[u8], half: usize) -> Vec<u8> {
    let mut pair = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (integer, after) = rest[2..].split_at(rest[1].into());
        let digits = &integer[integer.iter().position(|b| *b != 0).unwrap()..];
        pair.extend(vec![0; half - digits.len()]);
        pair.extend(digits);
        rest = after;
    }
    pair
}

#[test]
fn answers_are_understood_as_tools_give_them() {
    for algorithm in ALL {
        let bench = Bench::new(algorithm);
        let raw = fs::read(bench.path().join("answer")).unwrap();
        let mut answers = vec![raw.clone()];
        match algorithm {
            Algorithm::EcdsaP256 => answers.push(pair(&raw, 32)),
            Algorithm::EcdsaP384 => answers.push(pair(&raw, 48)),
            Algorithm::Ed25519 | Algorithm::Rsa => {}
        }
        for bytes in answers {
            let lines = STANDARD.encode(&bytes).into_bytes();
            let lines = lines.chunks(64).collect::<Vec<_>>().join(&b"\r\n"[..]);
            for text in [bytes.clone(), lines, URL_SAFE_NO_PAD.encode(&bytes).into_bytes()] {
                bench.write("answer", &text);
                assert_eq!(bench.sign("cat answer").unwrap(), raw, "{algorithm:?}");
            }
        }
    }
}

#[test]
fn small_numbers_become_short_der() {
    // Leading zeros and set top bits, which a random signature has one time in 256 and in 2.
    let bench = Bench::new(Algorithm::EcdsaP256);
    for _ in 0..600 {
        let raw = bench.key.sign(MESSAGE).unwrap();
        assert_eq!(super::super::external::der_of(&pair(&raw, 32)), raw);
    }
}

#[test]
fn it_gets_what_is_written_down_and_nothing_else() {
    let bench = Bench::new(Algorithm::EcdsaP384);
    bench.write("pin", b"1234\n");
    let pin = bench.path().join("pin");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let options = CommandOptions {
        input: Input::Digest,
        env: [("MODULE".to_owned(), "m.so".to_owned())].into(),
        secret_env: [("PIN".to_owned(), "pin".into())].into(),
        inherit_env: vec!["HOME".into()],
        ..CommandOptions::default()
    };
    let signer = bench.signer("cat > input; env > seen; cat answer", options.clone()).unwrap();
    assert_eq!(signer.kind(), "command");
    signer.sign(MESSAGE).unwrap();
    let hash = signer.algorithm().unwrap().hash().unwrap();
    assert_eq!(fs::read(bench.path().join("input")).unwrap(), hash.of(MESSAGE));
    let seen = fs::read_to_string(bench.path().join("seen")).unwrap();
    let mut seen: Vec<&str> = seen
        .lines()
        .filter(|l| !["PWD=", "SHLVL=", "_="].iter().any(|p| l.starts_with(p)))
        .collect();
    seen.sort_unstable();
    let mut want = [
        "MODULE=m.so".to_owned(),
        "PIN=1234".into(),
        format!("HOME={}", std::env::var("HOME").unwrap()),
        format!("PATH={}", std::env::var("PATH").unwrap()),
        "PITLANE_SIGN_ALGORITHM=ecdsa-p384".into(),
        "PITLANE_SIGN_HASH=sha384".into(),
        format!("PITLANE_SIGN_DIGEST={}", hex::encode(hash.of(MESSAGE))),
        format!("PITLANE_SIGN_KEY_ID={}", signer.public().unwrap().id()),
    ];
    want.sort_unstable();
    assert_eq!(seen, want);
    // The message itself, by default.
    bench.sign("cat > input; cat answer").unwrap();
    assert_eq!(fs::read(bench.path().join("input")).unwrap(), MESSAGE);
    // Secrets that others may read, and what it may complain of.
    fs::write(bench.path().join("stranger.pub"), "").unwrap();
    let loud = bench.signer("echo the PIN $PIN is wrong >&2; exit 3", options.clone()).unwrap();
    let error = loud.sign(MESSAGE).unwrap_err().to_string();
    assert!(error.contains("the PIN *** is wrong") && !error.contains("1234"), "{error}");
    let loud = bench.signer("echo no profile in $HOME/.aws >&2; exit 3", options.clone()).unwrap();
    let error = loud.sign(MESSAGE).unwrap_err().to_string();
    assert!(error.contains("no profile in ***/.aws"), "{error}");
    // The cut goes through a secret, of which the rest would be shown.
    fs::write(&pin, "correct horse battery staple\n").unwrap();
    let script = "printf %s \"$PIN\" >&2; head -c 2030 /dev/zero | tr '\\0' x >&2; exit 3";
    let error = bench.signer(script, options.clone()).unwrap().sign(MESSAGE).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("said: ***xxx") && !error.contains("staple"), "{error:.200}");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let error = bench.signer("true", options).unwrap_err().to_string();
    assert!(error.contains("mode 644"), "{error}");
    let options =
        CommandOptions { inherit_env: vec!["NOT_SET_ANYWHERE".into()], ..Default::default() };
    let error = bench.signer("true", options).unwrap_err().to_string();
    assert!(error.contains("NOT_SET_ANYWHERE"), "{error}");
}

#[test]
fn a_signer_that_misbehaves_signs_nothing() {
    let bench = Bench::new(Algorithm::EcdsaP256);
    let stranger = Bench::new(Algorithm::EcdsaP256);
    bench.write("other-key", &stranger.key.sign(MESSAGE).unwrap());
    bench.write("other-message", &bench.key.sign(b"something else").unwrap());
    bench.write("zero", &[0; 64]);
    for (script, want) in [
        ("echo rubbish", "no signature by `publicKey`"),
        ("true", "answered 0 bytes"),
        ("cat zero", "no signature by `publicKey`"),
        ("cat other-key", "is it another key"),
        ("cat other-message", "no signature by `publicKey`"),
        ("cat answer; exit 7", "exit status: 7"),
        ("echo no token here >&2; exit 1", "it said: no token here"),
        ("printf 'bad\\033[2Jterminal' >&2; exit 1", "it said: bad [2Jterminal"),
        ("yes", "more than 8192 bytes"),
        ("kill -9 $$", "signal: 9"),
    ] {
        let error = bench.sign(script).unwrap_err().to_string();
        assert!(error.contains(want), "{script}: {error}");
    }
    let mut absent = KeySource {
        command: Some(vec!["no-such-signer".into()]),
        public_key: Some("key.pub".into()),
        ..KeySource::default()
    };
    absent.rebase(bench.path());
    let error = Signer::of(&absent, bench.path()).unwrap().try_out().unwrap_err().to_string();
    assert!(error.contains("`no-such-signer` cannot be started"), "{error}");
    // Too much to complain of is cut, and not kept in memory.
    let error = bench.sign("yes no | head -c 5000000 >&2; exit 1").unwrap_err().to_string();
    assert!(error.len() < 3000, "{}", error.len());
}

#[test]
fn one_that_hangs_is_killed_with_its_process_group() {
    let bench = Bench::new(Algorithm::EcdsaP256);
    let options = CommandOptions { timeout_seconds: 1, ..CommandOptions::default() };
    for script in [
        "sleep 1000 & echo $! > child; wait",
        // Its answer is there, but a child keeps stdout open.
        "sleep 1000 & echo $! > child; cat answer",
    ] {
        let began = Instant::now();
        let signer = bench.signer(script, options.clone()).unwrap();
        let error = signer.sign(MESSAGE).unwrap_err().to_string();
        assert!(error.contains("did not end within 1s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
        let child = fs::read_to_string(bench.path().join("child")).unwrap();
        let gone = || match fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < end, "{script}: {child} still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_when_it_is_opened() {
    let bench = Bench::new(Algorithm::Ed25519);
    let options = CommandOptions { input: Input::Digest, ..CommandOptions::default() };
    let error = bench.signer("true", options).unwrap_err().to_string();
    assert!(error.contains("ed25519") && error.contains("input: digest"), "{error}");
    bench.write("key.pub", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    let error = format!("{:#}", bench.signer("true", CommandOptions::default()).unwrap_err());
    assert!(error.contains("key.pub"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_service_goes_on_while_a_program_signs() {
    let bench = Bench::new(Algorithm::EcdsaP256);
    let beats = tokio::spawn(async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        began.elapsed()
    });
    let signer = bench.signer("sleep 1; cat answer", CommandOptions::default()).unwrap();
    tokio::spawn(async move { signer.sign(MESSAGE).map(drop) }).await.unwrap().unwrap();
    let late = beats.await.unwrap();
    assert!(late < Duration::from_millis(900), "the only worker was blocked for {late:?}");
}
