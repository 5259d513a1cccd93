//! The pipeline file: what to build from which repository, how to prove it, where it goes.
//!
//! It is the operator's, never the car repository's, so that nobody who can tag can change what
//! is asked of a release. Format `pitlane.dev/v1`, kind `Pipeline`; `docs/pipeline-file.md`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use pitlane_gates::Gates;
pub use pitlane_gitops::Promote;
use pitlane_release::{CarKind, Digest, Platform, RepoName, Repository, yaml};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    build::Build,
    convert::Convert,
    model::Contract,
    prove,
    sign::{CommandOptions, KeySource, keyless::Keyless},
};

/// Largest pipeline file read (bytes).
const MAX_FILE: usize = 256 * 1024;

/// A pipeline file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineFile {
    /// `pitlane.dev/v1`.
    pub api_version: pitlane_release::model::ApiVersion,
    /// `Pipeline`.
    pub kind: PipelineKind,
    /// Its name.
    pub metadata: Metadata,
    /// What it does.
    pub spec: Spec,
}

/// The word in `kind:`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
pub enum PipelineKind {
    /// A pipeline.
    Pipeline,
}

/// Name of a pipeline.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and dashes.
    pub name: CarKind,
}

/// What a pipeline does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The kind of car it releases for.
    pub car_kind: CarKind,
    /// Where releases come from.
    pub source: Source,
    /// The model.
    #[serde(default)]
    pub model: Model,
    /// Platforms to build.
    #[serde(default = "both_platforms")]
    pub platforms: Vec<Platform>,
    /// What every image starts from.
    #[serde(default)]
    pub base: Option<Base>,
    /// Platform → the runtime's binary.
    #[serde(default)]
    pub runtime: BTreeMap<Platform, PathBuf>,
    /// Programs that look at the commit's files, and may stop the release.
    #[serde(default)]
    pub gates: Gates,
    /// A Dockerfile of the repository, instead of `base` and `runtime`.
    #[serde(default)]
    pub build: Option<Build>,
    /// What a candidate must do in the twin; nothing is proven when absent.
    #[serde(default)]
    pub prove: Option<prove::Scenario>,
    /// Limits of the locked-down process that drives it.
    #[serde(default)]
    pub limits: prove::Limits,
    /// Where images go.
    pub registry: Registry,
    /// Who signs.
    pub sign: Sign,
    /// The policy of the cars it is for: the check step admits by it.
    pub policy: PathBuf,
    /// Name → public key file, for keys that the policy only names. When absent, every such key
    /// is this pipeline's own.
    #[serde(default)]
    pub policy_keys: BTreeMap<String, PathBuf>,
    /// Name → `trusted_root.json`, for trusted roots that the policy names; `default` is for a
    /// policy that names none. When absent, those of `sign.keyless`, else the public-good one's.
    #[serde(default)]
    pub policy_trusted_roots: BTreeMap<String, PathBuf>,
    /// The GitOps repository; nothing is promoted when absent.
    #[serde(default)]
    pub promote: Option<Promote>,
}

fn both_platforms() -> Vec<Platform> {
    Platform::ALL.to_vec()
}

/// Where releases come from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The repository as webhooks name it.
    pub repository: RepoName,
    /// Where it is cloned from: https, ssh, or a path on this machine. Never taken from a
    /// webhook's body.
    pub url: String,
    /// Which tags are releases (`*` and `?`).
    #[serde(default = "all_tags")]
    pub tags: String,
    /// Whether a tag may move after its first release. Off: a moved tag is refused.
    #[serde(default)]
    pub allow_moved_tags: bool,
    /// Whether a new tag takes the place of those that still wait. Off: every tag is released.
    #[serde(default)]
    pub supersede: bool,
    /// Whether GitHub must have verified the signature of the tag; needs the service's `github:`.
    #[serde(default)]
    pub signed_tags: bool,
}

fn all_tags() -> String {
    "v*".into()
}

/// The model in the source.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Model {
    /// Its path in the repository.
    pub path: PathBuf,
    /// Its card's path; the model's with the ending `.yaml` when absent.
    pub card: Option<PathBuf>,
    /// What it must keep to.
    pub contract: Contract,
    /// How it becomes ONNX, when the file is of another framework.
    pub convert: Option<Convert>,
    /// The Git LFS server, `https://…`, where it is not the one beside `source.url`.
    pub lfs_url: Option<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            path: "models/pilot.onnx".into(),
            card: None,
            contract: Contract::default(),
            convert: None,
            lfs_url: None,
        }
    }
}

impl Model {
    /// The card's path in the repository.
    pub fn card_path(&self) -> PathBuf {
        self.card.clone().unwrap_or_else(|| self.path.with_extension("yaml"))
    }
}

/// What every image starts from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// An OCI image layout on this machine with an image per platform.
    pub layout: PathBuf,
}

/// Where images go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Registry and repository.
    pub repository: Repository,
    /// Whether to speak plain HTTP to it (registries on loopback always are).
    #[serde(default)]
    pub plain_http: bool,
    /// User name for pushes.
    #[serde(default)]
    pub user: Option<String>,
    /// File that holds the password or token for pushes; mode 0600.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Who signs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sign {
    /// Private key file: cosign's format, or PKCS#8 with or without a password; mode 0600.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// File with its password; mode 0600. Else the variable `COSIGN_PASSWORD`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A program that signs, with its arguments; instead of `key`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The socket of a signer process (`pitlane signer`); instead of `key`.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The public half of the key that `command` or `socket` signs by, PEM.
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// How `command` is called.
    #[serde(default)]
    pub command_options: CommandOptions,
    /// No key at all: a new one for each signature, certified for an identity; instead of `key`.
    #[serde(default)]
    pub keyless: Option<Keyless>,
    /// Another key for laps; the same when absent.
    #[serde(default)]
    pub laps: Option<KeySource>,
    /// Whether cosign's `.sig` tags are written besides bundles, for readers that know no bundles.
    #[serde(default)]
    pub sig_tags: bool,
    /// `builder.id` in the provenance: a URI that stands for this instance and its key.
    #[serde(default = "default_builder")]
    pub builder: String,
    /// Days after which releases expire; never when absent.
    #[serde(default)]
    pub expire_days: Option<u32>,
    /// What is attested besides the signatures and the release statement: everything that there
    /// is when absent, nothing for `[]`.
    #[serde(default = "Attest::all")]
    pub attest: Vec<Attest>,
}

impl Sign {
    /// Where the release key is.
    pub fn source(&self) -> KeySource {
        KeySource {
            key: self.key.clone(),
            password_file: self.password_file.clone(),
            command: self.command.clone(),
            socket: self.socket.clone(),
            public_key: self.public_key.clone(),
            command_options: self.command_options.clone(),
            keyless: self.keyless.clone(),
        }
    }

    /// Puts another release key in its place.
    pub fn set_source(&mut self, source: KeySource) {
        let KeySource { key, password_file, command, socket, public_key, command_options, keyless } =
            source;
        (self.key, self.password_file, self.command) = (key, password_file, command);
        (self.socket, self.public_key, self.command_options) =
            (socket, public_key, command_options);
        self.keyless = keyless;
    }
}

/// Something that a release can be attested by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Attest {
    /// SLSA provenance: what it was built from, and by whom.
    Provenance,
    /// The laps of the step `prove`.
    Laps,
    /// A CycloneDX SBOM of each platform's image.
    Sbom,
    /// An OpenSSF model signature of the model and its card.
    ModelSignature,
    /// What the step `model` found, and the card: for policies with a contract of their own.
    Model,
    /// The candidate's answers to fixed frames, which cars reproduce; answered in the step `prove`.
    Golden,
    /// What gates said, and their reports.
    Gates,
}

impl Attest {
    fn all() -> Vec<Self> {
        vec![
            Self::Provenance,
            Self::Laps,
            Self::Sbom,
            Self::ModelSignature,
            Self::Model,
            Self::Golden,
            Self::Gates,
        ]
    }
}

fn default_builder() -> String {
    "https://pitlane.dev/builder/local".into()
}

/// A pipeline file that was read and checked, with its paths made absolute.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// What it says.
    pub spec: Spec,
    /// Its name.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Digest of the file, for statements.
    pub digest: Digest,
}

impl Pipeline {
    /// Reads and checks a pipeline file. Relative paths in it are relative to the file.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        Self::parse(&text, file).with_context(|| {
            format!("{}: not a usable pipeline file (docs/pipeline-file.md)", file.display())
        })
    }

    fn parse(text: &str, file: &Path) -> anyhow::Result<Self> {
        let parsed: PipelineFile = yaml::read(text, MAX_FILE)?;
        let mut spec = parsed.spec;
        let dir = std::path::absolute(file)?;
        let dir = dir.parent().unwrap_or(Path::new("/"));
        let join = |path: &mut PathBuf| *path = dir.join(&*path);
        spec.base.iter_mut().for_each(|base| join(&mut base.layout));
        spec.runtime.values_mut().for_each(join);
        spec.build.iter_mut().for_each(|build| build.rebase(dir));
        spec.model.convert.iter_mut().for_each(|convert| convert.rebase(dir));
        spec.registry.password_file.iter_mut().for_each(join);
        let mut own = spec.sign.source();
        own.rebase(dir);
        own.kind().context("field `spec.sign`")?;
        spec.sign.set_source(own);
        if let Some(laps) = &mut spec.sign.laps {
            laps.rebase(dir);
            laps.kind().context("field `spec.sign.laps`")?;
        }
        if spec.sign.keyless.is_some() && spec.sign.sig_tags {
            bail!("field `spec.sign.sigTags`: they are signed with a key, and `keyless` has none");
        }
        join(&mut spec.policy);
        spec.policy_keys.values_mut().for_each(join);
        spec.policy_trusted_roots.values_mut().for_each(join);
        spec.platforms.sort();
        spec.platforms.dedup();
        if spec.platforms.is_empty() {
            bail!("field `spec.platforms` is empty: name linux/amd64, linux/arm64 or both");
        }
        made_of(&spec)?;
        for path in [&spec.model.path, &spec.model.card_path()] {
            inside(path).with_context(|| "field `spec.model`")?;
        }
        if let Some(convert) = &spec.model.convert {
            convert.check().context("field `spec.model.convert`")?;
        }
        if let Some(url) = &spec.model.lfs_url {
            pitlane_fetch::git::check_url(url)
                .map_err(|why| anyhow::anyhow!("field `spec.model.lfsUrl`: {why}"))?;
        }
        if let Some(promote) = &mut spec.promote {
            promote.check().map_err(|why| anyhow::anyhow!("field `spec.promote`: {why}"))?;
            promote.rebase(dir);
        }
        pitlane_fetch::git::check_url(&spec.source.url)
            .map_err(|why| anyhow::anyhow!("field `spec.source.url`: {why}"))?;
        spec.gates.check().map_err(|why| anyhow::anyhow!("{why}"))?;
        spec.gates.rebase(dir);
        if let Some(scenario) = &spec.prove {
            scenario.check().context("field `spec.prove`")?;
        }
        let name = parsed.metadata.name.to_string();
        let file = std::path::absolute(file)?;
        Ok(Self { spec, name, file, digest: Digest::of(text) })
    }

    /// The folder of the file: where the programs that it names run.
    pub fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }
}

/// What images are made of: base and runtime, or a Dockerfile.
fn made_of(spec: &Spec) -> anyhow::Result<()> {
    match (&spec.base, &spec.build) {
        (Some(_), None) => {
            for platform in &spec.platforms {
                if !spec.runtime.contains_key(platform) {
                    bail!("field `spec.runtime` has no binary for {platform}");
                }
            }
            Ok(())
        }
        (None, Some(build)) => {
            if !spec.runtime.is_empty() {
                bail!("field `spec.runtime` belongs to `base`; with `build` it is `build.runtime`");
            }
            build.check(&spec.platforms).context("field `spec.build`")
        }
        (Some(_), Some(_)) => {
            bail!(
                "fields `spec.base` and `spec.build`: an image is made of one of them; take one out"
            )
        }
        (None, None) => bail!(
            "neither field `spec.base` (with `spec.runtime`) nor `spec.build`: say what images are made of"
        ),
    }
}

/// A path that stays inside a checkout.
fn inside(path: &Path) -> anyhow::Result<()> {
    let plain = |part| matches!(part, std::path::Component::Normal(name) if name != ".git");
    if path.as_os_str().is_empty() || !path.components().all(plain) {
        bail!("`{}` must be a plain path inside the repository", path.display());
    }
    Ok(())
}

/// Whether others may read or change a secret's file. Root's may be read by a group of ours, while
/// we are another user: so a cluster hands secrets to a program.
pub(crate) fn open_to_others(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let handed = meta.uid() == 0 && !nix::unistd::Uid::effective().is_root();
    meta.mode() & if handed { 0o037 } else { 0o077 } != 0
}

/// Reads a secret from a file that nobody else may read.
pub fn read_secret(path: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown}: cannot be read"))?;
    let meta = file.metadata()?;
    if open_to_others(&meta) {
        bail!(
            "{shown}: others may read this secret (mode {:o}); run chmod 600 {shown}",
            meta.mode() & 0o777
        );
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    std::io::Read::read_to_string(&mut std::io::Read::take(file, 64 * 1024), &mut text)?;
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines")
    }

    #[test]
    fn the_examples_are_usable() {
        for name in ["donkeycar.yaml", "containers/ros2.yaml", "containers/jetson.yaml"] {
            let pipeline = Pipeline::load(&examples().join(name)).unwrap();
            let made_by_engine = pipeline.spec.build.is_some();
            assert_eq!(made_by_engine, name.starts_with("containers/"), "{name}");
        }
        let jetson = Pipeline::load(&examples().join("containers/jetson.yaml")).unwrap().spec;
        let tls = jetson.build.unwrap().engine_of(Platform::LinuxArm64).tls.clone().unwrap();
        assert!(tls.key.is_absolute(), "paths are relative to the file");
    }

    #[test]
    fn images_are_made_of_parts_or_of_a_dockerfile() {
        let file = examples().join("donkeycar.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let edited = |from: &str, to: &str| {
            let new = text.replacen(from, to, 1);
            assert_ne!(new, text, "{from}");
            Pipeline::parse(&new, &file).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let (base, path) =
            ("  base:\n    layout: ../target/base/layout\n", "    path: models/pilot.onnx\n");
        let runtime = "  runtime:\n    linux/amd64: ../target/release/pitlane-car\n    \
                       linux/arm64: ../target/arm64/pitlane-car\n";
        let parts = format!("{base}{runtime}");
        edited(&parts, "  build: { bases: [x] }\n").unwrap();
        for (from, to, want) in [
            (base, format!("{base}  build: {{}}\n"), "an image is made of one of them"),
            (&parts[..], String::new(), "say what images are made of"),
            (base, "  build: {}\n".into(), "`build.runtime`"),
            (
                &parts[..],
                "  build: { context: /srv }\n".into(),
                "field `spec.build`: field `context`: `/srv`",
            ),
            (&parts[..], "  build: { contexts: x }\n".into(), "contexts"),
            (
                path,
                format!("{path}    convert: {{ framework: keras, opset: 9 }}\n"),
                "`spec.model.convert`: field `opset`: 9",
            ),
            (path, format!("{path}    lfsUrl: https://u:p@h.example/x\n"), "`spec.model.lfsUrl`"),
        ] {
            let error = edited(from, &to).unwrap_err();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
