//! The runtime's `config.json`, made from the verified image config and the operator's profile,
//! and from nothing else: no file of the image is read for it, no field is copied unseen.
//!
//! Source: OCI runtime spec 1.0.2 (what runc 1.1 and crun 1.8 read).

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use pitlane_release::{Platform, oci::ImageConfig};
use serde_json::{Value, json};

use super::{
    profile::{CarProfile, Network},
    seccomp,
};

/// Where the program writes its status, inside.
pub const STATUS: &str = "/run/pitlane/status.json";
/// Where the program finds the golden frames, inside.
pub const GOLDEN: &str = "/run/pitlane/golden.json";
/// Most bytes of /tmp and of /dev/shm: memory, so it counts.
const SCRATCH: &str = "size=16m";
/// The highest id that containers use (16 bits are what images can rely on; the last two mean
/// "nobody" and "unchanged").
const MAX_ID: u32 = 65_533;

/// Why no bundle is made of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The image is for another machine.
    #[error("the image is for {found}, this machine runs {host}")]
    Platform {
        /// What the config says.
        found: String,
        /// What runs here.
        host: Platform,
    },
    /// The user is not numeric, missing, or root without leave.
    #[error("image user `{0}`: {1}")]
    User(String, &'static str),
    /// Neither entrypoint nor command.
    #[error("the image names no program to start (entrypoint and cmd are empty)")]
    NoProgram,
    /// The working directory is no absolute plain path.
    #[error(
        "image working directory `{0}` is not an absolute path without `..`, outside /proc, /sys and /dev"
    )]
    WorkingDir(String),
}

/// A user as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A device node of the host, looked up by the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path, outside and inside.
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Permission bits of the host's node.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// `r`, `w` or `rw`.
    pub access: String,
}

/// What the machine is and can do, looked up by the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its platform.
    pub platform: Platform,
    /// Hard limit of open files of the launcher: raising it needs a capability.
    pub max_open_files: u64,
    /// Cgroup controllers that can be used: `memory`, `pids`, `cpu`; `swap` where it is counted.
    pub controllers: Vec<String>,
    /// Whether the runtime was built with seccomp.
    pub seccomp: bool,
    /// Whether the kernel has cgroup namespaces.
    pub cgroup_namespace: bool,
}

/// The places of one start.
#[derive(Clone, Debug)]
pub struct Places<'p> {
    /// The container's id: letters, digits and dashes.
    pub id: &'p str,
    /// The unpacked image, absolute.
    pub root: &'p Path,
    /// The host directory shown as /run/pitlane.
    pub run: &'p Path,
    /// Whether golden frames lie there, to be reproduced before it drives.
    pub golden: bool,
}

/// A configuration and what it could not promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The content of `config.json`.
    pub config: Value,
    /// The image's user.
    pub user: User,
    /// In words: limits not enforced, variables not let through.
    pub notes: Vec<String>,
}

/// The user of an image: `uid` or `uid:gid`, numeric, root only with leave.
pub fn user(config: &ImageConfig, allow_root: bool) -> Result<User, BundleError> {
    let text = config.config.user.clone().unwrap_or_default();
    let fail = |why| Err(BundleError::User(text.chars().take(60).collect(), why));
    if text.is_empty() {
        if allow_root {
            return Ok(User { uid: 0, gid: 0 });
        }
        return fail("none means root, which the car profile does not allow; set USER 65532");
    }
    let (uid, gid) = text.split_once(':').unwrap_or((&text, &text));
    let id = |part: &str| {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|id| digits && *id <= MAX_ID)
    };
    let (Some(uid), Some(gid)) = (id(uid), id(gid)) else {
        return fail(
            "want numbers up to 65533, as UID or UID:GID: names would be read from the image",
        );
    };
    if (uid == 0 || gid == 0) && !allow_root {
        return fail("root (user or group) is not allowed by the car profile; set USER 65532");
    }
    Ok(User { uid, gid })
}

/// The paths that the root file system must offer as mount points, and whether each is a
/// directory; `is_dir` looks at a bind's source.
pub fn mount_points(profile: &CarProfile, is_dir: impl Fn(&Path) -> bool) -> Vec<(PathBuf, bool)> {
    let mut points: Vec<(PathBuf, bool)> =
        ["/proc", "/dev", "/sys", "/tmp", "/run/pitlane"].map(|p| (p.into(), true)).to_vec();
    if profile.data.is_some() {
        points.push(("/data".into(), true));
    }
    points.extend(profile.binds.iter().map(|bind| (bind.target.clone(), is_dir(&bind.source))));
    points
}

/// The configuration. Decides only; the launcher writes it.
pub fn spec(
    image: &ImageConfig,
    profile: &CarProfile,
    devices: &[DeviceNode],
    machine: &Machine,
    places: &Places<'_>,
) -> Result<Spec, BundleError> {
    let found = format!("{}/{}", image.os, image.architecture);
    if found.parse() != Ok(machine.platform) {
        return Err(BundleError::Platform { found, host: machine.platform });
    }
    let user = user(image, profile.allow_root)?;
    let mut notes = Vec::new();
    let start = &image.config;
    let mut args: Vec<&str> =
        start.entrypoint.iter().chain(&start.cmd).flatten().map(String::as_str).collect();
    if args.is_empty() || args[0].is_empty() {
        return Err(BundleError::NoProgram);
    }
    args.extend(profile.args.iter().map(String::as_str));
    if profile.report_status {
        args.extend(["--status", STATUS]);
    }
    if places.golden {
        args.extend(["--golden", GOLDEN]);
    }
    let cwd = start.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/");
    // /proc/self/fd/N as a working directory has led out of containers before.
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|dir| Path::new(cwd).starts_with(dir));
    if !cwd.starts_with('/') || kernel || cwd.split('/').any(|part| part == "..") {
        return Err(BundleError::WorkingDir(cwd.chars().take(120).collect()));
    }
    let files = profile.limits.open_files.min(machine.max_open_files);
    let none: [&str; 0] = [];
    let mut namespaces = vec![
        json!({"type": "pid"}),
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
        json!({"type": "mount"}),
    ];
    if profile.network == Network::None {
        namespaces.push(json!({"type": "network"}));
    }
    if machine.cgroup_namespace {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": format!("/pitlane/{}", places.id),
        "resources": resources(profile, devices, machine, &mut notes),
        "devices": devices.iter().map(|d| json!({
            "path": d.path, "type": d.kind, "major": d.major, "minor": d.minor,
            "fileMode": d.mode & 0o777, "uid": d.uid, "gid": d.gid,
        })).collect::<Vec<_>>(),
        "rootfsPropagation": "private",
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/keys",
            "/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
            "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if machine.seccomp {
        linux["seccomp"] = seccomp::section(machine.platform);
    } else {
        notes.push("no system call filter: the runtime is built without seccomp".into());
    }
    let config = json!({
        "ociVersion": "1.0.2",
        "hostname": "car",
        "root": {"path": places.root, "readonly": true},
        "process": {
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": profile.groups, "umask": 0o077},
            "args": args,
            "env": environment(image, profile, &mut notes),
            "cwd": cwd,
            "capabilities": {"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
            "noNewPrivileges": true,
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": files, "hard": files},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
        },
        "mounts": mounts(profile, user, places),
        "linux": linux,
    });
    Ok(Spec { config, user, notes })
}

fn environment(image: &ImageConfig, profile: &CarProfile, notes: &mut Vec<String>) -> Vec<String> {
    let mut env = std::collections::BTreeMap::new();
    for line in image.config.env.iter().flatten() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        if profile.passes(name) && !value.contains('\0') {
            env.insert(name, value);
        } else if name != "ORT_DISABLE_TELEMETRY" {
            let name: String = name.chars().take(60).collect();
            notes.push(format!(
                "variable `{}` of the image is not let through",
                name.escape_default()
            ));
        }
    }
    env.extend(profile.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    // The inference library reports home unless told before it loads; nobody can unset this.
    env.insert("ORT_DISABLE_TELEMETRY", "1");
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn mounts(profile: &CarProfile, user: User, places: &Places<'_>) -> Vec<Value> {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    let bind = |from: &Path, to: &Path, options: &[&str]| {
        let options: Vec<&str> =
            ["bind", "private", "nosuid", "nodev"].iter().chain(options).copied().collect();
        json!({"destination": to, "type": "bind", "source": from, "options": options})
    };
    let own = format!("uid={},gid={}", user.uid, user.gid);
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", SCRATCH]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=0700", SCRATCH, &own]),
        bind(places.run, Path::new("/run/pitlane"), &["noexec", "rw"]),
    ];
    if let Some(data) = &profile.data {
        mounts.push(bind(data, Path::new("/data"), &["noexec", "rw"]));
    }
    mounts.extend(profile.binds.iter().map(|b| bind(&b.source, &b.target, &["ro"])));
    mounts
}

fn resources(
    profile: &CarProfile,
    devices: &[DeviceNode],
    machine: &Machine,
    notes: &mut Vec<String>,
) -> Value {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(devices.iter().map(|d| {
        json!({"allow": true, "type": d.kind, "major": d.major, "minor": d.minor, "access": d.access})
    }));
    let mut resources = json!({"devices": rules});
    let mut limit = |controller: &str, key: &str, value: Value| {
        if machine.controllers.iter().any(|c| c == controller) {
            resources[key] = value;
        } else {
            notes.push(format!("limit not enforced: the kernel offers no {controller} controller"));
        }
    };
    if let Some(bytes) = profile.limits.memory {
        limit(
            "memory",
            "memory",
            if machine.controllers.iter().any(|c| c == "swap") {
                json!({"limit": bytes, "swap": bytes})
            } else {
                json!({"limit": bytes})
            },
        );
    }
    if let Some(pids) = profile.limits.pids {
        limit("pids", "pids", json!({"limit": pids}));
    }
    if let Some(cpus) = profile.limits.cpus {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the profile bounds it to 4096 processors"
        )]
        let quota = (cpus * 100_000.0) as i64;
        limit("cpu", "cpu", json!({"period": 100_000, "quota": quota}));
    }
    resources
}
