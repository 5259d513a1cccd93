//! Keyless signing in an instance on loopback: what is signed verifies, for nobody else; and
//! whatever a service does wrong, nothing that does not verify is handed out.

use std::{fs, path::PathBuf};

use pitlane_pipeline::sign::keyless::{Keyless, KeylessSigner};
use pitlane_release::{
    Digest,
    sigstore::{Content, Expect, Identity, Subject as About, TrustRoot, verify},
};
use pitlane_sigstore_lab::{Fault, Part, REQUEST_TOKEN};

use crate::common::{
    run,
    sigstore::{Instance, JOB, PERSON, name},
};

#[test]
fn what_is_signed_verifies_for_nobody_else() {
    let instance = Instance::start();
    let other = Instance::start();
    let root = instance.lab.trusted_root();
    let configs = [instance.lab.signing_config(), instance.lab.old_signing_config()];
    for (old, config) in configs.iter().enumerate() {
        for (in_toto, subject) in [(false, PERSON), (true, PERSON), (false, JOB), (true, JOB)] {
            instance.token(&instance.lab.token(&subject));
            let said = crate::common::json(instance.sign(config, in_toto).ok());
            let (who, issuer) = (name(&subject), instance.issuer());
            assert_eq!(
                (&said["identity"], &said["issuer"]),
                (&who.as_str().into(), &issuer.into())
            );

            let bundle = instance.bundle().unwrap();
            let material = &bundle["verificationMaterial"];
            assert_eq!(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
            assert!(material["certificate"].is_object(), "{material:#}");
            assert!(material["x509CertificateChain"].is_null(), "{material:#}");
            assert_eq!(material["tlogEntries"].as_array().unwrap().len(), 1);
            let stamps = &material["timestampVerificationData"]["rfc3161Timestamps"];
            assert_eq!(stamps.as_array().map_or(0, Vec::len), 1 - old, "{stamps}");

            let (code, verdict) = instance.verify("out.json", &who, issuer, &root);
            assert_eq!((code, &verdict["verified"]), (0, &true.into()), "{verdict:#}");
            let strangers = other.lab.trusted_root();
            let longer = format!("{who}x");
            for (who, issuer, root, want) in [
                ("mallory@example.org", issuer, &root, &["wrong-identity"][..]),
                (&longer, issuer, &root, &["wrong-identity"]),
                (&who, other.issuer(), &root, &["wrong-issuer"]),
                (&who, issuer, &strangers, &["bad-log-entry", "bad-certificate", "bad-time"]),
            ] {
                let (code, verdict) = instance.verify("out.json", who, issuer, root);
                let found = verdict["refusal"]["code"].as_str().unwrap_or_default();
                assert!(code == 10 && want.contains(&found), "{who} {code} {verdict:#}");
            }
            let file = "review.json";
            let (code, verdict) = instance.verify_file("out.json", &who, issuer, &root, file);
            assert_eq!(code, 10, "another artifact: {verdict:#}");
        }
    }
}

/// Who does what wrong, and what must be said about it.
const BROKEN: [(Part, Fault, &str); 30] = [
    (Part::Authority, Fault::OtherKey, "for another key than ours"),
    (Part::Authority, Fault::Expired, "certificate ended at"),
    (Part::Authority, Fault::OtherIssuer, "`https://other.example` attested the name"),
    (Part::Authority, Fault::Nameless, "names nobody"),
    (Part::Authority, Fault::OtherName, "names `mallory@example.org`, the token `eve@example.org`"),
    (Part::Authority, Fault::Detached, "no certificate with a log proof"),
    (Part::Authority, Fault::NoLogProof, "bad-certificate"),
    (Part::Authority, Fault::Hangs, "timed out"),
    (Part::Authority, Fault::Floods, "more than 65536 bytes"),
    (Part::Authority, Fault::Fails, "503 Service Unavailable: out for lunch"),
    (Part::Authority, Fault::Redirects, "307 Temporary Redirect"),
    (Part::Authority, Fault::Babbles, "cannot be read"),
    (Part::Log, Fault::OtherSignature, "another signature than ours"),
    (Part::Log, Fault::OtherKind, "logged a `dsse` 0.0.1"),
    (Part::Log, Fault::NoProof, "no inclusion proof"),
    (Part::Log, Fault::BrokenProof, "bad-log-entry"),
    (Part::Log, Fault::OtherLog, "bad-log-entry"),
    (Part::Log, Fault::Hangs, "timed out"),
    (Part::Log, Fault::Floods, "more than 262144 bytes"),
    (Part::Log, Fault::Babbles, "cannot be read"),
    (Part::OldLog, Fault::OtherSignature, "another signature than ours"),
    (Part::OldLog, Fault::BrokenProof, "bad-log-entry"),
    (Part::OldLog, Fault::Babbles, "cannot be read"),
    (Part::Stamper, Fault::Denies, "no timestamp: Rejection"),
    (Part::Stamper, Fault::OtherContent, "something else than our signature"),
    (Part::Stamper, Fault::OtherNonce, "answers another request"),
    (Part::Stamper, Fault::OtherStamper, "bad-time"),
    (Part::Stamper, Fault::Hangs, "timed out"),
    (Part::Stamper, Fault::Floods, "more than 65536 bytes"),
    (Part::Stamper, Fault::Babbles, "cannot be read"),
];

/// The configuration in which a part is asked.
fn config_for(instance: &Instance, part: Part) -> PathBuf {
    match part {
        Part::OldLog => instance.lab.old_signing_config(),
        _ => instance.lab.signing_config(),
    }
}

/// Seconds for a request: few where there will be no answer.
fn patience(fault: Fault) -> u32 {
    if fault == Fault::Hangs { 2 } else { 20 }
}

#[test]
fn broken_services_leave_no_bundle() {
    let instance = Instance::start();
    for (part, fault, want) in BROKEN {
        let config = config_for(&instance, part);
        for in_toto in [false, true] {
            instance.lab.set(part, Some(fault));
            let ran = instance.sign_within(patience(fault), &config, in_toto);
            assert_eq!(ran.code, Some(1), "{part:?} {fault:?}: {ran:?}");
            let said = ran.fails();
            assert!(said.contains(want) && said.contains("hint: "), "{part:?} {fault:?}: {said}");
            assert_eq!(instance.leftovers(), [""; 0], "{part:?} {fault:?}");
        }
        // The fault it was, and nothing else.
        instance.lab.set(part, None);
        instance.sign(&config, false).ok();
        fs::remove_file(instance.path("out.json")).unwrap();
    }
    // A bundle that was there stays as it was.
    fs::write(instance.path("out.json"), "an older one").unwrap();
    instance.lab.set(Part::Log, Some(Fault::BrokenProof));
    instance.sign(&instance.lab.signing_config(), false).fails();
    assert_eq!(fs::read_to_string(instance.path("out.json")).unwrap(), "an older one");
}

#[test]
fn what_may_pass_is_tried_again_and_nothing_for_long() {
    let instance = Instance::start();
    for part in [Part::Authority, Part::Log, Part::OldLog, Part::Stamper] {
        let config = config_for(&instance, part);
        for (fault, works, tries) in [
            (Fault::FailsOnce, true, 2),
            (Fault::Fails, false, 3),
            (Fault::Hangs, false, 1),
            (Fault::Babbles, false, 1),
        ] {
            instance.lab.set(part, Some(fault));
            let before = instance.lab.requests(part);
            let ran = instance.sign_within(patience(fault), &config, false);
            assert_eq!(ran.code == Some(0), works, "{part:?} {fault:?}: {ran:?}");
            let asked = instance.lab.requests(part) - before;
            assert_eq!(asked, tries, "{part:?} {fault:?}: {ran:?}");
        }
        instance.lab.set(part, None);
    }
}

#[test]
fn roots_and_configurations_of_two_instances_do_not_mix() {
    let (ours, theirs) = (Instance::start(), Instance::start());
    for root in [Some(theirs.lab.trusted_root()), None] {
        let mut command = ours.command(crate::common::bin("pitlane"));
        command.args(["sign-bundle", "--bundle", "out.json", "--token-file", "token"]);
        command.arg("--signing-config").arg(ours.lab.signing_config());
        if let Some(root) = root {
            command.arg("--trusted-root").arg(root);
        }
        let said = run(command.arg("pilot.onnx")).fails();
        assert!(said.contains("was thrown away"), "{said}");
        assert!(said.contains("of the same instance"), "{said}");
        assert_eq!(ours.leftovers(), [""; 0]);
    }
    // What is no statement about anything is not worth a certificate.
    let asked = ours.lab.requests(Part::Authority);
    for text in ["{}", "not JSON", r#"{"subject":[{"digest":{"sha1":"00"}}]}"#] {
        fs::write(ours.path("review.json"), text).unwrap();
        let said = ours.sign(&ours.lab.signing_config(), true).fails();
        assert!(said.contains("not an in-toto statement"), "{said}");
    }
    assert_eq!(ours.lab.requests(Part::Authority), asked);
}

#[test]
fn tokens_come_from_where_they_are() {
    let instance = Instance::start();
    let config = instance.lab.signing_config();
    let person = instance.lab.token(&PERSON);
    let url = format!("{}/actions/token?api-version=2.0", instance.issuer());
    let github = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN),
    ];
    let stranger = [github[0], ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong-secret")];
    let clear = [("ACTIONS_ID_TOKEN_REQUEST_URL", "http://192.0.2.1/"), github[1]];
    let old = instance.lab.old_token(&PERSON);
    let forged = format!("{}.{}", person.rsplit_once('.').unwrap().0, "A".repeat(86));
    let (who, job) = (name(&PERSON), name(&JOB));
    type Source<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Result<&'a str, &'a str>);
    let table: [Source<'_>; 11] = [
        (&["--identity-token", &person], &[], Ok(&who)),
        (&["--identity-token", "token"], &[], Ok(&who)),
        (&["--token-file", "token"], &github, Ok(&who)),
        (&[], &[("SIGSTORE_ID_TOKEN", &person)], Ok(&who)),
        (&[], &github, Ok(&job)),
        (&[], &stranger, Err("401 Unauthorized")),
        (&[], &clear, Err("no https address")),
        (&[], &[], Err("none was given")),
        (&["--token-file", "missing"], &[], Err("missing: No such file")),
        (&["--identity-token", &old], &[], Err("it ended 6")),
        (&["--identity-token", &forged], &[], Err("the token: signature error")),
    ];
    for (arguments, variables, want) in table {
        let mut command = instance.signing(&config);
        command.args(arguments).envs(variables.iter().copied()).arg("pilot.onnx");
        let asked = instance.lab.requests(Part::Authority);
        let ran = run(&mut command);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        for secret in [&person, REQUEST_TOKEN, "wrong-secret", &old] {
            assert!(!all.contains(secret), "{arguments:?}: it shows a secret: {all}");
        }
        match want {
            Ok(who) => {
                assert_eq!(crate::common::json(ran.ok())["identity"], who, "{arguments:?}");
                fs::remove_file(instance.path("out.json")).unwrap();
            }
            Err(why) => {
                assert!(ran.fails().contains(why), "{arguments:?} {variables:?}: {all}");
                assert_eq!(instance.leftovers(), [""; 0]);
                // Only the forged one is worth a question.
                let asked = instance.lab.requests(Part::Authority) - asked;
                assert_eq!(asked, usize::from(why.starts_with("the token")), "{arguments:?}");
            }
        }
    }
}

/// What a pipeline with `sign.keyless` does for each statement.
#[test]
fn statements_are_sealed_with_the_token_of_the_hour() {
    let instance = Instance::start();
    let files: Keyless = serde_json::from_value(serde_json::json!({
        "signingConfig": instance.lab.signing_config(),
        "trustedRoot": instance.lab.trusted_root(),
        "tokenFile": instance.path("token"),
    }))
    .unwrap();
    let payload = fs::read(instance.path("review.json")).unwrap();
    let root = TrustRoot::parse(&fs::read(instance.lab.trusted_root()).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let signer = KeylessSigner::open(&files).unwrap();
        for subject in [PERSON, JOB] {
            instance.token(&instance.lab.token(&subject));
            // A lane's steps move between threads.
            let sealed = boxed(signer.seal(&payload)).await.unwrap();
            let expect = Expect::identity(Identity::exact(name(&subject), instance.issuer()));
            let about = About::Digest(Digest::of("a model"));
            let verified = verify(&sealed.bytes, about, &expect, &root).answer.unwrap();
            let Content::Statement { payload: found, .. } = verified.content() else {
                panic!("no statement: {verified:?}")
            };
            assert_eq!(*found, payload);
        }
        instance.token(&instance.lab.old_token(&JOB));
        let error = signer.seal(&payload).await.unwrap_err().to_string();
        assert!(error.contains("it ended"), "{error}");
    });
    let unknown = serde_json::json!({ "tokenfile": "x" });
    assert!(serde_json::from_value::<Keyless>(unknown).is_err());
}

type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(future)
}
