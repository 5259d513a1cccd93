//! Real starts with the runtime of this machine. They need root, a runtime and `rustc`; without
//! one of them they say that they skip, and fail under CI=true.

use std::{os::unix::fs::chown, process::Command, sync::OnceLock};

use pitlane_release::{Digest, oci};
use serde_json::json;

use super::*;
use crate::device::{
    health::Health,
    profile::{Bind, Limits},
    running::{Exit, KILL_WAIT},
    store::StoreLimits,
};

/// The probe program as a tar layer, or why there is none.
fn probe() -> Result<&'static [u8], String> {
    static LAYER: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    LAYER
        .get_or_init(|| {
            if !nix::unistd::geteuid().is_root() {
                return Err("not root".into());
            }
            Engine::find(None).map_err(|error| error.to_string())?;
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("probe.rs"), include_str!("probe.rs")).unwrap();
            let rustc = Command::new("rustc")
                .args([
                    "-O",
                    "--edition=2021",
                    "-Ctarget-feature=+crt-static",
                    "-Cstrip=symbols",
                    "probe.rs",
                ])
                .current_dir(&dir)
                .output();
            let rustc = rustc.map_err(|error| format!("rustc: {error}"))?;
            if !rustc.status.success() {
                return Err(format!("rustc: {}", String::from_utf8_lossy(&rustc.stderr)));
            }
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_path_with_name(dir.path().join("probe"), "bin/probe").unwrap();
            Ok(builder.into_inner().unwrap())
        })
        .as_deref()
        .map_err(Clone::clone)
}

struct Place {
    dir: tempfile::TempDir,
    launcher: Launcher,
}

impl Place {
    fn new() -> Option<Self> {
        if let Err(why) = probe() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI must start containers: {why}"
            );
            println!("SKIP: {why}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::open(&dir.path().join("store"), StoreLimits { total: 1 << 30, reserve: 0 })
                .unwrap();
        let launcher = Launcher::new(Self::config(dir.path()), store).unwrap();
        fs::create_dir(dir.path().join("ro")).unwrap();
        fs::write(dir.path().join("ro/hello"), "from the host").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        chown(dir.path().join("data"), Some(65532), Some(65532)).unwrap();
        Some(Self { dir, launcher })
    }

    fn config(dir: &Path) -> LauncherConfig {
        LauncherConfig {
            unpack_dir: dir.join("unpacked"),
            state_dir: dir.join("state"),
            log_dir: dir.join("log"),
            ..LauncherConfig::default()
        }
    }

    fn image(&self, cmd: &[&str], layer: &[u8]) -> (PinnedImage, ImageManifest) {
        let store = &self.launcher.store;
        let layer = store.put(oci::LAYER_TAR, layer).unwrap();
        let config = json!({
            "architecture": pitlane_release::Platform::host().unwrap().architecture(), "os": "linux",
            "config": {"User": "65532", "Entrypoint": ["/bin/probe"], "Cmd": cmd, "Env": ["PATH=/bin", "HOME=/root"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = store.put(oci::CONFIG, &serde_json::to_vec(&config).unwrap()).unwrap();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let image = format!("r.example/car@{}", Digest::of(&bytes)).parse().unwrap();
        (image, oci::parse_manifest(&bytes).unwrap())
    }

    fn start(&self, cmd: &[&str], profile: &CarProfile) -> Result<Running, LaunchError> {
        let (image, manifest) = self.image(cmd, probe().unwrap());
        self.launcher.start(&Start { image: &image, manifest: &manifest, golden: None }, profile)
    }

    /// Everything that a start made is gone.
    fn assert_clean(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "a mount is left");
        for dir in ["unpacked", "state"] {
            assert_eq!(names(&self.dir.path().join(dir)).unwrap(), [""; 0], "{dir}");
        }
    }
}

#[test]
fn golden_frames_lie_where_the_program_is_told() {
    let Some(place) = Place::new() else { return };
    let (image, manifest) = place.image(&["exit", "7"], probe().unwrap());
    let golden = GoldenFrames::new(Digest::of("model"), 0.25, vec![]);
    let start = Start { image: &image, manifest: &manifest, golden: Some(&golden) };
    let mut running = place.launcher.start(&start, &CarProfile::default()).unwrap();
    assert_eq!(running.wait(LONG).unwrap(), Some(Exit::Code(7)), "{}", running.log_tail());
    let text = running.log_tail();
    let args = "args=exit 7 --status /run/pitlane/status.json --golden /run/pitlane/golden.json";
    let frames = format!("golden={}", serde_json::to_string(&golden).unwrap());
    for line in [args, &frames] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_container_sees_what_it_is_granted_and_nothing_else() {
    let Some(place) = Place::new() else { return };
    let profile = CarProfile {
        args: vec!["extra".into()],
        data: Some(place.dir.path().join("data")),
        binds: vec![Bind { source: place.dir.path().join("ro"), target: "/ro".into() }],
        groups: vec![4711],
        ..CarProfile::default()
    };
    let before = std::time::SystemTime::now();
    let mut running = place.start(&["exit", "7"], &profile).unwrap();
    assert_eq!(running.wait(LONG).unwrap(), Some(Exit::Code(7)), "{}", running.log_tail());
    let text = running.log_tail();
    for line in [
        "args=exit 7 extra --status /run/pitlane/status.json",
        "env ORT_DISABLE_TELEMETRY=1",
        "env PATH=/bin",
        "Uid: 65532 65532 65532 65532",
        "Gid: 65532 65532 65532 65532",
        "Groups: 4711",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "write /x=ReadOnlyFilesystem",
        "write /bin/probe=PermissionDenied",
        "write /sys/x=ReadOnlyFilesystem",
        "write /proc/sys/kernel/hostname=PermissionDenied",
        "write /run/pitlane/x=ok",
        "write /tmp/x=ok",
        "write /data/x=ok",
        "write /ro/x=ReadOnlyFilesystem",
        "fill=StorageFull",
        "net=lo",
        "pid=1",
        "ro=from the host",
        "unshare=-1 alg=-1",
        "limits=Max core file size 0 0 bytes;Max open files 1024 1024 files",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
    }
    assert!(
        !text.contains("HOME=/root") && running.notes().iter().any(|n| n.contains("`HOME`")),
        "{:?}",
        running.notes()
    );
    assert!(place.dir.path().join("data/x").exists() && !place.dir.path().join("ro/x").exists());
    let main: u128 = text.lines().find_map(|l| l.strip_prefix("main=")).unwrap().parse().unwrap();
    let before = before.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    println!("start to main: {} us, of it {:?}", (main - before) / 1000, running.cost());
    drop(running);
    place.assert_clean();
}

#[test]
fn a_container_is_watched_and_stopped_gently_or_not() {
    let Some(place) = Place::new() else { return };
    for (mood, grace, exit) in
        [("gentle", LONG, 42), ("stubborn", Duration::from_millis(300), 128 + 9)]
    {
        let mut running = place.start(&["drive", mood], &CarProfile::default()).unwrap();
        let deadline = Instant::now() + LONG;
        while !running.health().unwrap().drives() {
            assert!(Instant::now() < deadline, "{:?}\n{}", running.health(), running.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(running.wait(Duration::from_millis(50)).unwrap(), None);
        let begin = Instant::now();
        assert_eq!(running.stop(grace).unwrap(), Exit::Code(exit), "{mood}");
        assert!(begin.elapsed() < grace + KILL_WAIT, "{mood}: {:?}", begin.elapsed());
        assert_eq!(running.health().unwrap(), Health::Exited(Exit::Code(exit)));
        drop(running);
        place.assert_clean();
    }
}

#[test]
fn limits_hold_where_the_kernel_can() {
    let Some(place) = Place::new() else { return };
    let limits = Limits { memory: Some(64 << 20), pids: Some(40), ..Limits::default() };
    let profile = CarProfile { limits, ..CarProfile::default() };
    let can = machine::look(true).unwrap().controllers;
    if can.iter().any(|c| c == "pids") {
        let mut running = place.start(&["threads"], &profile).unwrap();
        running.wait(LONG).unwrap();
        let text = running.log_tail();
        let made: u32 =
            text.lines().find_map(|l| l.strip_prefix("threads=")).unwrap().parse().unwrap();
        assert!(made < 40, "{made}");
    }
    if can.iter().any(|c| c == "memory") {
        let mut running = place.start(&["eat"], &profile).unwrap();
        assert_eq!(running.wait(LONG).unwrap(), Some(Exit::Code(137)), "{}", running.log_tail());
    }
}

#[test]
fn a_start_that_cannot_be_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let start = |cmd: &[&str], layer: &[u8], profile: &CarProfile| {
        let (image, manifest) = place.image(cmd, layer);
        place.launcher.start(&Start { image: &image, manifest: &manifest, golden: None }, profile)
    };
    // No such program: the runtime says so and ends.
    let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let mut running = start(&[], &empty, &CarProfile::default()).unwrap();
    assert_eq!(running.wait(LONG).unwrap(), Some(Exit::Code(1)));
    assert!(running.log_tail().to_lowercase().contains("no such file"), "{}", running.log_tail());
    drop(running);
    place.assert_clean();

    let device = |path: &str| CarProfile {
        devices: vec![super::super::profile::Device { path: path.into(), access: "r".into() }],
        ..CarProfile::default()
    };
    let error = start(&[], &empty, &device("/dev/no-such-camera")).unwrap_err();
    assert!(matches!(error, LaunchError::Device { .. }) && !error.is_refusal(), "{error}");

    let (image, manifest) = place.image(&["exit", "0"], probe().unwrap());
    let path = place.dir.path().join("store/blobs/sha256").join(manifest.layers[0].digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = place
        .launcher
        .start(&Start { image: &image, manifest: &manifest, golden: None }, &CarProfile::default())
        .unwrap_err();
    assert!(error.refetch() && !error.is_refusal(), "{error}");
    place.assert_clean();
}

#[test]
fn a_new_launcher_clears_what_a_killed_one_left() {
    let Some(place) = Place::new() else { return };
    let mut running = place.start(&["drive", "stubborn"], &CarProfile::default()).unwrap();
    while !running.health().unwrap().drives() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // As if the agent had died: the runtime is gone, the container drives on.
    let state = place.dir.path().join("state").join(running.id());
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(state.exists());
    let again =
        Launcher::new(Place::config(place.dir.path()), place.launcher.store.clone()).unwrap();
    assert!(!state.exists(), "the container nobody watched is gone");
    place.assert_clean();
    assert_eq!(running.wait(LONG).unwrap(), Some(Exit::RuntimeKilled(9)));
    drop((running, again));
}

#[test]
fn a_device_of_the_profile_is_there_and_can_be_read() {
    assert_eq!(node(Path::new("/dev/null"), "rw").unwrap().major, 1);
    assert!(node(Path::new("/dev/shm"), "r").is_err(), "a directory is no device");
}
