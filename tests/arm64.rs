//! The arm64 image of a release, unpacked from the registry, drives a lap under emulation.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::common::{
    Process, bin, is_root, json as parse, lane::Lane, repository, run, skip, until,
};

/// Unpacks the image of an architecture as a container engine would; gives the digest of each
/// layer.
fn unpack(lane: &Lane, image: &str, architecture: &str, root: &Path) -> Vec<String> {
    let manifest = lane.manifest(&lane.platform(image, architecture));
    let mut digests = Vec::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let bytes = lane.blob(digest);
        assert_eq!(crate::common::store::digest(&bytes), digest);
        let gzip = layer["mediaType"].as_str().unwrap().ends_with("+gzip");
        let reader: Box<dyn std::io::Read> = match gzip {
            true => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
            false => Box::new(&bytes[..]),
        };
        tar::Archive::new(reader).unpack(root).unwrap();
        digests.push(digest.to_owned());
    }
    digests
}

/// `pitlane-car` in its own root, as its own user. An emulator that loses its way hangs, so it
/// has a deadline.
fn car(root: &Path, args: &[&str]) -> Command {
    let mut car = Command::new("timeout");
    car.args(["--kill-after=5", "170", "chroot", "--userspec=65532:65532"]).arg(root);
    car.arg("/usr/bin/pitlane-car").args(args).env_clear();
    car.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("ORT_DISABLE_TELEMETRY", "1");
    // One kind of processor, so that the kernels are those of a small car.
    car.env("QEMU_CPU", "cortex-a72");
    car
}

fn answers(answer: &Value) -> Vec<f64> {
    let frames = answer["frames"].as_array().unwrap();
    let outputs = frames.iter().flat_map(|frame| frame["outputs"].as_array().unwrap());
    outputs
        .flat_map(|output| output["values"].as_array().unwrap())
        .map(|value| value.as_f64().unwrap())
        .collect()
}

#[test]
fn the_arm64_image_drives_a_lap_under_emulation() {
    if !is_root() {
        return skip("chroot and the emulator's handler need root");
    }
    let prepared = run(&mut Command::new(repository().join("scripts/qemu.sh")));
    if prepared.code != Some(0) {
        return skip(&format!("no emulation here: {}", prepared.stderr.trim()));
    }
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let roots = ["amd64", "arm64"].map(|name| lane.path(name));
    let layers = ["amd64", "arm64"].map(|name| {
        let root = lane.path(name);
        fs::create_dir(&root).unwrap();
        unpack(&lane, &image, name, &root)
    });
    // One model blob for the twin's machine and for the car's.
    let model = &lane.statement(&image)["predicate"]["model"];
    for digests in &layers {
        assert!(digests.contains(&model["layer"].as_str().unwrap().to_owned()), "{digests:?}");
    }
    assert_ne!(layers[0][0], layers[1][0], "the bases differ");
    let elf = fs::read(roots[1].join("usr/bin/pitlane-car")).unwrap();
    assert_eq!(elf[18..20], [0xb7, 0], "the arm64 image holds a program for another machine");
    // `chroot --userspec` and the temporary folder: the car's user must be able to enter.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(lane.dir.path(), mode).unwrap();

    let selftest = ["selftest", "--model", "/models/pilot.onnx"];
    let [amd, arm] = [&roots[0], &roots[1]].map(|root| parse(run(&mut car(root, &selftest)).ok()));
    assert_eq!((&amd["model"], &arm["model"]), (&model["digest"], &model["digest"]));
    assert_eq!((&amd["arch"], &arm["arch"]), (&"x86_64".into(), &"aarch64".into()));
    let (mine, theirs) = (answers(&amd), answers(&arm));
    assert!(!mine.is_empty() && mine.len() == theirs.len());
    for (mine, theirs) in mine.iter().zip(&theirs) {
        assert!((mine - theirs).abs() <= 1e-4, "amd64 answers {mine}, arm64 {theirs}");
    }

    let sim = roots[1].join("sim");
    fs::create_dir(&sim).unwrap();
    let report = lane.path("lap.json");
    let mut twin = Command::new(bin("pitlane-twin"));
    twin.args(["--track", "generated_track", "--lock-step", "--laps", "1", "--max-seconds", "240"]);
    twin.arg("--listen").arg(format!("unix:{}", sim.join("twin.sock").display()));
    twin.arg("--report").arg(&report);
    let (mut twin, _) = Process::server(&mut twin, &lane.path("twin.log"));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(sim.join("twin.sock"), open).unwrap();
    let drive = ["drive", "--model", "/models/pilot.onnx", "--sim", "unix:/sim/twin.sock"];
    let mut car = car(&roots[1], &[&drive[..], &["--lock-step"]].concat());
    let mut car = Process::start(&mut car, &lane.path("car.log"));
    let said = || fs::read_to_string(lane.path("car.log")).unwrap();
    let ended = until(170, "the lap ends", || twin.child.try_wait().unwrap());
    assert!(ended.success(), "{ended}: {}", said());
    until(30, "the car ends with the twin", || car.child.try_wait().unwrap());
    let lap = parse(fs::read(&report).unwrap());
    assert_eq!((&lap["passed"], &lap["laps"]), (&true.into(), &1.into()), "{lap:#}");
    assert!(lap["maxAbsCteM"].as_f64().unwrap() < lap["roadHalfWidthM"].as_f64().unwrap());
    eprintln!("{} frames in {} s", lap["frames"], lap["wallSeconds"]);
}
