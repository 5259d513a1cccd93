//! A pipeline file, read: its paths made absolute, and what its fields say of each other checked.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pitlane_release::{Digest, yaml};

use super::{PipelineFile, Spec};

/// Largest pipeline file read (bytes).
const MAX_FILE: usize = 256 * 1024;

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

#[cfg(test)]
mod tests {
    use pitlane_release::Platform;

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
