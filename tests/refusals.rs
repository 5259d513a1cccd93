//! The table of refusals: each by the real program, against a real registry, with its exit code.
//!
//! Every case differs from an image that is admitted in one thing, and what was changed on the
//! registry's disk is changed back and admitted again, so that no case can pass for another
//! reason than its own.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::common::{
    Ran, is_root, json as parse,
    lane::{Lane, lapless, lenient, one_lap, quick},
    peer, run, skip, swap,
};

const LAP: &str = "https://pitlane.dev/lap/v1";
const MODEL: &str = "https://pitlane.dev/model/v1";
const GOLDEN: &str = "https://pitlane.dev/golden/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const ARM: [&str; 2] = ["--platform", "linux/arm64"];

#[track_caller]
fn refused(ran: Ran, code: &str) -> Value {
    let Ran { code: exit, stdout, stderr } = ran;
    let verdict = parse(stdout);
    assert_eq!(verdict["refusal"]["code"], code, "{verdict:#}\n{stderr}");
    assert_eq!((exit, &verdict["admitted"]), (Some(10), &json!(false)), "{verdict:#}");
    let refusal = &verdict["refusal"];
    assert!(!refusal["hint"].as_str().unwrap().is_empty(), "{verdict:#}");
    assert_eq!(verdict["checks"].as_array().unwrap().last().unwrap()["passed"], false);
    verdict
}

#[track_caller]
fn admitted(ran: Ran) -> Value {
    let verdict = parse(ran.ok());
    assert_eq!(verdict["admitted"], true, "{verdict:#}");
    assert!(verdict["refusal"].is_null(), "{verdict:#}");
    let checks = verdict["checks"].as_array().unwrap();
    assert!(checks.len() > 3 && checks.iter().all(|check| check["passed"] == true), "{verdict:#}");
    verdict
}

/// A lane with a release that drove a lap.
fn proven() -> Option<(Lane, String)> {
    if !is_root() {
        skip("the jail of `prove` is tested as root");
        return None;
    }
    let mut lane = Lane::new(one_lap, lenient);
    lane.start();
    let image = lane.release("v1.0.0");
    admitted(lane.check(&image, &["--layers"]));
    admitted(lane.check(&image, &ARM));
    Some((lane, image))
}

/// A release by the lane's own key that the car's policy must judge; its maker's policy let it
/// pass.
fn made(
    lane: &Lane,
    tag: &str,
    pipeline: impl Fn(&str) -> String,
    policy: impl Fn(&str) -> String,
) -> String {
    let own = lane.policy_file(&format!("own-{tag}"), |text| policy(&lapless(text)));
    let car = lane.path("config/policy.yaml");
    let file = lane.side_pipeline(tag, |text| {
        pipeline(&swap(&quick(text), car.to_str().unwrap(), own.to_str().unwrap()))
    });
    let made = parse(lane.one_shot(tag, &file, &[]).ok());
    made["image"].as_str().unwrap().to_owned()
}

#[test]
fn who_signed() {
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    admitted(lane.check(&image, &[]));
    // Another key under the name that the policy asks for.
    lane.keys("stranger");
    let policy = lane.path("config/policy.yaml");
    refused(lane.check_by(&policy, "stranger", &image, &[]), "wrong-signer");
    // An index that nobody signed, then with an attestation about it, which is no signature.
    let digest = image.split('@').nth(1).unwrap();
    let mut index = lane.manifest(digest);
    index["annotations"]["org.opencontainers.image.version"] = "v6.6.6".into();
    let unsigned = lane.put_index(&index);
    refused(lane.check(&unsigned, &[]), "unsigned");
    let predicate = lane.path("review.json");
    fs::write(&predicate, r#"{"reviewed":true}"#).unwrap();
    let review = ["--type", "https://example.org/review/v1", "--predicate"];
    lane.attest(&unsigned, &[&review[..], &[predicate.to_str().unwrap()]].concat());
    refused(lane.check(&unsigned, &[]), "attestation-only");
    // The good release's statement, moved to the index that nobody signed.
    lane.lend(&unsigned, &lane.statement(&image));
    refused(lane.check(&unsigned, &[]), "other-image");
    admitted(lane.check(&image, &[]));

    // The same with the policy that asks for a signature alone.
    let signed = crate::common::repository().join("policies/signed.yaml");
    admitted(lane.check_by(&signed, "release", &image, &[]));
    refused(lane.check_by(&signed, "stranger", &image, &[]), "wrong-signer");
    refused(lane.check_by(&signed, "release", &unsigned, &[]), "attestation-only");
}

#[test]
fn what_it_is_for() {
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let elsewhere = made(
        &lane,
        "v2-elsewhere",
        |text| swap(text, "repository: team/donkeycar\n", "repository: team/elsewhere\n"),
        |text| swap(text, "repository: team/donkeycar", "repository: team/elsewhere"),
    );
    refused(lane.check(&elsewhere, &[]), "wrong-source");
    let kind = made(
        &lane,
        "v3-kind",
        |text| swap(text, "carKind: donkeycar", "carKind: truck"),
        |text| swap(text, "[donkeycar]", "[truck]"),
    );
    refused(lane.check(&kind, &[]), "wrong-kind");
    let one = made(
        &lane,
        "v4-one",
        |text| swap(text, "platforms: [linux/amd64, linux/arm64]", "platforms: [linux/amd64]"),
        str::to_owned,
    );
    refused(lane.check(&one, &ARM), "wrong-platform");
    admitted(lane.check(&one, &["--platform", "linux/amd64"]));
    let builder = made(
        &lane,
        "v5-builder",
        |text| swap(text, "builder/local", "builder/elsewhere"),
        |text| swap(text, "builder/local", "builder/elsewhere"),
    );
    refused(lane.check(&builder, &[]), "wrong-provenance");

    let other = lane.policy_file("other", |text| lapless(&swap(text, "team/**", "crew/**")));
    refused(lane.check_by(&other, "release", &image, &[]), "no-policy");

    // Order: the floor of the car, and the policy's own.
    admitted(lane.check(&image, &["--floor", "1"]));
    let verdict = refused(lane.check(&image, &["--floor", "2"]), "rollback");
    assert!(verdict["refusal"]["hint"].as_str().unwrap().contains("pitlane rollback"));
    let high = lane.policy_file("high", |text| {
        lapless(&swap(text, "  requireExpiry: true", "  requireExpiry: true\n  minimumCounter: 9"))
    });
    refused(lane.check_by(&high, "release", &image, &[]), "rollback");
}

#[test]
fn what_was_proven() {
    let Some((lane, image)) = proven() else { return };
    let lapless_image = made(&lane, "v2-lapless", str::to_owned, str::to_owned);
    refused(lane.check(&lapless_image, &[]), "no-lap");
    // Its statement, with the lap of the image that did drive.
    let good = lane.statement(&image);
    let evidence = |kind: &str| {
        let all = good["predicate"]["evidence"].as_array().unwrap();
        all.iter().find(|one| one["predicateType"] == kind).unwrap().clone()
    };
    let mut statement = lane.statement(&lapless_image);
    statement["predicate"]["evidence"].as_array_mut().unwrap().push(evidence(LAP));
    statement["predicate"]["counter"] = 50.into();
    lane.lend(&lapless_image, &statement);
    refused(lane.check(&lapless_image, &[]), "lap-of-another-image");
    // Laps that are there and do not suffice.
    let much = lane.policy_file("much", |text| swap(&lenient(text), "minLaps: 1", "minLaps: 9"));
    refused(lane.check_by(&much, "release", &image, &[]), "lap-failed");
    let narrow = lane.policy_file("narrow", |text| {
        swap(&lenient(text), "maxAbsCteM: 0.3", "maxAbsCteM: 0.00001")
    });
    refused(lane.check_by(&narrow, "release", &image, &[]), "lap-failed");
    // A car with a contract of its own, and one that wants closer answers.
    for (name, from, to, code) in [
        ("small", "opsetMax: 17", "opsetMax: 17, maxParameters: 10", "model-contract"),
        ("old", "opsetMax: 17", "opsetMax: 7", "model-contract"),
        ("exact", "maxTolerance: 0.001", "maxTolerance: 0.00001", "golden-frames"),
        ("more", "noise]", "noise, road]", "golden-frames"),
    ] {
        let policy = lane.policy_file(name, |text| swap(&lenient(text), from, to));
        refused(lane.check_by(&policy, "release", &image, &[]), code);
    }

    // Statements about the good image by the right key, wrong in one thing each; the last is
    // right again, and counts because its counter is the highest.
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 8] = [
        ("expired", |release| {
            release["issuedAt"] = "2020-01-01T00:00:00Z".into();
            release["expiresAt"] = "2020-02-02T02:02:02Z".into();
        }),
        ("expired", |release| drop(release.as_object_mut().unwrap().remove("expiresAt"))),
        ("not-yet-valid", |release| {
            release["issuedAt"] = "2100-01-01T00:00:00Z".into();
            release["expiresAt"] = "2101-01-01T00:00:00Z".into();
        }),
        ("model-mismatch", |release| {
            release["model"]["layer"] = format!("sha256:{}", "e".repeat(64)).into();
        }),
        ("no-provenance", |release| {
            let all = release["evidence"].as_array_mut().unwrap();
            all.retain(|one| one["predicateType"] != PROVENANCE);
        }),
        ("no-model-contract", |release| {
            let all = release["evidence"].as_array_mut().unwrap();
            all.retain(|one| one["predicateType"] != MODEL);
        }),
        ("no-golden-frames", |release| {
            let all = release["evidence"].as_array_mut().unwrap();
            all.retain(|one| one["predicateType"] != GOLDEN);
        }),
        ("", |_| {}),
    ];
    for (counter, (code, edit)) in (100..).zip(edits) {
        let mut statement = good.clone();
        statement["predicate"]["counter"] = counter.into();
        edit(&mut statement["predicate"]);
        lane.lend(&image, &statement);
        let ran = lane.check(&image, &[]);
        if code.is_empty() {
            assert_eq!(admitted(ran)["counter"], counter);
        } else {
            refused(ran, code);
        }
    }
}

/// One bit, in the middle.
fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

#[test]
fn what_changed_after_signing() {
    let Some((lane, image)) = proven() else { return };
    let digest = image.split('@').nth(1).unwrap();
    let manifest_digest = lane.platform(&image, "amd64");
    let manifest = lane.manifest(&manifest_digest);
    let config = manifest["config"]["digest"].as_str().unwrap();
    let release = lane.statement(&image)["predicate"].clone();
    let named = |kind: &str| {
        let all = release["evidence"].as_array().unwrap();
        let one = all.iter().find(|one| one["predicateType"] == kind).unwrap();
        one["digest"].as_str().unwrap().to_owned()
    };
    let layer = release["model"]["layer"].as_str().unwrap();
    let check = || lane.check(&image, &["--layers"]);
    // A manifest or config that still parses, and one that does not.
    let word = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            *bytes = swap(&text, from, to).into_bytes();
        }
    };
    let longer = |bytes: &mut Vec<u8>| bytes.push(b'\n');
    refused(lane.altered(digest, word("amd64", "amd63"), check), "altered-manifest");
    refused(lane.altered(digest, longer, check), "altered-manifest");
    refused(lane.altered(&manifest_digest, longer, check), "altered-manifest");
    refused(lane.altered(config, word("65532", "00000"), check), "altered-config");
    refused(lane.altered(&named(LAP), |bytes| flip(bytes), check), "altered-evidence");
    refused(lane.altered(&named(PROVENANCE), |bytes| flip(bytes), check), "altered-evidence");
    refused(lane.altered(layer, |bytes| flip(bytes), check), "altered-layer");
    refused(lane.altered(layer, |bytes| bytes.push(0), check), "altered-layer");
    // Layers are the car's business at unpacking; without --layers they are not fetched.
    admitted(lane.altered(layer, |bytes| flip(bytes), || lane.check(&image, &[])));
    for at in ["payload", "sig"] {
        let bundle = lane.manifest(&Lane::statement_tag(&image));
        let bundle = bundle["layers"][0]["digest"].as_str().unwrap().to_owned();
        let in_field = |bytes: &mut Vec<u8>| {
            let mut bundle: Value = serde_json::from_slice(bytes).unwrap();
            let field = match at {
                "payload" => &mut bundle["dsseEnvelope"]["payload"],
                _ => &mut bundle["dsseEnvelope"]["signatures"][0]["sig"],
            };
            let text = field.as_str().unwrap();
            let old = &text[20..21];
            let new = if old == "A" { "B" } else { "A" };
            *field = format!("{}{new}{}", &text[..20], &text[21..]).into();
            *bytes = bundle.to_string().into_bytes();
        };
        refused(lane.altered(&bundle, in_field, check), "altered-statement");
    }
    admitted(check());
}

/// A platform's own digest names the same bytes as the index with that platform, and the release
/// statement is about both.
#[test]
fn a_platform_by_its_own_digest() {
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let amd = format!("{}@{}", lane.images(), lane.platform(&image, "amd64"));
    admitted(lane.check(&amd, &["--platform", "linux/amd64"]));
    refused(lane.check(&amd, &ARM), "wrong-platform");
}

/// No answer is not an answer: exit 1, and nothing on stdout that a script could misread.
#[test]
fn what_cannot_be_decided() {
    let mut lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let unanswered = |ran: Ran| {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
        ran.stderr
    };
    let absent = format!("{}@sha256:{}", lane.images(), "a".repeat(64));
    unanswered(lane.check(&absent, &[]));
    unanswered(lane.check(&format!("{}:v7.7.7", lane.images()), &[]));
    unanswered(lane.check_by(Path::new("/nonexistent/policy.yaml"), "release", &image, &[]));
    let broken = lane.policy_file("broken", |text| swap(text, "  laps:", "  lapps:"));
    unanswered(lane.check_by(&broken, "release", &image, &[]));
    unanswered(lane.check_by(&lane.path("config/policy.yaml"), "nobody", &image, &[]));
    let usage = lane.check(&image, &["--no-such-flag"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert_eq!(lane.check("not an image", &[]).code, Some(2));
    lane.stop();
    let said = unanswered(lane.check(&image, &[]));
    assert!(said.contains(&lane.registry), "{said}");
    // What lies on the disk is enough without a network.
    let registry = lane.path("state/registry");
    let offline = ["--layout", registry.to_str().unwrap(), "--offline", "--layers"];
    admitted(lane.check(&image, &offline));
    refused(lane.check(&image, &[&offline[..], &["--floor", "2"]].concat()), "rollback");
}

/// A copy by somebody else's tool, on a stick: with all that refers to the image it is admitted,
/// and from what is absent nothing is concluded but a refusal.
#[test]
fn a_copy_in_a_layout() {
    let Some(oras) = peer("oras") else { return };
    let lane = Lane::quick();
    lane.release("v1.0.0");
    let named = format!("{}:v1.0.0", lane.images());
    let copy = |stick: &Path, tag: &str, more: &[&str]| {
        let mut command = std::process::Command::new(&oras);
        command.args(["copy", "--from-plain-http", "--to-oci-layout"]).args(more);
        command.arg(format!("{}:{tag}", lane.images()));
        command.arg(format!("{}:{tag}", stick.display())).env("HOME", lane.dir.path());
        run(&mut command).ok();
    };
    let check = |stick: &Path| {
        let offline = ["--layout", stick.to_str().unwrap(), "--offline", "--layers"];
        lane.check(&named, &offline)
    };
    let (bare, whole) = (lane.path("bare"), lane.path("whole"));
    copy(&bare, "v1.0.0", &[]);
    refused(check(&bare), "unsigned");
    copy(&whole, "v1.0.0", &["--recursive"]);
    admitted(check(&whole));
}
