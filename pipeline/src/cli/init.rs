//! `pitlane init`: a pipeline file, a policy and keys for one's own repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_release::{CarKind, RepoName, Repository};

use super::keys::{Pair, write_new};
use crate::{service::secret::create_random, sign::keyfile};

const PIPELINE: &str = include_str!("init/pipeline.yaml");
const POLICY: &str = include_str!("init/policy.yaml");

/// Write a pipeline file, a policy and keys for your own repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes pipelines/NAME.yaml, policies/NAME.yaml and keys/{release.key,release.pub,password} below
--out, and replaces nothing that is there. Then look at the two files, and run `pitlane serve`.

Example:
  pitlane init --repository team/car --url /srv/git/team/car.git --registry 127.0.0.1:5000/team/car")]
pub(super) struct Args {
    /// The car repository as webhooks name it, OWNER/NAME.
    #[arg(long)]
    repository: RepoName,
    /// Where it is cloned from.
    #[arg(long)]
    url: String,
    /// The kind of car; the repository's name when absent.
    #[arg(long)]
    kind: Option<CarKind>,
    /// Where images go: registry and repository.
    #[arg(long)]
    registry: Repository,
    /// The base layout that `make base` made.
    #[arg(long, default_value = "target/base/layout")]
    base: PathBuf,
    /// The runtime for amd64; `pitlane-car` beside this program when absent.
    #[arg(long)]
    runtime_amd64: Option<PathBuf>,
    /// The runtime for arm64 that `make runtime` made.
    #[arg(long, default_value = "target/arm64/pitlane-car")]
    runtime_arm64: PathBuf,
    /// Directory for everything.
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let short = args.repository.as_str().split('/').next_back().unwrap_or("car");
    let kind = match &args.kind {
        Some(kind) => kind.clone(),
        None => short.to_ascii_lowercase().parse().context("name the car with --kind")?,
    };
    let keys = args.out.join("keys");
    fs::create_dir_all(&keys).with_context(|| keys.display().to_string())?;
    let pair = Pair::free(&keys, "release")?;
    let password = keys.join("password");
    create_random(&password)?;
    let made = keyfile::generate(&crate::config::read_secret(&password)?)?;
    pair.write_quietly(&made)?;

    let car = match &args.runtime_amd64 {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("pitlane-car"),
    };
    let absolute = |path: &Path| anyhow::Ok(std::path::absolute(path)?.display().to_string());
    let key: Vec<String> =
        made.public_pem.lines().map(|line| format!("          {line}")).collect();
    let url = match pitlane_fetch::git::is_local(&args.url) {
        true => absolute(Path::new(&args.url))?,
        false => args.url.clone(),
    };
    let values = [
        ("@REPOSITORY@", args.repository.to_string()),
        ("@URL@", url),
        ("@NAME@", kind.to_string()),
        ("@KIND@", kind.to_string()),
        ("@REGISTRY@", args.registry.to_string()),
        ("@BASE@", absolute(&args.base)?),
        ("@RUNTIME_AMD64@", absolute(&car)?),
        ("@RUNTIME_ARM64@", absolute(&args.runtime_arm64)?),
        ("@BUILDER@", format!("https://pitlane.dev/builder/{kind}")),
        ("@KEY@", key.join("\n")),
    ];
    let fill = |text: &str| {
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let mut written = Vec::new();
    for (folder, template) in [("pipelines", PIPELINE), ("policies", POLICY)] {
        let path = args.out.join(folder).join(format!("{kind}.yaml"));
        fs::create_dir_all(args.out.join(folder))?;
        write_new(&path, 0o644, &fill(template))?;
        written.push(path);
    }
    super::print_json(&serde_json::json!({
        "written": written, "keys": keys,
        "next": "look at the two files, then run `pitlane config check` on the pipeline",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_can_be_used_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args {
            repository: "team/Fast-Car".parse().unwrap(),
            url: "/srv/git/car.git".into(),
            kind: None,
            registry: "127.0.0.1:5000/team/car".parse().unwrap(),
            base: "base".into(),
            runtime_amd64: None,
            runtime_arm64: "arm64".into(),
            out: dir.path().into(),
        };
        run(&args).unwrap();
        let file = dir.path().join("pipelines/fast-car.yaml");
        let pipeline = crate::config::Pipeline::load(&file).unwrap();
        let ready = crate::steps::Ready::open(pipeline).await.unwrap();
        assert!(ready.policy.drive.is_some());
        assert_eq!(ready.policy.keys().next().unwrap().id(), ready.signer.public().unwrap().id());
        assert!(run(&args).is_err(), "keys are never replaced");
    }
}
