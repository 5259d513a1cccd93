//! `pitlane reproduce`: builds a release again and compares digests.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf};

use pitlane_release::{ImageRef, Platform};

use super::{
    Output,
    trust::{From, Trust},
};
use crate::{
    claim::Claim,
    lane::StepError,
    reproduce::{Files, NOT_LOOKED_AT, reproduce},
};

/// Build a release again from its provenance, and compare digests.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 every input and output is the same, 10 something differs (or nobody trusted signed
the release), 1 could not decide.

Examples:
  pitlane reproduce 127.0.0.1:5000/team/car:v1.0.0 --repo ~/car --base target/base/layout \\
      --runtime linux/amd64=target/release/pitlane-car \\
      --runtime linux/arm64=target/arm64/pitlane-car --key keys/release.pub")]
pub(super) struct Args {
    /// REGISTRY/NAME with a tag or a digest.
    image: ImageRef,
    #[command(flatten)]
    trust: Trust,
    /// A clone of the car repository: a folder or a URL. When absent, the provenance's own URL, if
    /// a file of the commit is needed.
    #[arg(long)]
    repo: Option<String>,
    /// The base's OCI layout.
    #[arg(long)]
    base: PathBuf,
    /// PLATFORM=FILE, the runtime binary; once for each platform of the release.
    #[arg(long, required = true, value_parser = pair)]
    runtime: Vec<(Platform, PathBuf)>,
    /// The model file, for a release that was not made from its commit.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Its card, likewise.
    #[arg(long)]
    card: Option<PathBuf>,
    #[command(flatten)]
    from: From,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn pair(text: &str) -> Result<(Platform, PathBuf), String> {
    let (platform, file) = text.split_once('=').ok_or("want PLATFORM=FILE")?;
    Ok((platform.parse().map_err(|e| format!("{e}"))?, file.into()))
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let policy = args.trust.policy()?;
    let source = args.from.open()?;
    let repo = match &args.repo {
        // git wants to know which repositories are on this machine.
        Some(repo) if std::path::Path::new(repo).is_dir() => {
            Some(std::fs::canonicalize(repo)?.to_string_lossy().into_owned())
        }
        other => other.clone(),
    };
    if let Some(repo) = &repo {
        pitlane_fetch::git::check_url(repo).map_err(|why| anyhow::anyhow!("--repo: {why}"))?;
    }
    let image = &args.image;
    // A refusal is an answer and stands for itself.
    let could_not = |error: anyhow::Error| match error.is::<StepError>() {
        true => error,
        false => error.context(format!("{image}: could not decide")),
    };
    let claim = Claim::of(&source, &policy, image).await.map_err(could_not)?;
    let work = tempfile::tempdir()?;
    let runtime: BTreeMap<_, _> = args.runtime.into_iter().collect();
    let files = Files {
        base: &args.base,
        runtime: &runtime,
        repo: repo.as_deref(),
        model: args.model.as_deref(),
        card: args.card.as_deref(),
        work: work.path(),
    };
    let report = reproduce(&claim, &files).await.map_err(could_not)?;
    match args.output {
        Output::Json => super::print_json(&report)?,
        Output::Text => std::io::stdout().lock().write_all(report.text().as_bytes())?,
    }
    if report.same {
        return Ok(());
    }
    let why = format!("{image} was not reproduced: {} differ", report.different().join(", "));
    let hint = if report.inputs.iter().all(|row| row.same) {
        "the inputs are the same: look for another version of this program"
    } else if report.inputs.iter().any(|row| row.got == NOT_LOOKED_AT) {
        "name a clone of the car repository with --repo, so that its commit is looked at"
    } else {
        "get the inputs that the release was made from, and try again"
    };
    Err(StepError::new("not-reproduced", why, hint).refusal().into())
}
