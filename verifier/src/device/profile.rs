//! `CarProfile`: what the operator of a car grants a release. Data only; the image has no say.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Variables of the image's config that reach the program unless the profile lists others.
/// The loader's debugging variables are not among them.
const DEFAULT_ENV: [&str; 7] =
    ["PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "ORT_*", "PITLANE_*", "NVIDIA_*"];
/// Names that neither image nor profile may set, beside those of the loader: they change the C
/// library, or switch telemetry on again.
const FORBIDDEN_ENV: [&str; 2] = ["GLIBC_TUNABLES", "ORT_DISABLE_TELEMETRY"];
/// Longest profile text.
const MAX_PROFILE: usize = 64 * 1024;
/// Where only the launcher mounts.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/run/pitlane", "/data"];

/// The device configuration of a car: the rights and limits of whatever release it drives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CarProfile {
    /// Arguments after those of the image, for example `--sim unix:/run/twin/twin.sock`.
    pub args: Vec<String>,
    /// Whether `--status /run/pitlane/status.json` is appended, so that health can be read.
    pub report_status: bool,
    /// Variables set by the operator.
    pub env: BTreeMap<String, String>,
    /// Names of the image's variables that are let through; a trailing `*` matches any rest.
    pub image_env: Vec<String>,
    /// Which network the program sees.
    pub network: Network,
    /// Host files and directories it may read.
    pub binds: Vec<Bind>,
    /// Host directory that it may write as `/data`, kept over restarts. Its owner must let the
    /// image's user write.
    pub data: Option<PathBuf>,
    /// Host devices it may open, for example a camera.
    pub devices: Vec<Device>,
    /// Further groups of the program (numeric), for example that of the video devices.
    pub groups: Vec<u32>,
    /// Whether an image whose user is root may start.
    pub allow_root: bool,
    /// What it may use up.
    pub limits: Limits,
}

impl Default for CarProfile {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            report_status: true,
            env: BTreeMap::new(),
            image_env: DEFAULT_ENV.map(String::from).to_vec(),
            network: Network::None,
            binds: Vec::new(),
            data: None,
            devices: Vec::new(),
            groups: Vec::new(),
            allow_root: false,
            limits: Limits::default(),
        }
    }
}

/// The network of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// A namespace of its own with nothing in it: simulators and motors by socket or device.
    #[default]
    None,
    /// The host's.
    Host,
}

/// A host path shown to the program, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
}

/// A host device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path, the same inside: `/dev/video0`.
    pub path: PathBuf,
    /// Some of `r`, `w`; never `m` (make nodes).
    #[serde(default = "Device::read_write")]
    pub access: String,
}

impl Device {
    fn read_write() -> String {
        "rw".into()
    }
}

/// Limits of the whole container; a kernel without the controller cannot hold one, which is
/// reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of memory, swap included.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Processors' worth of time, for example 1.5.
    pub cpus: Option<f64>,
    /// Open files, capped at the hard limit of the launcher itself.
    pub open_files: u64,
}

impl Default for Limits {
    /// 1 GiB, 128 threads, as many processors as there are, 1024 files.
    fn default() -> Self {
        Self { memory: Some(1 << 30), pids: Some(128), cpus: None, open_files: 1024 }
    }
}

/// A profile that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("car profile: {field}: `{value}` {want}")]
pub struct ProfileError {
    field: &'static str,
    value: String,
    want: &'static str,
}

impl CarProfile {
    /// Reads a profile (YAML or JSON, unknown fields refused) and checks it.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self =
            pitlane_release::yaml::read(text, MAX_PROFILE).map_err(|error| ProfileError {
                field: "document",
                value: error.to_string().chars().take(300).collect(),
                want: "is not a profile",
            })?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), ProfileError> {
        let fail = |field, value: &dyn std::fmt::Display, want| {
            Err(ProfileError { field, value: value.to_string(), want })
        };
        for (name, value) in &self.env {
            if !is_env_name(name) || value.contains('\0') {
                return fail("env", name, "is no usable variable (NAME of letters, digits and _)");
            }
            if forbidden(name) {
                return fail(
                    "env",
                    name,
                    "may not be set: it changes what code runs, or telemetry",
                );
            }
        }
        for bind in &self.binds {
            if !is_plain(&bind.source) || !is_plain(&bind.target) || bind.target.parent().is_none()
            {
                return fail(
                    "binds",
                    &bind.target.display(),
                    "must be absolute, without `..`, from an absolute source",
                );
            }
            if RESERVED.iter().any(|reserved| bind.target.starts_with(reserved)) {
                return fail(
                    "binds",
                    &bind.target.display(),
                    "is mounted by the launcher; choose another target",
                );
            }
        }
        if let Some(data) = self.data.as_ref().filter(|data| !is_plain(data)) {
            return fail("data", &data.display(), "must be an absolute path without `..`");
        }
        for device in &self.devices {
            if !device.path.starts_with("/dev/") || !is_plain(&device.path) {
                return fail("devices", &device.path.display(), "must be a path below /dev");
            }
            if !matches!(device.access.as_str(), "r" | "w" | "rw") {
                return fail("devices", &device.access, "is no access: want r, w or rw");
            }
        }
        let limits = &self.limits;
        if limits.memory.is_some_and(|bytes| bytes < 4 << 20 || bytes > i64::MAX.unsigned_abs()) {
            return fail(
                "limits.memory",
                &limits.memory.unwrap_or(0),
                "bytes: want at least 4 MiB",
            );
        }
        if limits.cpus.is_some_and(|cpus| !(0.01..=4096.0).contains(&cpus)) {
            return fail("limits.cpus", &limits.cpus.unwrap_or(0.0), "want 0.01 to 4096");
        }
        if limits.pids == Some(0) || limits.open_files < 16 {
            return fail("limits", &limits.open_files, "want at least 1 process and 16 open files");
        }
        Ok(())
    }

    /// Whether a variable of the image's config is let through.
    pub(super) fn passes(&self, name: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        is_env_name(name) && !forbidden(name) && self.image_env.iter().any(matches)
    }
}

/// The loader's variables (`LD_PRELOAD`, `LD_AUDIT`, `LD_PROFILE_OUTPUT`, ... of ld.so(8)) run
/// other code or write files, and new ones come with new loaders: only the search path is let
/// through, which GPU cars need.
fn forbidden(name: &str) -> bool {
    let of_the_loader = name.starts_with("LD_") && name != "LD_LIBRARY_PATH";
    of_the_loader || FORBIDDEN_ENV.contains(&name)
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

fn is_plain(path: &std::path::Path) -> bool {
    use std::path::Component;
    path.is_absolute()
        && path.to_str().is_some_and(|text| !text.contains('\0'))
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_profile_grants_nothing_and_unknown_fields_are_refused() {
        assert_eq!(CarProfile::parse("{}").unwrap(), CarProfile::default());
        let profile = CarProfile::parse(
            "args: [--hz, '20']\nnetwork: host\nbinds: [{source: /run/twin, target: /run/twin}]\n\
             devices: [{path: /dev/video0}]\nlimits: {memory: 536870912, cpus: 1.5}\n",
        )
        .unwrap();
        assert_eq!((profile.network, profile.devices[0].access.as_str()), (Network::Host, "rw"));
        for bad in [
            "privileged: true",
            "env: {LD_PRELOAD: /x.so}",
            "env: {LD_PROFILE_OUTPUT: /data}",
            "env: {ORT_DISABLE_TELEMETRY: '0'}",
            "env: {'a b': c}",
            "binds: [{source: relative, target: /x}]",
            "binds: [{source: /x, target: /a/../b}]",
            "binds: [{source: /x, target: /proc/sys}]",
            "binds: [{source: /x, target: /data}]",
            "binds: [{source: /x, target: /}]",
            "devices: [{path: /etc/passwd}]",
            "devices: [{path: /dev/../etc}]",
            "devices: [{path: /dev/sda, access: rwm}]",
            "data: here",
            "limits: {memory: 1}",
            "limits: {cpus: 0}",
            "limits: {cpus: .nan}",
            "limits: {pids: 0}",
        ] {
            assert!(CarProfile::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_image_sets_only_variables_on_the_list() {
        let profile = CarProfile::default();
        for name in ["PATH", "PITLANE_X", "ORT_LOGGING", "LD_LIBRARY_PATH"] {
            assert!(profile.passes(name), "{name}");
        }
        let open = CarProfile { image_env: vec!["*".into()], ..CarProfile::default() };
        for name in [
            "LD_PRELOAD",
            "LD_OF_TOMORROW",
            "ORT_DISABLE_TELEMETRY",
            "GLIBC_TUNABLES",
            "",
            "A B",
            "1X",
        ] {
            assert!(!profile.passes(name) && !open.passes(name), "{name}");
        }
        assert!(!profile.passes("HOME") && open.passes("HOME"));
    }
}
