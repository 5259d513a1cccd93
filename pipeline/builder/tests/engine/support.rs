//! An engine, base images, contexts, and a look at what an engine has left.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use pitlane_builder::{BuildRequest, Builder, Built, Event, Host};
use pitlane_release::{Digest, Platform};

/// The programs of busybox that the Dockerfiles here use.
const PROGRAMS: [&str; 24] = [
    "sh", "cat", "ls", "env", "find", "grep", "wget", "sleep", "mkdir", "echo", "id", "dd", "true",
    "nc", "head", "yes", "uname", "tail", "test", "chmod", "tr", "sort", "cut", "wc",
];

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Says that something could not be tested here; CI must be able to test everything.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but {why}");
    eprintln!("SKIP: {why}");
}

/// The converters' images are some GB that few need, so they are not a part of the set-up; who has
/// made them says so by `PITLANE_CONVERTERS=1`, and then all of them must be there.
pub(crate) fn without_image(why: &str) {
    let made = std::env::var_os("PITLANE_CONVERTERS").is_some_and(|made| made == "1");
    assert!(!made, "PITLANE_CONVERTERS=1, but {why}");
    eprintln!("SKIP: {why}");
}

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = dirs.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        skip(&format!("{name} is missing: run scripts/peers.sh"));
    }
    found
}

pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

/// The tests' Docker; the last that holds it stops it.
pub(crate) struct Engine {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Engine {
    pub(crate) fn start() -> Option<Self> {
        program("dockerd")?;
        program("docker")?;
        let mut command = Command::new(repository().join("scripts/dockerd.sh"));
        command.args(["with", "sh", "-c", "echo $DOCKER_HOST; cat >/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix://"), "the Docker daemon did not start");
        let stdin = child.stdin.take();
        Some(Self { child, stdin })
    }

    pub(crate) fn socket() -> PathBuf {
        repository().join("target/dockerd/docker.sock")
    }

    pub(crate) async fn builder() -> Builder {
        Builder::connect(&Host::Unix(Self::socket())).await.unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    docker_at(&Engine::socket(), arguments)
}

pub(crate) fn docker_at(socket: &Path, arguments: &[&str]) -> String {
    let mut docker = Command::new("docker");
    docker.env("DOCKER_HOST", format!("unix://{}", socket.display())).args(arguments);
    run(docker.stdin(Stdio::null()))
}

/// A base of busybox for a platform, loaded into the engine at `socket` unless it is there.
pub(crate) fn base(socket: &Path, platform: Platform) -> Option<String> {
    let arch = platform.architecture();
    let name = format!("localhost/pitlane-base:{arch}");
    let known = docker_at(socket, &["images", "--quiet", &name]);
    if !known.trim().is_empty() {
        return Some(name);
    }
    let folder = repository().join(format!("target/builder/busybox-{arch}"));
    let busybox = folder.join("bin/busybox");
    if !busybox.is_file() {
        let mut fetch = Command::new(repository().join("scripts/base.py"));
        fetch.args(["--deb", "busybox-static", "--arch", arch, "--into"]).arg(&folder);
        if !fetch.status().unwrap().success() {
            skip("busybox-static could not be fetched from Debian");
            return None;
        }
    }
    let layer = layer(&fs::read(&busybox).unwrap());
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": arch, "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "history": [{"created_by": "pitlane test base"}],
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}
    }));
    let manifest = serde_json::to_vec(&serde_json::json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}
    ]));
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = tar::Builder::new(file.as_file());
    let files = [
        ("layer.tar", layer),
        ("config.json", config.unwrap()),
        ("manifest.json", manifest.unwrap()),
    ];
    for (name, bytes) in files {
        append(&mut archive, name, 0o644, &bytes);
    }
    archive.into_inner().unwrap();
    docker_at(socket, &["load", "--quiet", "--input", file.path().to_str().unwrap()]);
    Some(name)
}

fn append(archive: &mut tar::Builder<impl std::io::Write>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn layer(busybox: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin/", "tmp/", "proc/", "sys/", "dev/", "etc/"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    append(&mut archive, "bin/busybox", 0o755, busybox);
    for name in PROGRAMS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    archive.into_inner().unwrap()
}

/// A context of these files, and a folder for blobs.
pub(crate) struct Case {
    pub(crate) context: tempfile::TempDir,
    pub(crate) blobs: tempfile::TempDir,
    pub(crate) request: BuildRequest,
}

impl Case {
    pub(crate) fn new(base: &str, dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let [context, blobs] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        for (name, text) in files {
            fs::write(context.path().join(name), text).unwrap();
        }
        let (from, to) = (context.path().to_owned(), blobs.path().to_owned());
        let mut request = BuildRequest::new(from, Platform::LinuxAmd64, to);
        request.bases.insert(base.to_owned());
        request.limits.seconds = 120;
        Self { context, blobs, request }
    }

    pub(crate) async fn build(
        &self,
        builder: &Builder,
    ) -> Result<(Built, String), pitlane_builder::BuildError> {
        let mut log = String::new();
        let built = builder.build(&self.request, |event| note(&mut log, &event)).await;
        Ok((built?, log))
    }
}

pub(crate) fn note(log: &mut String, event: &Event) {
    if let Event::Step { text } | Event::Log { text } = event {
        log.push_str(text);
        log.push('\n');
    }
}

/// The bytes of a file in the image, from the last layer that has it.
pub(crate) fn file_in(built: &Built, name: &str) -> Option<Vec<u8>> {
    built.layers.iter().rev().find_map(|layer| {
        let mut archive = tar::Archive::new(fs::File::open(&layer.path).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|e| e.path().unwrap() == Path::new(name))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    })
}

pub(crate) fn text_in(built: &Built, name: &str) -> String {
    String::from_utf8(file_in(built, name).unwrap_or_else(|| panic!("no {name} in the image")))
        .unwrap()
}

/// Waits until a command of docker says nothing any more.
pub(crate) async fn until_empty(what: &[&str]) {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        let left = docker(what);
        if left.trim().is_empty() {
            return;
        }
        assert!(Instant::now() < end, "docker {what:?} still says {left}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Nothing of a build is left: no container that runs `mark`, no image under a build's name.
pub(crate) async fn nothing_left(mark: &str) {
    // Whatever the engine calls it: no process of the build is alive.
    let alive = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(mark) && !line.contains("engine")
        })
    };
    let end = Instant::now() + Duration::from_secs(40);
    while alive() {
        assert!(Instant::now() < end, "a process with {mark} still runs");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
