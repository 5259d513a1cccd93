//! What is to be built. All of it is the operator's word except the context and the Dockerfile in
//! it, which are the repository's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use pitlane_release::Platform;

use crate::BuildError;

/// Longest build argument, label or annotation, in bytes; and most of each.
const MAX_VALUE: usize = 4096;
const MAX_VALUES: usize = 256;
/// Longest name of an image, in bytes; Docker's tags have 128.
const MAX_NAME: usize = 100;
/// Largest secret: a token or a key.
const MAX_SECRET: u64 = 64 * 1024;

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The folder that is sent. Nothing outside of it is.
    pub context: PathBuf,
    /// The Dockerfile, as a path in the context.
    pub dockerfile: String,
    /// Build arguments. They end up in the image's history: not for secrets.
    pub args: BTreeMap<String, String>,
    /// The stage to build; the last one without it.
    pub target: Option<String>,
    /// The platform. A foreign one needs emulation on the host (`scripts/qemu.sh`).
    pub platform: Platform,
    /// The images that the Dockerfile may start from or copy from, exactly as it names them after
    /// its arguments are put in. They must be on the host.
    pub bases: BTreeSet<String>,
    /// Which builder, with what only that one can do.
    pub engine: Engine,
    /// What the steps reach.
    pub network: Network,
    /// Whether steps of earlier builds may be taken, and those of this one kept.
    pub cache: bool,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339 time that the config says, of the commit; the engine's own without it.
    pub created: Option<String>,
    /// Bounds.
    pub limits: Limits,
    /// Where the blobs go, each under its digest in hex.
    pub blobs: PathBuf,
    /// What the image is called in the engine while it is built, before a dot and a number: images of
    /// this name that earlier, killed builds left are removed first.
    pub name: Option<String>,
}

/// The builder of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The first one, which every Docker and Podman has. Bounds memory and processors.
    Classic {
        /// Bytes of memory for each step; swap is none.
        memory: Option<u64>,
        /// Thousandths of a processor for each step.
        milli_cpus: Option<u32>,
    },
    /// `BuildKit` within Docker, 20.10 or newer. Knows secrets; has no bound on memory, which is
    /// then a matter of the daemon's cgroup parent.
    BuildKit {
        /// Id → file. A step sees one only when it says `RUN --mount=type=secret,id=…`.
        secrets: BTreeMap<String, PathBuf>,
    },
}

impl Default for Engine {
    fn default() -> Self {
        Self::Classic { memory: Some(4 << 30), milli_cpus: None }
    }
}

/// What the steps of a Dockerfile reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// Whatever containers reach on that host. Also lets `ADD` fetch from addresses.
    Default,
}

/// Bounds of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds until it is stopped, reading back included.
    pub seconds: u64,
    /// Bytes of the context's archive.
    pub context_bytes: u64,
    /// Files, folders and links in the context.
    pub context_entries: u64,
    /// Bytes of the image, all layers unpacked.
    pub image_bytes: u64,
    /// Bytes of the log that are passed on.
    pub log_bytes: u64,
}

impl Default for Limits {
    /// An hour; a context of 1 GiB; an image of 16 GiB (the largest Jetson bases have 10).
    fn default() -> Self {
        Self {
            seconds: 3600,
            context_bytes: 1 << 30,
            context_entries: 50_000,
            image_bytes: 16 << 30,
            log_bytes: 1 << 20,
        }
    }
}

impl BuildRequest {
    /// A request with everything at its default: no network, no cache, no bases but `scratch`.
    pub fn new(context: PathBuf, platform: Platform, blobs: PathBuf) -> Self {
        Self {
            context,
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::new(),
            target: None,
            platform,
            bases: BTreeSet::new(),
            engine: Engine::default(),
            network: Network::default(),
            cache: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: None,
            limits: Limits::default(),
            blobs,
            name: None,
        }
    }

    /// Looks at what can be seen without the engine.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let wrong = |what: String, next| Err(BuildError::Unsupported { what, next });
        for (what, map) in
            [("argument", &self.args), ("label", &self.labels), ("annotation", &self.annotations)]
        {
            let long = map.iter().find(|(k, v)| k.is_empty() || k.len().max(v.len()) > MAX_VALUE);
            if let Some((name, _)) = long {
                return wrong(
                    format!("{what} `{name}` is empty or too long"),
                    "use at most 4096 bytes",
                );
            }
            if map.len() > MAX_VALUES {
                return wrong(format!("{} of kind {what}", map.len()), "use at most 256");
            }
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if let Some(name) = self.name.as_ref().filter(|n| {
            !(1..=MAX_NAME).contains(&n.len()) || n.starts_with('-') || !n.chars().all(fits)
        }) {
            return wrong(
                format!("the name `{name}`"),
                "use letters, digits and dashes, at most 100",
            );
        }
        if let Engine::BuildKit { secrets } = &self.engine {
            for (id, path) in secrets {
                let io = |source| BuildError::Io { path: path.clone(), source };
                let found = std::fs::metadata(path).map_err(io)?;
                if !found.is_file() || found.len() > MAX_SECRET {
                    let what =
                        format!("secret `{id}`: {} is no file of at most 64 KiB", path.display());
                    return wrong(what, "name a file that holds one token or key");
                }
            }
        }
        Ok(())
    }
}
