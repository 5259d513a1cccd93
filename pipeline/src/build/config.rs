//! `Build`: a Dockerfile of the car repository instead of base and runtime, as pipeline files say it.
//!
//! All of it is the operator's word except the Dockerfile and its context, which are the repository's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use pitlane_builder::{BuildRequest, Engine, Limits, Network};
use pitlane_release::Platform;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::EngineAt;

/// Where a runtime expects ONNX Runtime (docs/runtime.md).
const ORT_LIB: &str = "/usr/lib/libonnxruntime.so.1";
const MIB: u64 = 1024 * 1024;

/// How images are built from a Dockerfile.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Build {
    /// The folder of the repository that is sent to the engine; the whole of it for `.`.
    pub context: PathBuf,
    /// The Dockerfile, as a path in the context.
    pub dockerfile: String,
    /// The stage to build; the last one when absent.
    pub target: Option<String>,
    /// Build arguments. They are in the image's history and in the provenance: not for secrets.
    pub args: BTreeMap<String, String>,
    /// Id → file of mode 0600. A step sees one only when it says `RUN --mount=type=secret,id=…`.
    pub secrets: BTreeMap<String, PathBuf>,
    /// The images that the Dockerfile may start or copy from, as it names them after its arguments
    /// are put in. They must be on the engine's host; nothing is pulled.
    pub bases: BTreeSet<String>,
    /// What steps reach.
    pub network: Reach,
    /// Whether steps of earlier builds may be taken, and those of this one kept.
    pub cache: bool,
    /// Which of the engine's builders; `buildkit` where there are secrets, else `classic`.
    pub builder: Option<Which>,
    /// Bounds of a build.
    pub limits: BuildLimits,
    /// The engine; the local socket when absent.
    pub engine: EngineAt,
    /// What is different for one platform.
    pub platforms: BTreeMap<Platform, ForPlatform>,
    /// Platform → `pitlane-car` binary that is put at `/usr/bin/pitlane-car`, for images that bring
    /// none.
    pub runtime: BTreeMap<Platform, PathBuf>,
    /// Where the image has ONNX Runtime, for the step `prove`.
    pub onnx_runtime: PathBuf,
}

/// What is different for one platform.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ForPlatform {
    /// Build arguments that are added, or stand for those of the same name.
    pub args: BTreeMap<String, String>,
    /// Its own engine.
    pub engine: Option<EngineAt>,
}

/// What the steps of a Dockerfile reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Nothing.
    #[default]
    None,
    /// Whatever containers of that engine reach. Also lets `ADD` fetch from addresses.
    Default,
}

/// One of an engine's builders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The first one: Docker and Podman have it; memory and processors are bounded.
    Classic,
    /// `BuildKit` within Docker: secrets, `RUN --mount`; no bound on memory.
    Buildkit,
}

/// Bounds of one platform's build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuildLimits {
    /// Seconds until it is stopped, reading back included; 10 to 10800.
    pub seconds: u64,
    /// The context's archive, MiB.
    pub context_mib: u64,
    /// Files, folders and links in the context.
    pub context_entries: u64,
    /// The image, all layers unpacked, MiB.
    pub image_mib: u64,
    /// Memory of each step, MiB; of the classic builder.
    pub memory_mib: u64,
    /// Thousandths of a processor for each step; of the classic builder. All of them when absent.
    pub milli_cpus: Option<u32>,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            seconds: 3600,
            context_mib: 1024,
            context_entries: 50_000,
            image_mib: 16 * 1024,
            memory_mib: 4096,
            milli_cpus: None,
        }
    }
}

impl Default for Build {
    fn default() -> Self {
        Self {
            context: ".".into(),
            dockerfile: "Dockerfile".into(),
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            bases: BTreeSet::new(),
            network: Reach::default(),
            cache: false,
            builder: None,
            limits: BuildLimits::default(),
            engine: EngineAt::default(),
            platforms: BTreeMap::new(),
            runtime: BTreeMap::new(),
            onnx_runtime: ORT_LIB.into(),
        }
    }
}

impl Build {
    /// Makes its paths absolute, but for those in the repository and in the image.
    pub fn rebase(&mut self, dir: &Path) {
        self.secrets.values_mut().chain(self.runtime.values_mut()).for_each(|path| {
            *path = dir.join(&*path);
        });
        self.engine.rebase(dir);
        for one in self.platforms.values_mut() {
            one.engine.iter_mut().for_each(|engine| engine.rebase(dir));
        }
    }

    /// Refuses what cannot be built, as far as that shows in the file.
    pub fn check(&self, platforms: &[Platform]) -> anyhow::Result<()> {
        let plain = |path: &Path| {
            path.components().all(|part| matches!(part, Component::Normal(name) if name != ".git"))
        };
        let context = self.context.as_path();
        if context != Path::new(".") && (context.as_os_str().is_empty() || !plain(context)) {
            bail!(
                "field `context`: `{}` must be a plain path inside the repository, or `.`",
                context.display()
            );
        }
        if self.dockerfile.is_empty() || !plain(Path::new(&self.dockerfile)) {
            bail!(
                "field `dockerfile`: `{}` must be a plain path inside the context",
                self.dockerfile
            );
        }
        ensure!(
            self.onnx_runtime.is_absolute() && self.onnx_runtime.to_str().is_some(),
            "field `onnxRuntime`: `{}` must be an absolute path in the image",
            self.onnx_runtime.display()
        );
        if self.builder == Some(Which::Classic) && !self.secrets.is_empty() {
            bail!(
                "field `secrets`: the classic builder has none; leave `builder` out, or say `buildkit`"
            );
        }
        let limits = &self.limits;
        ensure!(
            (10..=10_800).contains(&limits.seconds),
            "field `limits.seconds`: {} is not in 10 to 10800",
            limits.seconds
        );
        let floor = [
            ("contextMib", limits.context_mib, 1 << 14),
            ("contextEntries", limits.context_entries, 1_000_000),
            ("imageMib", limits.image_mib, 1 << 17),
            ("memoryMib", limits.memory_mib, 1 << 20),
        ];
        for (field, value, most) in floor {
            ensure!(
                (1..=most).contains(&value),
                "field `limits.{field}`: {value} is not in 1 to {most}"
            );
        }
        if limits.milli_cpus.is_some_and(|milli| milli < 10) {
            bail!("field `limits.milliCpus`: want 10 (a hundredth of a processor) or more");
        }
        for (field, named) in [
            ("platforms", self.platforms.keys().collect::<Vec<_>>()),
            ("runtime", self.runtime.keys().collect()),
        ] {
            if let Some(other) = named.into_iter().find(|platform| !platforms.contains(platform)) {
                bail!("field `{field}`: {other} is not among `spec.platforms`");
            }
        }
        self.engine.host().context("field `engine`")?;
        for (platform, one) in &self.platforms {
            if let Some(engine) = &one.engine {
                engine.host().with_context(|| format!("field `platforms.{platform}.engine`"))?;
            }
        }
        Ok(())
    }

    /// The engine of a platform.
    pub fn engine_of(&self, platform: Platform) -> &EngineAt {
        let own = self.platforms.get(&platform).and_then(|one| one.engine.as_ref());
        own.unwrap_or(&self.engine)
    }

    /// The build arguments of a platform.
    pub fn args_of(&self, platform: Platform) -> BTreeMap<String, String> {
        let mut args = self.args.clone();
        if let Some(one) = self.platforms.get(&platform) {
            args.extend(one.args.clone());
        }
        args
    }

    /// Looks at the files that it names; secrets must be nobody else's to read.
    pub fn look(&self) -> anyhow::Result<()> {
        for (id, path) in &self.secrets {
            crate::config::read_secret(path).with_context(|| format!("field `secrets.{id}`"))?;
        }
        for (platform, path) in &self.runtime {
            std::fs::metadata(path).with_context(|| {
                format!("field `runtime.{platform}`: {}: cannot be read", path.display())
            })?;
        }
        self.engine.look().context("field `engine`")?;
        for (platform, one) in &self.platforms {
            if let Some(engine) = &one.engine {
                engine.look().with_context(|| format!("field `platforms.{platform}.engine`"))?;
            }
        }
        Ok(())
    }

    /// What the builder is asked for.
    pub(super) fn request(
        &self,
        platform: Platform,
        context: PathBuf,
        blobs: PathBuf,
    ) -> BuildRequest {
        let limits = self.limits;
        let buildkit = self.builder == Some(Which::Buildkit) || !self.secrets.is_empty();
        BuildRequest {
            dockerfile: self.dockerfile.clone(),
            args: self.args_of(platform),
            target: self.target.clone(),
            bases: self.bases.clone(),
            engine: match buildkit {
                true => Engine::BuildKit { secrets: self.secrets.clone() },
                false => Engine::Classic {
                    memory: Some(limits.memory_mib * MIB),
                    milli_cpus: limits.milli_cpus,
                },
            },
            network: match self.network {
                Reach::None => Network::None,
                Reach::Default => Network::Default,
            },
            cache: self.cache,
            limits: Limits {
                seconds: limits.seconds,
                context_bytes: limits.context_mib * MIB,
                context_entries: limits.context_entries,
                image_bytes: limits.image_mib * MIB,
                ..Limits::default()
            },
            ..BuildRequest::new(context, platform, blobs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> anyhow::Result<Build> {
        let build: Build = pitlane_release::yaml::read(text, 4096)?;
        build.check(&[Platform::LinuxAmd64])?;
        Ok(build)
    }

    #[test]
    fn what_a_platform_says_stands_before_the_rest() {
        let build = check(
            "{ args: { A: one, B: two }, secrets: { pip: /s/pip },
               platforms: { linux/amd64: { args: { B: three }, engine: { host: 'unix:///own' } } } }",
        )
        .unwrap();
        let request = build.request(Platform::LinuxAmd64, "/c".into(), "/b".into());
        let args = [("A", "one"), ("B", "three")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(request.args, args.into());
        assert_eq!(request.network, Network::None);
        assert!(matches!(&request.engine, Engine::BuildKit { secrets } if secrets.len() == 1));
        assert_eq!(build.engine_of(Platform::LinuxAmd64).host, "unix:///own");
        assert_eq!(build.engine_of(Platform::LinuxArm64).host, "unix:///var/run/docker.sock");
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_field() {
        for (text, want) in [
            ("{ context: ../x }", "`context`: `../x`"),
            ("{ context: a/.git }", "`context`"),
            ("{ dockerfile: /etc/passwd }", "`dockerfile`: `/etc/passwd`"),
            ("{ dockerfile: '' }", "`dockerfile`"),
            ("{ onnxRuntime: lib.so }", "`onnxRuntime`: `lib.so`"),
            ("{ builder: classic, secrets: { a: b } }", "`secrets`"),
            ("{ limits: { seconds: 0 } }", "`limits.seconds`: 0"),
            ("{ limits: { memoryMib: 0 } }", "`limits.memoryMib`: 0"),
            ("{ limits: { milliCpus: 1 } }", "`limits.milliCpus`"),
            ("{ platforms: { linux/arm64: {} } }", "`platforms`: linux/arm64"),
            ("{ runtime: { linux/arm64: x } }", "`runtime`: linux/arm64"),
            ("{ engine: { host: 'tcp://h:1' } }", "`engine`: field `host`"),
            (
                "{ platforms: { linux/amd64: { engine: { host: x } } } }",
                "`platforms.linux/amd64.engine`",
            ),
            ("{ network: host }", "host"),
            ("{ base: x }", "base"),
        ] {
            let error = format!("{:#}", check(text).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut build = Build::default();
        build.secrets.insert("pip".into(), file.path().to_owned());
        build.look().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = format!("{:#}", build.look().unwrap_err());
        assert!(error.contains("secrets.pip") && error.contains("chmod 600"), "{error}");
    }
}
