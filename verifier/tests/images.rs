//! Public images with real signatures, through the program, offline: what others signed with
//! cosign, keyless and with keys, before there were bundles. And policies that others wrote.
//!
//! Images and verdicts come from `conformance/images`, policies from `conformance/policy`.

#[cfg(test)]
mod cases {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process::Command,
    };

    use pitlane_fetch::{
        Layout, Source,
        gather::{gather, signed},
    };
    use pitlane_release::{
        Evidence, Floor, ImageRef, Platform, Policy, Question, Verdict, admit,
        evidence::LegacyLayer,
    };
    use serde_json::Value;

    /// The shared data, or why there is none.
    fn shared(part: &str) -> Option<PathBuf> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let dir = env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
        let dir = dir.join("conformance").join(part);
        if dir.is_dir() {
            return Some(dir);
        }
        let missing = dir.display();
        assert!(env::var("CI").as_deref() != Ok("true"), "CI=true, but {missing} is missing");
        eprintln!("SKIP: {missing} is missing (set PITLANE_SHARED)");
        None
    }

    /// The policy that asks what the case asks cosign.
    fn policy(case: &Value, images: &Path) -> String {
        let text = |name: &str| case[name].as_str().unwrap_or_default();
        let authority = match case["key"].as_str() {
            Some(key) => {
                let pem = fs::read_to_string(images.join("keys").join(key)).unwrap();
                format!(
                    "key:\n        data: |\n          {}",
                    pem.trim().replace('\n', "\n          ")
                )
            }
            None => format!(
                "keyless:\n        identities:\n          - subject: {}\n            issuer: {}",
                text("identity"),
                text("issuer")
            ),
        };
        let attestations = match text("kind") {
            "attestation" => format!(
                "\n      attestations: [{{ name: asked, predicateType: {} }}]",
                text("type")
            ),
            _ => String::new(),
        };
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{ name: case }}\n\
             spec:\n  images: [{{ glob: '**' }}]\n  authorities:\n    - name: signer\n      {authority}{attestations}\n"
        )
    }

    /// The verdict on an image whose config is not there.
    fn signature_alone(case: &Value, images: &Path, layout: &Path) -> Verdict {
        let image: ImageRef = format!("images.example/case@{}", digest(layout)).parse().unwrap();
        let policy = Policy::parse(&policy(case, images), &|_: &str| None).unwrap();
        let source = Source::Layout(Layout::open(layout).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (repository, digest) = (&image.repository, image.digest.unwrap());
        let signed = signed(&source, &policy, repository, &digest);
        let signed = runtime.block_on(signed).unwrap();
        let top = runtime.block_on(source.manifest(repository, &digest.to_string())).unwrap();
        let evidence = Evidence {
            requested: repository.pin(digest),
            manifest: Some(top.clone()),
            top,
            config: None,
            bundles: signed.bundles,
            legacy: signed.legacy,
            statements: signed.statements,
            named: std::collections::BTreeMap::new(),
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let platform = Platform::LinuxAmd64;
        let question = Question { image: &image, platform, floor: Floor(0), now };
        let verdict = admit(&policy, &question, &evidence);
        assert!(verdict.answer.is_err(), "without a config nothing is admitted");
        verdict
    }

    /// The image's own manifest in a layout that `cosign save` made.
    fn digest(layout: &Path) -> String {
        let index = fs::read(layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let image = index["manifests"].as_array().unwrap().iter().find(|manifest| {
            manifest["annotations"]["kind"].as_str().is_some_and(|kind| kind.contains("/image"))
        });
        image.unwrap()["digest"].as_str().unwrap().to_owned()
    }

    #[test]
    fn public_images_get_their_verdicts() {
        let Some(images) = shared("images") else { return };
        let cases = fs::read(images.join("image-cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        assert!(cases.len() >= 17, "only {} cases", cases.len());
        let dir = tempfile::tempdir().unwrap();
        let (mut whole, mut wrong) = (0, Vec::new());
        for (number, case) in cases.iter().enumerate() {
            let layout = images.join(case["image"].as_str().unwrap());
            let file = dir.path().join(format!("{number}.yaml"));
            fs::write(&file, policy(case, &images)).unwrap();
            let image = format!("images.example/case@{}", digest(&layout));
            let output = Command::new(env!("CARGO_BIN_EXE_pitlane-verifier"))
                .args(["check", &image, "--platform", "linux/amd64", "--offline"])
                .args(["--output", "json", "--policy"])
                .arg(&file)
                .arg("--layout")
                .arg(&layout)
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            let mut said = String::from_utf8_lossy(&said).into_owned();
            // Of some images the data has no config: then what was signed is judged alone, and
            // the program says that it cannot decide.
            let found = if said.contains("could not decide") {
                assert_eq!(output.status.code(), Some(1));
                let verdict = signature_alone(case, &images, &layout);
                let check = verdict.checks.iter().find(|check| check.check == "signature");
                said = format!("{check:?}");
                if check.unwrap().passed { "accept" } else { "refuse" }
            } else {
                whole += 1;
                match output.status.code() {
                    Some(0) => "accept",
                    Some(10) => "refuse",
                    _ => "nothing",
                }
            };
            eprintln!("{number} {} {} {:?}", case["image"], case["want"], code(&said));
            if case["want"] != found {
                wrong.push(format!("{number}: {case}\n{said}"));
            }
        }
        assert!(whole >= 10, "only {whole} whole images");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Everything that vouches for a public image, changed a little: the signature, the certificate,
    /// the log's promise, each field of its entry, the payload. Nothing of it is admitted.
    #[test]
    fn changed_evidence_of_public_images_is_refused() {
        let Some(images) = shared("images") else { return };
        let cases = fs::read(images.join("image-cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        let keyless = |case: &&Value| case["want"] == "accept" && case["key"].is_null();
        let (mut tried, mut bases) = (0, 0);
        for case in cases.iter().filter(keyless) {
            let layout = images.join(case["image"].as_str().unwrap());
            let image: ImageRef =
                format!("images.example/case@{}", digest(&layout)).parse().unwrap();
            let policy = Policy::parse(&policy(case, &images), &|_: &str| None).unwrap();
            let source = Source::Layout(Layout::open(&layout).unwrap());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let platform = Platform::LinuxAmd64;
            let Ok(evidence) = runtime.block_on(gather(&source, &policy, &image, platform)) else {
                continue;
            };
            bases += 1;
            let judge = |evidence: &Evidence| {
                let now = "2026-01-01T00:00:00Z".parse().unwrap();
                let question = Question { image: &image, platform, floor: Floor(0), now };
                admit(&policy, &question, evidence).answer
            };
            assert!(judge(&evidence).is_ok());
            for (name, changed) in mutants(&evidence) {
                tried += 1;
                assert!(judge(&changed).is_err(), "{}: {name}", case["image"]);
            }
        }
        eprintln!("{bases} images, {tried} changes");
        assert!(bases >= 2 && tried > 100, "{bases} {tried}");
    }

    /// One change each.
    fn mutants(good: &Evidence) -> Vec<(String, Evidence)> {
        let mut found = Vec::new();
        let [layer] = good.legacy.as_slice() else { panic!("{} layers", good.legacy.len()) };
        let mut with = |name: String, edit: &dyn Fn(&mut LegacyLayer)| {
            let mut evidence = good.clone();
            edit(&mut evidence.legacy[0]);
            assert_ne!(evidence.legacy, good.legacy, "{name} changes nothing");
            found.push((name, evidence));
        };
        for at in (0..layer.payload.len()).step_by(layer.payload.len() / 16) {
            with(format!("payload byte {at}"), &|layer| layer.payload[at] ^= 1);
        }
        let read = !layer.annotations["dev.cosignproject.cosign/signature"].is_empty();
        for (key, text) in &layer.annotations {
            // Old attestations have an empty signature here, and a chain is taken from the root.
            let unread = key.ends_with("/signature") && !read || key.ends_with("/chain");
            if unread || !key.starts_with("dev.") {
                continue;
            }
            with(format!("{key} gone"), &|layer| drop(layer.annotations.remove(key)));
            for at in (0..text.len()).step_by(text.len() / 12 + 1) {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                with(format!("{key} character {at}"), &|layer| {
                    layer.annotations.insert(key.clone(), changed.clone());
                });
            }
        }
        let log = "dev.sigstore.cosign/bundle";
        let bundle: Value = serde_json::from_str(&layer.annotations[log]).unwrap();
        for field in ["body", "integratedTime", "logIndex", "logID"] {
            for other in [Value::Null, 0.into(), 1.into(), "".into(), "AAAA".into()] {
                let mut changed = bundle.clone();
                changed["Payload"][field] = other.clone();
                with(format!("{field} {other}"), &|layer| {
                    layer.annotations.insert(log.into(), changed.to_string());
                });
            }
        }
        for (name, seconds) in [("a year later", 31_536_000), ("a second earlier", -1)] {
            let mut changed = bundle.clone();
            let time = changed["Payload"]["integratedTime"].as_i64().unwrap();
            changed["Payload"]["integratedTime"] = (time + seconds).into();
            with(name.into(), &|layer| {
                layer.annotations.insert(log.into(), changed.to_string());
            });
        }
        found
    }

    fn code(said: &str) -> Option<String> {
        let verdict: Value = serde_json::from_str(said).ok()?;
        Some(verdict["refusal"]["code"].as_str()?.to_owned())
    }

    /// Without a network, and without asking for one: in a network namespace of its own the
    /// verdict is the same, and the kernel sees no call that opens a socket. Asking a registry does
    /// call it, so the test can fail.
    #[test]
    fn offline_opens_no_socket() {
        let Some(images) = shared("images") else { return };
        let cases = fs::read(images.join("image-cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        let case = cases.iter().find(|case| case["image"] == "slsa-v2.1.0").unwrap();
        let layout = images.join("slsa-v2.1.0");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.yaml");
        fs::write(&file, policy(case, &images)).unwrap();
        let trace = dir.path().join("calls");
        let run = |more: &[&str]| {
            let image = format!("127.0.0.1:9/case@{}", digest(&layout));
            let output = Command::new("unshare")
                .args(["--net", "--map-root-user", "strace", "-f", "-qq", "-e", "trace=%network"])
                .arg("-o")
                .arg(&trace)
                .arg(env!("CARGO_BIN_EXE_pitlane-verifier"))
                .args(["check", &image, "--platform", "linux/amd64", "--policy"])
                .arg(&file)
                .args(more)
                .output()
                .expect("unshare and strace are there (scripts/setup.sh tests)");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), fs::read_to_string(&trace).unwrap_or_default(), said)
        };
        let layout = layout.to_string_lossy();
        let (code, calls, said) = run(&["--offline", "--layout", &layout]);
        assert_eq!(code, Some(0), "{said}");
        assert!(!calls.contains("socket"), "{calls}");
        let (code, calls, _) = run(&[]);
        assert_eq!(code, Some(1), "no network is no answer");
        assert!(calls.contains("socket("), "{calls}");
    }

    /// What is refused of policies that policy-controller takes, by the words of the refusal:
    /// everything that this verifier does not act on. All others must be usable.
    const NOT_SUPPORTED: [&str; 6] = [
        "it has addresses of several services",
        "(CUE, Rego) is not run here",
        "`key.kms` is not asked here",
        "`source` is not supported",
        "`match` is not supported",
        "`keyless.ca-cert` is not supported",
    ];

    #[test]
    fn policies_of_others() {
        let Some(policies) = shared("policy") else { return };
        let root = policies.join("../public-good-trusted_root.json");
        let (mut usable, mut unsupported, mut wrong) = (0, 0, Vec::new());
        for folder in ["valid", "e2e", "examples/policies", "invalid", "empty-authorities"] {
            let mut files: Vec<PathBuf> =
                fs::read_dir(policies.join(folder)).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
                let output = Command::new(env!("CARGO_BIN_EXE_pitlane-verifier"))
                    .args(["policy", "lint"])
                    .arg(file)
                    .args(["--key", &policies.join("examples/keys/cosign.pub").to_string_lossy()])
                    .args(["--trusted-root", &root.to_string_lossy()])
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let known = NOT_SUPPORTED.iter().any(|words| said.contains(words));
                let named = said.contains(&*file.file_name().unwrap().to_string_lossy());
                match (output.status.code(), folder) {
                    (Some(0), "valid" | "e2e" | "examples/policies") => usable += 1,
                    (Some(1), "valid" | "e2e" | "examples/policies") if known && named => {
                        unsupported += 1;
                    }
                    (Some(1), "invalid" | "empty-authorities") if named => {}
                    (code, _) => wrong.push(format!("{}: {code:?} {said}", file.display())),
                }
            }
        }
        eprintln!("{usable} usable, {unsupported} ask for what is not supported");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(usable >= 5 && unsupported >= 8, "{usable} {unsupported}");
    }

    /// policy-controller also compares a name as it was written, without a registry: a name that
    /// means another place elsewhere. That is deprecated there and absent here.
    const AS_WRITTEN: [&str; 2] = ["foo*", "myuser/myapp*"];

    #[test]
    fn globs_of_others() {
        let Some(policies) = shared("policy") else { return };
        let cases = fs::read(policies.join("glob-cases.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
        assert!(cases.len() >= 21);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap().to_owned();
            let glob: Result<pitlane_release::policy::Glob, _> = text("glob").parse();
            let name = qualified(&text("image"));
            if case["error"] == true {
                assert!(glob.is_err() || name.parse::<ImageRef>().is_err(), "{case}");
                continue;
            }
            let found = glob.is_ok_and(|glob| glob.matches(&name));
            if AS_WRITTEN.contains(&text("glob").as_str()) {
                assert!(!found, "{case}");
            } else {
                assert_eq!(case["match"], found, "{case}");
            }
        }
    }

    /// A short name as container tools read it, which is what policy-controller compares.
    fn qualified(image: &str) -> String {
        let (first, rest) = image.split_once('/').unwrap_or(("", image));
        let host = first.contains(['.', ':']) || first == "localhost";
        let name = match (first, host) {
            ("", _) => format!("index.docker.io/library/{rest}"),
            (_, true) => image.to_owned(),
            (_, false) => format!("index.docker.io/{image}"),
        };
        let last = name.rsplit('/').next().unwrap_or_default();
        if last.contains([':', '@']) { name } else { name + ":latest" }
    }
}
