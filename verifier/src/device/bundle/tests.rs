//! What the box is made of, and that nothing widens it.

use super::super::profile::{Bind, Device, Limits};
use super::*;

fn image(config: &Value) -> ImageConfig {
    let digest = pitlane_release::Digest::of("layer");
    serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }))
    .unwrap()
}

fn car() -> Value {
    json!({
        "User": "65532", "Entrypoint": ["/usr/bin/pitlane-car"], "Cmd": ["drive", "--model", "/models/pilot.onnx"],
        "Env": ["PATH=/usr/bin", "LD_PRELOAD=/evil.so", "HOME=/root", "ORT_DISABLE_TELEMETRY=0"],
        "Labels": {"privileged": "true"},
    })
}

fn machine() -> Machine {
    Machine {
        platform: Platform::LinuxAmd64,
        max_open_files: 512,
        controllers: ["memory", "swap", "pids", "cpu"].map(String::from).to_vec(),
        seccomp: true,
        cgroup_namespace: true,
    }
}

fn make(config: &Value, profile: &CarProfile, machine: &Machine) -> Result<Spec, BundleError> {
    let camera = DeviceNode {
        path: "/dev/video0".into(),
        kind: 'c',
        major: 81,
        minor: 0,
        mode: 0o20660,
        uid: 0,
        gid: 44,
        access: "rw".into(),
    };
    let devices = if profile.devices.is_empty() { &[][..] } else { &[camera][..] };
    let places = Places {
        id: "car-1",
        root: Path::new("/run/pl/car-1/rootfs"),
        run: Path::new("/run/pl/car-1/run"),
        golden: false,
    };
    spec(&image(config), profile, devices, machine, &places)
}

/// Keys in order, whichever map `serde_json` was built with.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect()
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn pretty(spec: &Spec) -> String {
    let mut text = serde_json::to_string_pretty(&sorted(&spec.config)).unwrap();
    for note in &spec.notes {
        text.push_str("\nnote: ");
        text.push_str(note);
    }
    text
}

#[test]
fn the_configuration_of_a_default_profile() {
    let spec = make(&car(), &CarProfile::default(), &machine()).unwrap();
    insta::assert_snapshot!("default_profile", pretty(&spec));
}

#[test]
fn the_configuration_of_a_full_profile_on_a_poor_machine() {
    let profile = CarProfile {
        args: vec!["--sim".into(), "unix:/run/twin/s".into()],
        report_status: false,
        env: [("PITLANE_HZ".to_owned(), "20".to_owned())].into(),
        network: Network::Host,
        binds: vec![Bind { source: "/run/twin".into(), target: "/run/twin".into() }],
        data: Some("/var/lib/car".into()),
        devices: vec![Device { path: "/dev/video0".into(), access: "rw".into() }],
        groups: vec![44],
        limits: Limits { memory: Some(1 << 29), pids: Some(64), cpus: Some(1.5), open_files: 256 },
        ..CarProfile::default()
    };
    let poor = Machine {
        controllers: vec!["pids".into()],
        seccomp: false,
        cgroup_namespace: false,
        ..machine()
    };
    let mut spec = make(&car(), &profile, &poor).unwrap();
    spec.config["linux"]["maskedPaths"] = Value::Null;
    insta::assert_snapshot!("full_profile", pretty(&spec));
}

#[test]
fn no_input_widens_the_box() {
    let mut config = car();
    for (name, value) in [
        ("Env", json!(["ORT_DISABLE_TELEMETRY=0", "LD_AUDIT=/x", "A=B\0C", "novalue"])),
        ("WorkingDir", json!("/models")),
    ] {
        config[name] = value;
    }
    let open = CarProfile { image_env: vec!["*".into()], ..CarProfile::default() };
    let spec = make(&config, &open, &machine()).unwrap();
    let process = &spec.config["process"];
    assert_eq!(process["env"], json!(["ORT_DISABLE_TELEMETRY=1", "novalue="]));
    assert_eq!((&process["cwd"], &process["noNewPrivileges"]), (&json!("/models"), &json!(true)));
    for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        assert_eq!(process["capabilities"][set], json!([]), "{set}");
    }
    assert_eq!(process["rlimits"][0]["hard"], 512, "never above the launcher's own");
    assert_eq!(spec.config["hooks"], Value::Null);
}

#[test]
fn users_are_numbers_and_root_needs_leave() {
    let check = |user: Value, root: bool| {
        let mut config = car();
        config["User"] = user;
        make(&config, &CarProfile { allow_root: root, ..CarProfile::default() }, &machine())
            .map(|s| s.user)
    };
    assert_eq!(check(json!("65532"), false), Ok(User { uid: 65532, gid: 65532 }));
    assert_eq!(check(json!("1000:44"), false), Ok(User { uid: 1000, gid: 44 }));
    for root in [json!("0"), json!("0:0"), json!("1000:0"), json!(""), Value::Null] {
        assert!(matches!(check(root.clone(), false), Err(BundleError::User(..))), "{root}");
        assert!(check(root, true).is_ok());
    }
    for bad in ["car", "1000:video", "1000:", ":1", "+1", "4294967295", "65534", "1:2:3", " 1"] {
        assert!(matches!(check(json!(bad), true), Err(BundleError::User(..))), "{bad}");
    }
}

#[test]
fn images_for_other_machines_or_without_a_program_are_refused() {
    let arm = Machine { platform: Platform::LinuxArm64, ..machine() };
    assert!(matches!(
        make(&car(), &CarProfile::default(), &arm),
        Err(BundleError::Platform { .. })
    ));
    let empty = json!({"User": "1"});
    assert_eq!(make(&empty, &CarProfile::default(), &machine()), Err(BundleError::NoProgram));
    for bad in ["models", "/a/../../b", "/proc/self/fd/7", "//proc/self"] {
        let mut config = car();
        config["WorkingDir"] = json!(bad);
        assert!(matches!(
            make(&config, &CarProfile::default(), &machine()),
            Err(BundleError::WorkingDir(_))
        ));
    }
}
