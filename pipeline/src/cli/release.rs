//! `pitlane release`: one release, now; without a service, or by one that runs.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, bail};
use pitlane_release::Counter;
use serde_json::{Map, Value, json};

use super::Output;
use crate::{
    config::Pipeline,
    lane::{Job, Lane as _, LocalModel, Outputs, Step},
    service::{Client, ReleaseRequest, Token, store},
    sign::KeySource,
    steps::{Keeper, LocalLane, Ready, Tools, highest_counter},
};

/// Make one release now.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The counter is one more than the highest that this key has signed in the registry, unless
--counter says otherwise. --dry-run stops before anything leaves this machine.

With --service a running service makes it, from a model file on its machine (its configuration
says `localModels: true`), and --pipeline is the pipeline's name there.

Examples:
  pitlane release --pipeline pipelines/donkeycar.yaml --repo . --tag v1.0.0 --dry-run
  pitlane release --pipeline car.yaml --repo ~/car --tag v2 --registry 127.0.0.1:5000/team/car
  pitlane release --pipeline car.yaml --tag v3 --model new.onnx --card new.yaml --commit 1f0c…
  pitlane release --service http://127.0.0.1:9011 --pipeline car --tag v3 --model new.onnx")]
pub(super) struct Args {
    /// The pipeline file; with --service the pipeline's name.
    #[arg(long)]
    pipeline: PathBuf,
    /// The API of a running service that makes the release.
    #[arg(long, value_name = "URL", requires = "model",
          conflicts_with_all = ["repo", "registry", "key", "counter", "dry_run", "work", "cache"])]
    service: Option<String>,
    /// File with the service's API token.
    #[arg(long, env = "PITLANE_TOKEN_FILE", default_value = "pitlane-state/api-token")]
    token_file: PathBuf,
    /// The car repository on this machine; the pipeline's `source.url` when absent.
    #[arg(long)]
    repo: Option<PathBuf>,
    /// The tag to release.
    #[arg(long)]
    tag: String,
    /// A model file to release instead of the one in the tag's commit.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Its card; the commit's when absent, or with --commit the file beside the model.
    #[arg(long, requires = "model")]
    card: Option<PathBuf>,
    /// The commit that the model was made from: then the repository is not asked.
    #[arg(long, requires = "model")]
    commit: Option<pitlane_release::Commit>,
    /// Registry and repository, instead of the pipeline's.
    #[arg(long)]
    registry: Option<pitlane_release::Repository>,
    /// Private key file, instead of the pipeline's key or command.
    #[arg(long)]
    key: Option<PathBuf>,
    /// The release's counter.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    counter: Option<u64>,
    /// Stop before the push: check out, inspect, assemble and prove only.
    #[arg(long)]
    dry_run: bool,
    /// Where the run keeps what it makes; a temporary directory when absent.
    #[arg(long)]
    work: Option<PathBuf>,
    /// Where packed runtimes are kept between releases.
    #[arg(long, env = "PITLANE_CACHE")]
    cache: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks a service and waits for the end.
async fn by_service(url: &str, args: &Args, files: LocalModel) -> anyhow::Result<()> {
    let token = Token::from_file(&args.token_file)
        .context("the API token (--token-file) cannot be read")?;
    let client = Client::new(url, Some(token))?;
    let pipeline = args.pipeline.to_string_lossy().into_owned();
    let commit = args.commit.as_ref().map(ToString::to_string);
    let LocalModel { model, card } = files;
    let request = ReleaseRequest { pipeline, tag: args.tag.clone(), model, card, commit };
    let run = client.release(&request).await?;
    let run = client.end(&run.id).await?;
    if let Some(error) = run.error {
        return Err(error.into());
    }
    let steps = client.steps(&run.id).await?;
    let output = |step| store::output(&steps, step).cloned();
    let check = output(Step::Check).unwrap_or_default();
    let times: Map<String, Value> = steps
        .iter()
        .map(|s| (s.step.name().to_owned(), (s.finished.unwrap_or(s.started) - s.started).into()))
        .collect();
    args.print(&json!({
        "run": run.id, "tag": run.tag, "counter": run.counter, "image": check["image"],
        "index": output(Step::Assemble).map(|a| a["index"]["descriptor"]["digest"].clone()),
        "commit": output(Step::Checkout).map(|c| c["commit"].clone()),
        "stagesMs": times, "promotion": output(Step::Promote),
    }))
}

impl Args {
    /// The model file and its card, when they are not the commit's; paths made absolute.
    fn files(&self) -> anyhow::Result<Option<LocalModel>> {
        let Some(model) = &self.model else { return Ok(None) };
        let beside = || self.commit.is_some().then(|| model.with_extension("yaml"));
        let card = self.card.clone().or_else(beside).map(std::path::absolute).transpose()?;
        Ok(Some(LocalModel { model: std::path::absolute(model)?, card }))
    }

    fn print(&self, report: &Value) -> anyhow::Result<()> {
        match self.output {
            Output::Json => super::print_json(report),
            Output::Text => {
                let mut stdout = std::io::stdout().lock();
                let image = report["image"].as_str().unwrap_or("nothing was pushed (--dry-run)");
                writeln!(stdout, "{image}")?;
                Ok(())
            }
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let files = args.files()?;
    if let (Some(url), Some(files)) = (&args.service, &files) {
        return by_service(url, &args, files.clone()).await;
    }
    let mut pipeline = Pipeline::load(&args.pipeline)?;
    if let Some(repo) = &args.repo {
        let repo = std::fs::canonicalize(repo)
            .with_context(|| format!("{}: no such repository", repo.display()))?;
        pipeline.spec.source.url = repo.to_string_lossy().into_owned();
    }
    if let Some(registry) = &args.registry {
        pipeline.spec.registry.repository = registry.clone();
    }
    if let Some(key) = &args.key {
        let password_file = pipeline.spec.sign.password_file.clone();
        let source = KeySource { key: Some(key.clone()), password_file, ..KeySource::default() };
        pipeline.spec.sign.set_source(source);
    }
    let kept = match &args.work {
        Some(dir) => Err(dir.clone()),
        None => Ok(tempfile::tempdir()?),
    };
    let work = match &kept {
        Ok(temporary) => temporary.path().to_owned(),
        Err(dir) => dir.clone(),
    };
    let cache = args.cache.clone().unwrap_or_else(default_cache);
    std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let ready = Arc::new(Ready::open(pipeline).await?);
    let counter = match args.counter {
        Some(counter) => counter,
        None if args.dry_run => 1,
        None => highest_counter(&ready).await.context("finding the next counter")? + 1,
    };
    if Counter::new(counter).is_none() {
        bail!("counter {counter} is out of range (1 to 2^53 - 1)");
    }
    let spec = &ready.pipeline.spec;
    let job = Job {
        run: super::run_id::new(),
        pipeline: ready.pipeline.name.clone(),
        repository: spec.source.repository.to_string(),
        tag: args.tag.clone(),
        commit: args.commit.as_ref().map(ToString::to_string),
        tag_object: None,
        counter,
        rollback: false,
        local: files,
    };
    let lane = LocalLane {
        pipelines: BTreeMap::from([(job.pipeline.clone(), ready)]),
        work,
        cache,
        tools: Tools::find()?,
        keeper: Keeper::Files,
        github: None,
        progress: crate::service::Progress::default(),
    };
    let last = if args.dry_run { Step::Prove } else { Step::Promote };
    let report = drive(&lane, &job, last).await?;
    args.print(&report)
}

/// The user's cache directory (XDG base directory specification).
fn default_cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("pitlane")
}

/// Runs the steps one after the other, telling how each went.
async fn drive(lane: &LocalLane, job: &Job, last: Step) -> anyhow::Result<Value> {
    let mut done = Outputs::new();
    let mut times = Map::new();
    for step in Step::ALL {
        let began = Instant::now();
        let output = lane.run(job, step, &done).await?;
        let ms = u64::try_from(began.elapsed().as_millis())?;
        tracing::info!(step = step.name(), duration_ms = ms, "done");
        times.insert(step.name().into(), ms.into());
        done.insert(step, output);
        if step == last {
            break;
        }
    }
    let image = done.get(&Step::Check).map_or(Value::Null, |check| check["image"].clone());
    let index = done.get(&Step::Assemble).map(|a| a["index"]["descriptor"]["digest"].clone());
    Ok(json!({
        "run": job.run, "tag": job.tag, "counter": job.counter, "image": image, "index": index,
        "commit": done.get(&Step::Checkout).map(|c| c["commit"].clone()),
        "stagesMs": times,
        "promotion": done.get(&Step::Promote),
    }))
}
