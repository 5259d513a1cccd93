//! The tests' container engine with a base that cars can start from: the root file system of
//! `make base`, and busybox to run steps with.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    bin, copy, cut, docker::Daemon, is_root, lane::Lane, made, peer, repository, run, skip, store,
    swap,
};

/// The programs of busybox that the Dockerfiles here use.
const PROGRAMS: [&str; 22] = [
    "sh", "cat", "ls", "env", "find", "grep", "wget", "sleep", "mkdir", "echo", "id", "dd", "true",
    "nc", "head", "uname", "test", "tr", "sort", "cut", "wc", "strings",
];

/// The engine, up while this is held.
pub(crate) struct Engine {
    _daemon: Daemon,
    docker: PathBuf,
}

impl Engine {
    /// None where the machine lacks what it takes.
    pub(crate) fn start() -> Option<Self> {
        let (Some(docker), Some(_)) = (peer("docker"), peer("dockerd")) else { return None };
        if !is_root() {
            skip("the Docker daemon of the tests needs root");
            return None;
        }
        Some(Self { _daemon: Daemon::start(), docker })
    }

    /// `docker`, and what it says.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.docker);
        command.args(["--host", &Daemon::host()]).args(args).stdin(Stdio::null());
        run(&mut command).ok()
    }

    /// A base for an architecture, made unless it is there; none where busybox cannot be had.
    pub(crate) fn base(&self, arch: &str) -> Option<String> {
        let name = format!("localhost/pitlane-lane:{arch}");
        if !self.docker(&["images", "--quiet", &name]).trim().is_empty() {
            return Some(name);
        }
        let folder = repository().join(format!("target/builder/busybox-{arch}"));
        if !folder.join("bin/busybox").is_file() {
            let mut fetch = Command::new(repository().join("scripts/base.py"));
            fetch.args(["--deb", "busybox-static", "--arch", arch, "--into"]).arg(&folder);
            if !fetch.status().unwrap().success() {
                skip("busybox-static could not be fetched from Debian");
                return None;
            }
        }
        let root = tempfile::tempdir().unwrap();
        copy(&made(&format!("target/base/rootfs/{arch}")), root.path());
        let bin = root.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(folder.join("bin/busybox"), bin.join("busybox")).unwrap();
        for program in PROGRAMS {
            symlink("busybox", bin.join(program)).unwrap();
        }
        self.load(&name, arch, root.path());
        Some(name)
    }

    /// Loads a root file system as an image: `docker import` says this machine's architecture of
    /// every one.
    fn load(&self, name: &str, arch: &str, root: &Path) {
        let work = tempfile::tempdir().unwrap();
        let layer = work.path().join("layer.tar");
        let mut pack = Command::new("tar");
        pack.args(["--owner=0", "--group=0", "-cf"]).arg(&layer).arg("-C").arg(root).arg(".");
        run(&mut pack).ok();
        let config = json!({
            "architecture": arch, "os": "linux", "config": { "Env": ["PATH=/usr/bin:/bin"] },
            "history": [{ "created_by": "pitlane test base" }],
            "rootfs": { "type": "layers", "diff_ids": [store::digest(&fs::read(&layer).unwrap())] },
        });
        let manifest = json!([
            { "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }
        ]);
        fs::write(work.path().join("config.json"), config.to_string()).unwrap();
        fs::write(work.path().join("manifest.json"), manifest.to_string()).unwrap();
        let archive = work.path().join("image.tar");
        let mut pack = Command::new("tar");
        pack.arg("-cf").arg(&archive).arg("-C").arg(work.path());
        run(pack.args(["manifest.json", "config.json", "layer.tar"])).ok();
        self.docker(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
    }

    /// Waits until the engine has nothing of a build or a conversion any more.
    #[track_caller]
    pub(crate) fn has_nothing_left(&self) {
        let end = Instant::now() + Duration::from_secs(40);
        for what in [&["images", "--quiet", "pitlane-build"][..], &["ps", "--all", "--quiet"]] {
            while !self.docker(what).trim().is_empty() {
                let full = self.docker(&["ps", "--all"]);
                assert!(Instant::now() < end, "docker {what:?}: something is left\n{full}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// The pipeline with a Dockerfile in the place of base and runtime: `lines` are further lines of
/// its section `build:`.
pub(crate) fn built(text: &str, base: &str, lines: &str) -> String {
    let host = Daemon::host();
    let build = format!(
        "  build:\n    context: car\n    bases: [{base}]\n    engine: {{ host: '{host}' }}\n{lines}"
    );
    let text = cut(text, "  base:\n", "  prove:");
    swap(&text, "  prove:", &format!("{build}  prove:"))
}

/// The same for this machine's platform alone.
pub(crate) fn one_platform(text: &str) -> String {
    swap(text, "platforms: [linux/amd64, linux/arm64]", "platforms: [linux/amd64]")
}

/// A line of `build:` that lays the runtime of this machine's platform.
pub(crate) fn runtime() -> String {
    format!("    runtime: {{ linux/amd64: {} }}\n", bin("pitlane-car").display())
}

impl Lane {
    /// Writes files into the folder that is sent to the engine, and commits them.
    pub(crate) fn context(&self, files: &[(&str, &str)]) {
        let tree = self.tree("donkeycar");
        for (name, text) in files {
            let path = tree.join("car").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&tree, &["add", "."]);
        self.git(&tree, &["commit", "--quiet", "-m", "A context"]);
    }

    /// The statement of this kind that a release names, as anybody can read it.
    pub(crate) fn evidence(&self, image: &str, kind: &str) -> serde_json::Value {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let release = self.statement(image);
        let all = release["predicate"]["evidence"].as_array().unwrap();
        let named = all.iter().find(|one| one["predicateType"] == kind);
        let named = named.unwrap_or_else(|| panic!("no {kind} in {release:#}"));
        let bundle = super::json(self.blob(named["digest"].as_str().unwrap()));
        let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
        super::json(STANDARD.decode(payload).unwrap())
    }

    /// The bytes of a file in a platform's image, from the highest layer that has it.
    pub(crate) fn file_in(&self, image: &str, arch: &str, name: &str) -> Option<Vec<u8>> {
        let manifest = self.manifest(&self.platform(image, arch));
        manifest["layers"].as_array().unwrap().iter().rev().find_map(|layer| {
            let bytes = self.plain(layer);
            let mut archive = tar::Archive::new(&bytes[..]);
            let mut entries = archive.entries().unwrap().map(Result::unwrap);
            let found = |entry: &tar::Entry<'_, &[u8]>| {
                let path = entry.path().unwrap();
                path.strip_prefix("./").unwrap_or(&path) == std::path::Path::new(name)
            };
            let mut entry = entries.find(found)?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            Some(bytes)
        })
    }

    /// All layers of a platform's image, uncompressed.
    pub(crate) fn layers(&self, image: &str, arch: &str) -> Vec<Vec<u8>> {
        let manifest = self.manifest(&self.platform(image, arch));
        manifest["layers"].as_array().unwrap().iter().map(|layer| self.plain(layer)).collect()
    }

    fn plain(&self, layer: &serde_json::Value) -> Vec<u8> {
        let bytes = self.blob(layer["digest"].as_str().unwrap());
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return bytes;
        }
        let mut plain = Vec::new();
        let mut gzip = flate2::read::MultiGzDecoder::new(&bytes[..]);
        std::io::Read::read_to_end(&mut gzip, &mut plain).unwrap();
        plain
    }
}

/// Whether some bytes are in others.
pub(crate) fn holds(bytes: &[u8], what: &[u8]) -> bool {
    !what.is_empty() && bytes.windows(what.len()).any(|window| window == what)
}
