//! Starting a release: from admitted descriptors to a running container, and its end.
//!
//! One start is: make the configuration (refuse before anything is written), unpack while hashing
//! into a directory that only root may enter, write `config.json` beside it, run. Every start
//! unpacks afresh, so that what was changed on disk since the last one is found or gone.

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pitlane_release::{PinnedImage, Verified, golden::GoldenFrames, oci::ImageManifest};

use super::{
    bundle::{self, BundleError, DeviceNode, Places, User},
    engine::{Engine, EngineError},
    health::Watch,
    log::Log,
    machine,
    profile::{CarProfile, ProfileError},
    running::Running,
    store::{Store, private_dir},
    unpack::{self, UnpackError, UnpackLimits, Unpacked},
};

/// Bytes of /run/pitlane: a status file, a report, sockets.
const RUN_BYTES: u64 = 4 << 20;
/// Files of /run/pitlane.
const RUN_FILES: u64 = 256;

/// What to start: an admitted platform image.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Its name, for ids and logs.
    image: &'a PinnedImage,
    /// Its manifest, parsed from the very bytes that were admitted.
    manifest: &'a ImageManifest,
    /// What its program must reproduce on this machine before it drives.
    golden: Option<&'a GoldenFrames>,
}

impl<'a> Start<'a> {
    /// What was admitted may start, and nothing else: there is no other way to make one.
    pub const fn of(verified: &'a Verified) -> Self {
        Self { image: verified.image(), manifest: verified.manifest(), golden: verified.golden() }
    }
}

/// Where starts happen.
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// Unpacked images; on a file system that allows programs (not `noexec`), a tmpfs if memory
    /// is plenty.
    pub unpack_dir: PathBuf,
    /// The runtime's records; must be forgotten at boot, so usually below /run.
    pub state_dir: PathBuf,
    /// Output of containers.
    pub log_dir: PathBuf,
    /// Bytes of a container's log file before it is rotated (twice this is kept).
    pub log_bytes: u64,
    /// What an image may cost to unpack.
    pub limits: UnpackLimits,
    /// The runtime, when it is not to be searched.
    pub runtime: Option<PathBuf>,
}

impl Default for LauncherConfig {
    fn default() -> Self {
        Self {
            unpack_dir: "/var/lib/pitlane/unpacked".into(),
            state_dir: "/run/pitlane/containers".into(),
            log_dir: "/var/log/pitlane".into(),
            log_bytes: 4 << 20,
            limits: UnpackLimits::default(),
            runtime: None,
        }
    }
}

/// Why a release did not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant says in its text what it is")]
pub enum LaunchError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("this machine is of a platform that releases are not made for")]
    Platform,
    #[error("device {path}: {why}; correct the car profile")]
    Device { path: String, why: String },
    #[error("{dir} is on a file system mounted noexec; set another directory to unpack to")]
    NoExec { dir: String },
    #[error("{what} {path}")]
    Io { what: &'static str, path: String, source: io::Error },
}

impl LaunchError {
    /// Whether the release itself is at fault (an answer), not this machine or its disk.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Bundle(_)
                | Self::Unpack(UnpackError::Refused { .. } | UnpackError::Config { .. })
        )
    }

    /// Whether fetching the image's blobs again can help.
    pub fn refetch(&self) -> bool {
        matches!(self, Self::Unpack(UnpackError::Store(error)) if error.refetch())
    }
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let path = path.display().to_string();
    move |source| LaunchError::Io { what, path, source }
}

/// What a start cost.
#[derive(Clone, Copy, Debug)]
pub struct StartCost {
    /// Hashing and unpacking.
    pub unpack: Duration,
    /// All before the runtime was started, unpacking included.
    pub prepared: Duration,
    /// What was unpacked.
    pub unpacked: Unpacked,
}

/// Starts releases on this machine, one directory and one record for each.
#[derive(Debug)]
pub struct Launcher {
    config: LauncherConfig,
    engine: Engine,
    store: Store,
}

impl Launcher {
    /// Finds the runtime, makes the directories, and clears what a launcher that was killed left:
    /// containers still running (a car nobody watches must not drive) and unpacked images.
    pub fn new(config: LauncherConfig, store: Store) -> Result<Self, LaunchError> {
        let engine = Engine::find(config.runtime.as_deref())?;
        for dir in [&config.unpack_dir, &config.state_dir, &config.log_dir] {
            private_dir(dir).map_err(io_error("cannot make", dir))?;
        }
        let noexec = nix::sys::statvfs::FsFlags::ST_NOEXEC;
        if nix::sys::statvfs::statvfs(&config.unpack_dir).is_ok_and(|s| s.flags().contains(noexec))
        {
            return Err(LaunchError::NoExec { dir: config.unpack_dir.display().to_string() });
        }
        let launcher = Self { config, engine, store };
        for id in names(&launcher.config.state_dir)? {
            launcher.engine.delete(&launcher.config.state_dir, &id)?;
        }
        for id in names(&launcher.config.unpack_dir)?.iter().filter(|id| id.starts_with("car-")) {
            let dir = launcher.config.unpack_dir.join(id);
            Scratch(dir.clone()).remove().map_err(io_error("cannot remove", &dir))?;
        }
        Ok(launcher)
    }

    /// The runtime in use.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Starts an admitted release with what the operator grants it.
    ///
    /// # Errors
    /// See [`LaunchError::is_refusal`] and [`LaunchError::refetch`]; nothing is left behind.
    pub fn start(&self, start: &Start<'_>, profile: &CarProfile) -> Result<Running, LaunchError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let begin = Instant::now();
        profile.check()?;
        let machine = machine::look(self.engine.seccomp()).ok_or(LaunchError::Platform)?;
        let image = unpack::read_config(&self.store, start.manifest)?;
        let id = format!(
            "car-{}-{}-{}",
            &start.image.digest.hex()[..12],
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = Scratch(self.config.unpack_dir.join(&id));
        let (root, run) = (dir.0.join("rootfs"), dir.0.join("run"));
        let devices = profile
            .devices
            .iter()
            .map(|d| node(&d.path, &d.access))
            .collect::<Result<Vec<_>, _>>()?;
        let golden = start.golden.is_some();
        let places = Places { id: &id, root: &root, run: &run, golden };
        let spec = bundle::spec(&image, profile, &devices, &machine, &places)?;

        let make = |path: &Path| {
            fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("cannot make", path))
        };
        make(&dir.0)?;
        let before = Instant::now();
        let points = bundle::mount_points(profile, Path::is_dir);
        let unpacked =
            unpack::unpack(&self.store, start.manifest, &root, self.config.limits, &points)?;
        let unpack = before.elapsed();
        make(&run)?;
        // A file system of its own, so that a program cannot fill the disk through it.
        let User { uid, gid } = spec.user;
        let options =
            format!("size={RUN_BYTES},nr_inodes={RUN_FILES},mode=0700,uid={uid},gid={gid}");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("pitlane"), &run, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|errno| io_error("cannot mount a tmpfs on", &run)(errno.into()))?;
        if let Some(golden) = start.golden {
            let text = serde_json::to_vec(golden).map_err(io::Error::from);
            let file = run.join("golden.json");
            text.and_then(|text| write_new(&file, 0o444, &text))
                .map_err(io_error("cannot write", &file))?;
        }
        let file = dir.0.join("config.json");
        write_new(&file, 0o600, spec.config.to_string().as_bytes())
            .map_err(io_error("cannot write", &file))?;

        let log_path = self.config.log_dir.join("car.log");
        let (reader, writer) = io::pipe().map_err(io_error("cannot make a pipe for", &log_path))?;
        let log = Log::start(reader, log_path.clone(), self.config.log_bytes)
            .map_err(io_error("cannot write", &log_path))?;
        let prepared = begin.elapsed();
        let child = self
            .engine
            .run(&self.config.state_dir, &dir.0, &id, writer)
            .map_err(io_error("cannot run", self.engine.program()))?;
        Ok(Running {
            watch: Watch::new(run.join("status.json"), Instant::now()),
            cost: StartCost { unpack, prepared, unpacked },
            notes: spec.notes,
            engine: self.engine.clone(),
            state_dir: self.config.state_dir.clone(),
            exit: None,
            _dir: dir,
            child,
            log,
            id,
        })
    }
}

/// A directory that goes when its start ends or fails.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    fn remove(&self) -> io::Result<()> {
        // Not mounted is fine; busy cannot be, as it is only detached.
        let _ = umount2(&self.0.join("run"), MntFlags::MNT_DETACH);
        fs::remove_dir_all(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Also cleared by the next launcher.
        let _ = self.remove();
    }
}

fn write_new(file: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?.write_all(bytes)
}

fn names(dir: &Path) -> Result<Vec<String>, LaunchError> {
    let list = || fs::read_dir(dir)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = list().map_err(io_error("cannot list", dir))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn node(path: &Path, access: &str) -> Result<DeviceNode, LaunchError> {
    let fail = |why: String| LaunchError::Device { path: path.display().to_string(), why };
    let meta = fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    let kind = match meta.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return Err(fail("it is no device".into())),
    };
    Ok(DeviceNode {
        path: path.into(),
        kind,
        major: nix::sys::stat::major(meta.rdev()),
        minor: nix::sys::stat::minor(meta.rdev()),
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.into(),
    })
}
