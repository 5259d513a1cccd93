//! Keys that are not in the service, and keys of every kind: `SoftHSM`, OpenSSL and cosign.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    common::{
        Ran, is_root, json as parse,
        lane::{Lane, lapless, lenient, one_lap, quick, signed_by},
        peer, repository, run, skip, swap, write_secret,
    },
    peers_cosign::Cosign,
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "731946";

/// A `SoftHSM` token with one key pair.
struct Token {
    tool: PathBuf,
    dir: PathBuf,
}

impl Token {
    /// Makes the token; gives nothing where the programs are missing.
    fn new(dir: &Path) -> Option<Self> {
        let (util, tool) = (peer("softhsm2-util")?, peer("pkcs11-tool")?);
        let token = Self { tool, dir: dir.to_owned() };
        fs::create_dir_all(dir.join("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir.join("tokens").display()
        );
        fs::write(token.conf(), conf).unwrap();
        write_secret(&dir.join("pin"), PIN);
        let mut init = Command::new(util);
        init.args(["--init-token", "--free", "--label", "pitlane", "--pin", PIN]);
        run(init.args(["--so-pin", "0000"]).env("SOFTHSM2_CONF", token.conf())).ok();
        Some(token)
    }

    fn conf(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    fn tool(&self, args: &[&str]) -> Ran {
        let mut tool = Command::new(&self.tool);
        tool.args(["--module", MODULE, "--token-label", "pitlane"]).args(args);
        run(tool.env("SOFTHSM2_CONF", self.conf()))
    }

    /// Makes a key pair in the token, and writes its public half to a file.
    fn generate(&self, kind: &str, id: &str, public: &Path) {
        let make = ["--login", "--pin", PIN, "--keypairgen", "--key-type", kind, "--id", id];
        self.tool(&make).ok();
        let der = self.dir.join("public.der");
        let read = ["--read-object", "--type", "pubkey", "--id", id, "--output-file"];
        self.tool(&[&read[..], &[der.to_str().unwrap()]].concat()).ok();
        let body = STANDARD.encode(fs::read(der).unwrap());
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = lines.join("\n");
        fs::write(public, format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n"))
            .unwrap();
    }

    /// The lines of `sign:` that docs/keys.md gives.
    fn lines(&self, mechanism: &str, input: &str, id: &str, public: &Path) -> String {
        let (tool, conf) = (self.tool.display(), self.conf().display().to_string());
        let (pin, public) = (self.dir.join("pin").display().to_string(), public.display());
        format!(
            "    command: [{tool}, --module, {MODULE}, --token-label, pitlane, --login, --pin, \
             'env:PIN', --sign, --mechanism, {mechanism}, --id, '{id}', --signature-format, openssl]
    publicKey: {public}
    commandOptions:
      input: {input}
      env: {{ SOFTHSM2_CONF: {conf} }}
      secretEnv: {{ PIN: {pin} }}
"
        )
    }
}

fn config_check(lane: &Lane, pipeline: &Path) -> Ran {
    run(lane.pitlane().args(["config", "check"]).arg(pipeline))
}

#[test]
fn a_token_signs_what_the_service_releases() {
    let Some(program) = peer("cosign") else { return };
    let mut lane = Lane::new(quick, lapless);
    let Some(token) = Token::new(&lane.path("state/token")) else { return };
    let public = lane.path("state/keys/token.pub");
    token.generate("EC:prime256v1", "01", &public);
    let lines = token.lines("ECDSA", "digest", "01", &public);
    let pipeline = lane.pipeline_file("donkeycar", |text| signed_by(&quick(text), &lines));
    let said = config_check(&lane, &pipeline).ok();
    let found = &parse(&said)[0];
    assert_eq!(
        (&found["sign"]["by"], &found["sign"]["algorithm"]),
        (&"command".into(), &"ecdsa-p256".into())
    );
    assert!(found["laps"].is_null());

    lane.start();
    let index = lane.release("v1.0.0");
    let cosign = Cosign { program, lane };
    cosign.verify("token", &index).ok();
    cosign.verify("release", &index).fails();
    cosign.attested("token", "https://pitlane.dev/release/v1", &index).ok();
    let policy = cosign.lane.path("config/policy.yaml");
    let verdict = parse(cosign.lane.check_by(&policy, "token", &index, &[]).ok());
    assert_eq!(verdict["admitted"], true);
    let refused = cosign.lane.check_by(&policy, "release", &index, &[]);
    assert_eq!(parse(&refused.stdout)["refusal"]["code"], "wrong-signer");
    assert!(!cosign.lane.log().contains(PIN));

    // The token is pulled out, and put back.
    let (tokens, away) = (token.dir.join("tokens"), token.dir.join("away"));
    fs::rename(&tokens, &away).unwrap();
    cosign.lane.push_tag("v1.1.0");
    let failed = cosign.lane.wait("v1.1.0", "failed");
    assert_eq!(failed["error"]["code"], "attest-failed", "{failed:#}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("the signer"), "{failed:#}");
    let _ = fs::remove_dir_all(&tokens);
    fs::rename(&away, &tokens).unwrap();
    let mut retry = cosign.lane.pitlane();
    retry.args(["runs", "retry", failed["id"].as_str().unwrap(), "--api"]);
    retry.arg(cosign.lane.api_url()).arg("--token-file").arg(cosign.lane.path("state/api-token"));
    run(&mut retry).ok();
    let second = cosign.lane.image(&cosign.lane.wait("v1.1.0", "done"));
    cosign.verify("token", &second).ok();
    cosign.lane.stop_and_look(&token, &pipeline, &lines);
}

impl Lane {
    /// The refusals, before anything is signed.
    fn stop_and_look(mut self, token: &Token, pipeline: &Path, lines: &str) {
        self.stop();
        let public = self.path("state/keys/token.pub");
        let wrong_key = swap(lines, "token.pub", "release.pub");
        let wrong_input = swap(lines, "input: digest", "input: message");
        let no_token = swap(lines, "--token-label, pitlane", "--token-label, other");
        for (lines, want) in [
            (&wrong_key, "no signature by `publicKey`"),
            // An ECDSA mechanism that takes the first bytes of whatever comes.
            (&wrong_input, "signer"),
            (&no_token, "signer"),
        ] {
            self.pipeline_file("donkeycar", |text| signed_by(&quick(text), lines));
            let said = config_check(&self, pipeline).fails();
            assert!(said.contains(want), "{said}");
        }
        self.pipeline_file("donkeycar", |text| signed_by(&quick(text), lines));
        config_check(&self, pipeline).ok();
        write_secret(&token.dir.join("pin"), "999999");
        let said = config_check(&self, pipeline).fails();
        assert!(said.contains("CKR_PIN_INCORRECT") && !said.contains("999999"), "{said}");
        assert!(public.exists());
    }
}

/// The other mechanisms of the page: RSA wants the message.
#[test]
fn a_token_signs_with_rsa() {
    let lane = Lane::new(quick, lapless);
    let Some(token) = Token::new(&lane.path("state/token")) else { return };
    let public = lane.path("state/keys/token.pub");
    token.generate("rsa:2048", "02", &public);
    let lines = token.lines("SHA256-RSA-PKCS", "message", "02", &public);
    let pipeline = lane.pipeline_file("donkeycar", |text| signed_by(&quick(text), &lines));
    let found = config_check(&lane, &pipeline).ok();
    assert_eq!(parse(&found)[0]["sign"]["algorithm"], "rsa");
}

/// What OpenSSL makes, cosign and we take over; what we sign with it, cosign treats as its own.
#[test]
fn keys_of_every_kind_are_cosigns_too() {
    let (Some(program), Some(openssl)) = (peer("cosign"), peer("openssl")) else { return };
    let Some(crane) = peer("crane") else { return };
    let cosign = Cosign { program, lane: Lane::quick() };
    let lane = &cosign.lane;
    let offline = cosign.offline();
    let base = lane.side_pipeline("keys", quick);
    let (password, keys) = (lane.path("state/keys/password"), lane.path("state/keys"));
    // cosign 3.1 signs with P-384 by SHA-384 and verifies by SHA-256, and signs with Ed25519
    // prehashed and verifies plain: it does not know its own signatures again.
    let table: [(&str, &[&str], bool); 4] = [
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], true),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], true),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], true),
        ("ed25519", &["-algorithm", "ed25519"], false),
    ];
    for (number, (name, args, same_scheme)) in table.into_iter().enumerate() {
        let pem = lane.path(&format!("{name}.pem"));
        write_secret(&pem, "");
        run(Command::new(&openssl).arg("genpkey").args(args).arg("-out").arg(&pem)).ok();
        // Ours and cosign's import of the same file.
        let mut import = lane.pitlane();
        import.args(["keys", "import", "--name", name, "--out"]).arg(&keys).arg("--key").arg(&pem);
        run(import.arg("--password-file").arg(&password)).ok();
        let theirs = format!("cosign-{name}");
        let file = format!("{name}.pem");
        cosign.run(&["import-key-pair", "--key", &file, "--output-key-prefix", &theirs]).ok();
        let public = fs::read_to_string(keys.join(format!("{name}.pub"))).unwrap();
        let of_theirs = fs::read_to_string(lane.path(&format!("{theirs}.pub"))).unwrap();
        assert_eq!(public.trim(), of_theirs.trim());
        let mut print = lane.pitlane();
        print.args(["keys", "public", "--key"]).arg(lane.path(&format!("{theirs}.key")));
        let printed = run(print.env("COSIGN_PASSWORD", "cosign")).ok();
        assert_eq!(printed.trim(), public.trim());

        // A release with the plain PKCS#8 file, by ourselves and by cosign.
        let tag = format!("v1.{number}.0");
        // Each key counts for itself, so it is told the number.
        let counter = (number + 1).to_string();
        let key = ["--key", pem.to_str().unwrap(), "--counter", &counter];
        let made = lane.one_shot(&tag, &base, &key);
        let image = parse(made.ok())["image"].as_str().unwrap().to_owned();
        let policy = lane.path("config/policy.yaml");
        assert_eq!(parse(lane.check_by(&policy, name, &image, &[]).ok())["admitted"], true);
        let ours = cosign.verify(name, &image);
        // The same image elsewhere, signed by cosign with the same key.
        let digest = image.split('@').nth(1).unwrap();
        let elsewhere = format!("{}/team/{name}@{digest}", lane.registry);
        let mut copy = Command::new(&crane);
        copy.args(["copy", &image, &format!("{}/team/{name}:v1", lane.registry)]);
        run(copy.env("DOCKER_CONFIG", lane.dir.path())).ok();
        let key = format!("{theirs}.key");
        cosign.run(&["sign", "-y", "--signing-config", offline, "--key", &key, &elsewhere]).ok();
        let own = cosign.verify(name, &elsewhere);
        let signed = repository().join("policies/signed.yaml");
        let we_admit = lane.check_by(&signed, name, &elsewhere, &[]).code == Some(0);
        eprintln!(
            "{name}: cosign of ours {:?}, of its own {:?}; we of cosign's {we_admit}",
            ours.code, own.code
        );
        assert_eq!(we_admit, same_scheme, "{name}");
        match same_scheme {
            true => {
                let accepts = |ran: &Ran| ran.code == Some(0);
                assert_eq!(accepts(&ours), accepts(&own), "{name}: {ours:?} {own:?}");
            }
            // Plain Ed25519, which is what tokens and bundles mean by it.
            false => drop(ours.ok()),
        }
    }
}

/// Laps under a key of their own: the release key alone does not vouch for them.
#[test]
fn laps_may_have_a_key_of_their_own() {
    let Some(program) = peer("cosign") else { return };
    if !is_root() {
        return skip("the jail of `prove` is tested as root");
    }
    let both = |text: &str| {
        let release = "    - name: release\n";
        let laps = "    - name: laps\n      key: { secretRef: { name: laps } }\n";
        swap(&lenient(text), release, &format!("{laps}{release}"))
    };
    let mut lane = Lane::new(one_lap, both);
    let keys = lane.path("state/keys");
    lane.keys("laps");
    let (key, password) = (keys.join("laps.key"), keys.join("password"));
    let (release, laps) = (keys.join("release.pub"), keys.join("laps.pub"));
    let with_laps = |text: &str| {
        let text = swap(
            &one_lap(text),
            "  sign:\n",
            &format!(
                "  sign:\n    laps: {{ key: {}, passwordFile: {} }}\n",
                key.display(),
                password.display()
            ),
        );
        let names = format!(
            "  policyKeys: {{ release: {}, laps: {} }}\n  policy: ",
            release.display(),
            laps.display()
        );
        swap(&text, "  policy: ", &names)
    };
    let pipeline = lane.pipeline_file("donkeycar", with_laps);
    let found = parse(config_check(&lane, &pipeline).ok());
    assert_ne!(found[0]["laps"]["key"], found[0]["sign"]["key"]);
    // A name that the map lacks is nobody's, not silently the release key's.
    let cut = lane.pipeline_file("cut", |text| {
        swap(&with_laps(text), &format!(", laps: {}", laps.display()), "")
    });
    let said = config_check(&lane, &cut).fails();
    assert!(said.contains("`laps`") && said.contains("policyKeys"), "{said}");

    lane.start();
    let index = lane.release("v1.0.0");
    let image = format!("{}@{}", lane.images(), lane.platform(&index, "amd64"));
    let cosign = Cosign { program, lane };
    let lap = "https://pitlane.dev/lap/v1";
    cosign.attested("laps", lap, &image).ok();
    cosign.attested("release", lap, &image).fails();
    cosign.attested("release", "slsaprovenance1", &image).ok();
    cosign.attested("laps", "slsaprovenance1", &image).fails();
    cosign.attested("release", "https://pitlane.dev/release/v1", &index).ok();
    let check = |laps: &Path| {
        let mut command = Command::new(crate::common::bin("pitlane-verifier"));
        command.args(["check", &index, "--output", "json", "--policy"]);
        command.arg(cosign.lane.path("config/policy.yaml"));
        for (name, file) in [("release", release.as_path()), ("laps", laps)] {
            command.arg("--key").arg(format!("{name}={}", file.display()));
        }
        run(&mut command)
    };
    assert_eq!(parse(check(&laps).ok())["admitted"], true);
    // Whoever does not know the lap key has a release without laps.
    assert_eq!(parse(check(&release).stdout)["refusal"]["code"], "wrong-signer");
}
