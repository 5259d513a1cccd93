//! What each step does, from its inputs to the outputs that the journal keeps.
//!
//! Every step is idempotent: blobs and manifests are named by their digests, statements are
//! sealed once and kept in the run's directory, the tag is written last.

mod counted;
mod files;
mod gates;
mod kept;
mod make;
mod policy_keys;
mod publish;
mod rollback;
mod sigtag;
mod vouch;

pub use files::look;
pub use kept::Keeper;
pub use rollback::highest_counter;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use jiff::Timestamp;
use pitlane_release::{Policy, statement::ReleaseStatement};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    config::Pipeline,
    github::Link,
    lane::{Job, Lane, Outputs, Step, StepError, StepFuture},
    push::Pusher,
    service::Progress,
    sign::Signer,
};

/// A pipeline that is ready to work: its key is open, its registry is known.
#[derive(Debug)]
pub struct Ready {
    /// The pipeline file.
    pub pipeline: Pipeline,
    /// Its signer.
    pub signer: Signer,
    /// Who signs laps, when it is another.
    pub lap_signer: Option<Signer>,
    /// Its registry.
    pub pusher: Pusher,
    /// The policy of its cars.
    pub policy: Policy,
}

impl Ready {
    /// Opens everything that a pipeline needs, so that what is missing shows at the start.
    pub async fn open(pipeline: Pipeline) -> anyhow::Result<Self> {
        let spec = &pipeline.spec;
        let dir = pipeline.dir();
        let signer = Signer::of(&spec.sign.source(), dir).context("field `spec.sign`")?;
        let laps = spec.sign.laps.as_ref().map(|source| Signer::of(source, dir));
        let lap_signer = laps.transpose().context("field `spec.sign.laps`")?;
        let pusher = Pusher::new(&spec.registry).await?;
        let own_root = spec.sign.keyless.as_ref().and_then(|keyless| keyless.trusted_root.as_ref());
        let known = policy_keys::Known {
            keys: &spec.policy_keys,
            own: signer.public(),
            roots: &spec.policy_trusted_roots,
            own_root: own_root.map(PathBuf::as_path),
        };
        let policy = policy_keys::read(&spec.policy, &known)?;
        Ok(Self { pipeline, signer, lap_signer, pusher, policy })
    }

    /// Who signs laps.
    pub fn lap_signer(&self) -> &Signer {
        self.lap_signer.as_ref().unwrap_or(&self.signer)
    }
}

/// Programs that steps start.
#[derive(Clone, Debug)]
pub struct Tools {
    /// `pitlane-twin`.
    pub twin: PathBuf,
    /// This program, which is also the jail's entry point.
    pub jail: PathBuf,
}

impl Tools {
    /// The programs beside this one.
    pub fn find() -> anyhow::Result<Self> {
        let jail = std::env::current_exe().context("this program's own path is unknown")?;
        let twin = match std::env::var_os("PITLANE_TWIN") {
            Some(path) => path.into(),
            None => jail.with_file_name("pitlane-twin"),
        };
        Ok(Self { twin, jail })
    }
}

/// The lane on this machine.
#[derive(Debug)]
pub struct LocalLane {
    /// Pipelines by name.
    pub pipelines: BTreeMap<String, Arc<Ready>>,
    /// Where runs keep what they make, a directory each.
    pub work: PathBuf,
    /// Where packed runtimes are kept between runs.
    pub cache: PathBuf,
    /// Programs.
    pub tools: Tools,
    /// Where documents that are made once are kept.
    pub keeper: Keeper,
    /// GitHub, where sources are on it.
    pub github: Option<Arc<Link>>,
    /// Where transfers are told of.
    pub progress: Progress,
}

impl Lane for LocalLane {
    fn run<'a>(&'a self, job: &'a Job, step: Step, done: &'a Outputs) -> StepFuture<'a> {
        Box::pin(async move {
            let ready = self.pipelines.get(&job.pipeline).ok_or_else(|| {
                let why = format!("there is no pipeline `{}` any more", job.pipeline);
                StepError::new("no-pipeline", why, "bring its file back, or drop the run")
            })?;
            let dir = self.work.join(&job.run);
            let made = std::fs::create_dir_all(&dir);
            made.map_err(|error| failed(step, &anyhow::Error::new(error)))?;
            let context = Context { lane: self, ready, job, done, dir: &dir };
            context.began().await.map_err(|error| failed(step, &error))?;
            let result = if job.rollback {
                context.rollback(step).await
            } else {
                match step {
                    Step::Checkout => json(context.checkout().await),
                    Step::Model => json(context.model().await),
                    Step::Gates => return context.gates().await,
                    Step::Assemble => json(context.assemble().await),
                    Step::Prove => return context.prove().await,
                    Step::Push => json(context.push().await),
                    Step::Attest => {
                        files::sweep(&dir);
                        json(context.attest().await)
                    }
                    Step::Sign => json(context.sign().await),
                    Step::Check => return context.check().await,
                    Step::Promote => json(context.promote().await),
                }
            };
            result.map_err(|error| failed(step, &error))
        })
    }

    fn lost(&self, job: &Job, done: &Outputs) -> Option<Step> {
        let lost = !job.rollback && files::lost(&self.work.join(&job.run), done);
        lost.then_some(Step::Checkout)
    }
}

/// Everything a step may look at.
#[derive(Clone, Copy)]
struct Context<'a> {
    lane: &'a LocalLane,
    ready: &'a Ready,
    job: &'a Job,
    done: &'a Outputs,
    dir: &'a Path,
}

impl Context<'_> {
    /// The output of an earlier step.
    fn output<T: DeserializeOwned>(&self, step: Step) -> anyhow::Result<T> {
        let value = self.done.get(&step).with_context(|| format!("{step} has left no output"))?;
        serde_json::from_value(value.clone()).with_context(|| format!("output of {step}"))
    }

    /// When the run began, in whole seconds; the same whenever a step is run again.
    async fn began(&self) -> anyhow::Result<Timestamp> {
        let now = Timestamp::from_second(now().as_second())?.to_string();
        let text = self.keep("began", || Ok(now.into_bytes())).await?;
        let text = String::from_utf8(text)?;
        text.parse().with_context(|| format!("`{text}`, when the run began"))
    }

    /// A document that is sealed once in this run, by this signer.
    async fn once(
        &self,
        name: &str,
        signer: &Signer,
        make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Vec<u8>> {
        let name = kept::name(&self.ready.pipeline.digest, signer, name);
        self.keep(&name, make).await
    }

    async fn keep(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Vec<u8>> {
        self.lane.keeper.once(&self.job.run, self.dir, name, make).await
    }
}

fn json<T: Serialize>(result: anyhow::Result<T>) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(result?)?)
}

/// The clock, in one place.
fn now() -> Timestamp {
    Timestamp::now()
}

/// An error of a step, with the hint that its place suggests.
fn failed(step: Step, error: &anyhow::Error) -> StepError {
    let network = error.chain().any(may_pass);
    if let Some(error) = error.downcast_ref::<StepError>() {
        return error.clone();
    }
    let hint = match step {
        Step::Checkout => "check `spec.source` of the pipeline file, and that the tag is pushed",
        Step::Model => "mend the model or its card in the car repository and push a new tag",
        Step::Gates => "check the pipeline's `gates:` (docs/gates.md)",
        Step::Assemble => {
            "run `make base runtime`, or check `spec.base` and `spec.runtime`, or `spec.build`"
        }
        Step::Prove => "look at the plot and the trace, retrain, and push a new tag",
        Step::Push => "check the registry, then `pitlane runs retry`",
        Step::Attest | Step::Sign => {
            "check the registry and the signer (`pitlane config check`), then `pitlane runs retry`"
        }
        Step::Check => "nothing was tagged; see the checks above, then `pitlane runs retry`",
        Step::Promote => "the release is in the registry; mend the GitOps side and retry",
    };
    let code = format!("{step}-failed");
    let error = StepError::new(code, format!("{error:#}"), hint);
    if network { error.retryable() } else { error }
}

/// Whether a cause is one that may pass by itself: a network, or a server that is overloaded. A run
/// that failed for it would have to be retried by hand, and could not be once a newer one is done.
fn may_pass(cause: &(dyn std::error::Error + 'static)) -> bool {
    use pitlane_fetch::{FetchError, git::GitError};
    let busy = |status: u16| status >= 500 || status == 429;
    if let Some(error) = cause.downcast_ref::<FetchError>() {
        return match error {
            FetchError::Unreachable { .. } => true,
            FetchError::Status { status, .. } => busy(*status),
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<pitlane_gitops::PromoteError>() {
        return error.may_pass();
    }
    if let Some(error) = cause.downcast_ref::<pitlane_github::GithubError>() {
        return error.may_pass();
    }
    let git = cause.downcast_ref::<GitError>().is_some_and(GitError::may_pass);
    git || cause.is::<reqwest::Error>()
}

/// A release statement with its bundle.
struct Sealed {
    statement: ReleaseStatement,
    bundle: Vec<u8>,
}
