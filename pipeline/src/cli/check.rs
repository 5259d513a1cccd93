//! `pitlane config check`: files and all that they name, without starting anything.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use pitlane_notify::Notifier;
use pitlane_release::{key::PublicKey, yaml};

use super::service_file::{MAX_CONFIG, ServiceFile};
use crate::{
    config::Pipeline,
    github::Link,
    service::CarTokens,
    sign::{Algorithm, Signer},
    steps::Ready,
};

/// Check pipeline files and what they name.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read a service configuration or pipeline files, and open all that they name.
    Check {
        /// Files; a service configuration (kind: Service) or pipelines.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Checks files without starting anything.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Command::Check { files } = args.command;
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let value: serde_json::Value = yaml::read(&text, MAX_CONFIG)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let (pipelines, works) = match value["kind"].as_str() {
            Some("Service") => service(&file)?,
            _ => (vec![file], true),
        };
        for pipeline in pipelines {
            if !works {
                // What it would not open is not opened here, either.
                let name = Pipeline::load(&pipeline)?.name;
                found.push(serde_json::json!({
                    "file": pipeline, "pipeline": name, "ok": true, "work": false,
                }));
                continue;
            }
            let ready = Ready::open(Pipeline::load(&pipeline)?).await?;
            crate::steps::look(&ready.pipeline).await?;
            found.push(serde_json::json!({
                "file": pipeline, "pipeline": ready.pipeline.name, "ok": true,
                "repository": ready.pipeline.spec.registry.repository,
                "key": ready.signer.public().map(PublicKey::id), "policy": ready.policy.name,
                "sign": shown(&ready.signer)?,
                "laps": ready.lap_signer.as_ref().map(shown).transpose()?,
            }));
        }
    }
    super::print_json(&found)
}

/// Opens what a service's configuration names beside its pipelines; gives those, and whether it
/// executes runs.
fn service(file: &Path) -> anyhow::Result<(Vec<PathBuf>, bool)> {
    let service = ServiceFile::load(Some(file))?;
    if let Some(tokens) = &service.car_tokens {
        CarTokens::read(tokens)?;
    }
    if !service.work {
        return Ok((service.pipelines, false));
    }
    if let Some(notify) = &service.notify {
        Notifier::open(notify)?;
    }
    if let Some(github) = &service.github {
        let sources = service.pipelines.iter().map(|path| Ok(Pipeline::load(path)?.spec.source));
        let sources = sources.collect::<anyhow::Result<Vec<_>>>()?;
        Link::open(github, sources.iter())?;
    }
    service.place()?;
    Ok((service.pipelines, true))
}

/// What signs; a program is called once, to see that it does.
fn shown(signer: &Signer) -> anyhow::Result<serde_json::Value> {
    signer.try_out()?;
    Ok(serde_json::json!({
        "by": signer.kind(), "algorithm": signer.algorithm().map(Algorithm::name),
        "key": signer.public().map(PublicKey::id),
    }))
}
