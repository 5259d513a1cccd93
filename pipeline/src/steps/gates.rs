//! Gates: the operator's programs look at the commit's files; a no ends the run before anything
//! is built. Verdicts and reports are kept, and attested with the rest.

mod image;

use std::path::Path;

use pitlane_gates::{Attestation, Context as GateContext, Gate, GateRun, sandbox::Jail};
use pitlane_release::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, failed};
use crate::{
    checkout::Checkout,
    engine,
    lane::{Step, StepError},
};

/// Findings that are named in the error of a no.
const NAMED: usize = 5;

/// What the step leaves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gated {
    /// Files that were looked at.
    pub(super) files: usize,
    /// Each gate, in order.
    pub(super) gates: Vec<Said>,
}

/// What one gate said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    /// Its name.
    pub(super) gate: String,
    /// Who wrote the report.
    pub(super) tool: String,
    /// The answer in a sentence.
    pub(super) summary: String,
    /// Digest of the report.
    pub(super) report: Digest,
    /// The worst findings that did not stop it.
    pub(super) named: Vec<Value>,
    /// Names of the documents with the predicates that are attested.
    pub(super) documents: Vec<String>,
}

/// A predicate as it is kept until it is signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Predicate {
    /// Its type.
    pub(super) predicate_type: String,
    /// It.
    pub(super) predicate: Value,
}

impl Context<'_> {
    pub(super) async fn gates(&self) -> Result<Value, StepError> {
        let fail = |error: anyhow::Error| failed(Step::Gates, &error);
        let spec = &self.ready.pipeline.spec;
        if spec.gates.0.is_empty() {
            return Ok(Value::Null);
        }
        let checkout: Checkout = self.output(Step::Checkout).map_err(fail)?;
        let Some((files, count)) = checkout.files else {
            let why = "the gates look at the commit's files, and this release has none: its model \
                       and commit were given by hand";
            let hint = "push the tag instead, or leave out --commit";
            return Err(StepError::new("gates-no-source", why, hint).refusal());
        };
        let mut said = Vec::new();
        let mut noes = Vec::new();
        // All of them, so that people mend everything at once.
        for gate in &spec.gates.0 {
            let run = self.gate(gate, &files).await?;
            tracing::info!(
                run.id = %self.job.run, gate = %gate.name, tool = %run.tool,
                "gate: {}", run.verdict.summary()
            );
            if !run.verdict.passed() {
                noes.push(no(&run));
            }
            said.push(self.said(run).await.map_err(fail)?);
        }
        if noes.is_empty() {
            let gated = Gated { files: count, gates: said };
            return serde_json::to_value(gated).map_err(|error| fail(error.into()));
        }
        let hint =
            "mend what was found and push a new tag; the operator's `gates:` say what counts";
        Err(StepError::new("gate-failed", noes.join("; "), hint).refusal())
    }

    async fn gate(&self, gate: &Gate, files: &Path) -> Result<GateRun, StepError> {
        let broken = |why: String| {
            let why = format!("gate `{}` has no answer: {why}", gate.name);
            StepError::new("gate-broken", why, "mend the gate (docs/gates.md), then retry the run")
        };
        let root = match &gate.image {
            Some(image) => {
                let cache = self.lane.cache.join("gates");
                let root = image::root(&image.image, &cache).await;
                Some(root.map_err(|error| broken(format!("{error:#}")))?)
            }
            None => None,
        };
        let sandbox = Jail { pitlane: self.lane.tools.jail.clone() };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let context =
            GateContext { sandbox: &sandbox, checkout: files, root: root.as_deref(), path: &path };
        let run = pitlane_gates::run(gate, context).await;
        run.map_err(|error| broken(engine::chain(&error)))
    }

    /// Keeps what is to be signed, by its digest: whoever goes on with the run finds it.
    async fn said(&self, run: GateRun) -> anyhow::Result<Said> {
        let mut documents = Vec::new();
        for attestation in &run.attestations {
            let Attestation { predicate_type, predicate, .. } = attestation;
            let kept = json!({ "predicateType": predicate_type, "predicate": predicate });
            let bytes = serde_json::to_vec(&kept)?;
            let digest = Digest::of(&bytes).hex();
            let name = format!("gate-{}-{}.json", run.gate, &digest[..16]);
            self.keep(&name, || Ok(bytes)).await?;
            documents.push(name);
        }
        let named = run.verdict.named.iter().take(50);
        Ok(Said {
            gate: run.gate,
            tool: run.tool,
            summary: run.verdict.summary(),
            report: run.report,
            named: named.map(serde_json::to_value).collect::<Result<_, _>>()?,
            documents,
        })
    }
}

/// A no, with the worst of what was found.
fn no(run: &GateRun) -> String {
    let places = run.verdict.named.iter().take(NAMED).map(|finding| match &*finding.place {
        "" => finding.id.clone(),
        place => format!("{} ({place})", finding.id),
    });
    let places: Vec<String> = places.collect();
    let more = if places.is_empty() { String::new() } else { format!(": {}", places.join(", ")) };
    format!("gate `{}`: {}{more}", run.gate, run.verdict.summary())
}
