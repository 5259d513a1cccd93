//! The same tag gives the same image, wherever and by whomever it is made, and a small one.

use std::{fs, process::Command};

use serde_json::Value;

use crate::common::{json as parse, lane::Lane, run};

/// Most that a car downloads for base and runtime of one platform (bytes, compressed).
const MOST: u64 = 20_000_000;

fn dry(lane: &Lane, name: &str, umask: &str, date: &str) -> Value {
    let cache = lane.path(&format!("{name}-cache"));
    let work = lane.path(&format!("{name}/deeper/than/the/other"));
    // A clone of its own, with another owner's umask, clock zone and locale.
    let clone = lane.path(&format!("{name}-clone"));
    let bare = lane.bare("donkeycar");
    lane.git(
        lane.dir.path(),
        &["clone", "--quiet", bare.to_str().unwrap(), clone.to_str().unwrap()],
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("umask {umask} && exec \"$@\"")).arg("sh");
    shell.arg(crate::common::bin("pitlane"));
    shell.args(["release", "--dry-run", "--output", "json", "--tag", "v1.0.0", "--pipeline"]);
    shell.arg(lane.path("config/donkeycar.yaml")).arg("--repo").arg(&clone);
    shell.arg("--work").arg(&work).arg("--cache").arg(&cache);
    shell.env("TZ", date).env("LC_ALL", "C").env("TMPDIR", lane.dir.path());
    parse(run(&mut shell).ok())
}

#[test]
fn two_dry_runs_give_the_same_image_and_it_is_small() {
    let mut lane = Lane::new(crate::common::lane::quick, crate::common::lane::lapless);
    let tree = lane.tree("donkeycar");
    lane.git(&tree, &["tag", "-a", "v1.0.0", "-m", "A release"]);
    lane.git(&tree, &["push", "--quiet", lane.bare("donkeycar").to_str().unwrap(), "v1.0.0"]);
    let one = dry(&lane, "one", "022", "UTC");
    let two = dry(&lane, "two", "077", "Asia/Tokyo");
    assert!(one["image"].is_null(), "a dry run pushes nothing: {one:#}");
    let index = one["index"].as_str().unwrap();
    assert_eq!(index.len(), "sha256:".len() + 64);
    assert_eq!(one["index"], two["index"]);
    // So does the service, days later or not: the counter is not in the image.
    lane.start();
    let side = lane.side_pipeline("side", crate::common::lane::quick);
    let real = parse(lane.one_shot("v1.0.0", &side, &["--counter", "41"]).ok());
    assert_eq!(real["index"], one["index"]);
    assert_eq!(real["counter"], 41);
    let image = real["image"].as_str().unwrap();
    let model = lane.statement(image)["predicate"]["model"]["layer"].clone();
    for architecture in ["amd64", "arm64"] {
        let manifest = lane.manifest(&lane.platform(image, architecture));
        let layers = manifest["layers"].as_array().unwrap();
        let rest = layers.iter().filter(|layer| layer["digest"] != model);
        let bytes: u64 = rest.map(|layer| layer["size"].as_u64().unwrap()).sum();
        eprintln!("{architecture}: base and runtime {bytes} bytes");
        assert!(bytes > 1_000_000 && bytes <= MOST, "{architecture}: {bytes} bytes");
    }

    // Another model is another image: the digest is not the same by accident.
    let card = tree.join("models/pilot.yaml");
    let text = fs::read_to_string(&card).unwrap();
    fs::write(&card, format!("{text}# another card\n")).unwrap();
    lane.git(&tree, &["commit", "--quiet", "-a", "-m", "Another card"]);
    let other = parse(lane.one_shot("v1.0.1", &side, &["--dry-run"]).ok());
    assert_ne!(other["index"], one["index"]);
    lane.stop();
}
