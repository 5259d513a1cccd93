//! Spans of runs and of their steps. They have a target of their own: the log is as it was, and where
//! nothing is exported, nobody asks for them and they cost a comparison.

use tracing::{Span, field::Empty};

use super::store::Run;
use crate::{
    lane::{Job, Step, StepError},
    telemetry::TARGET,
};

/// One time that a run is at work here, from its claim until it ends or is let go.
pub(super) fn run(run: &Run) -> Span {
    tracing::info_span!(
        target: TARGET, "run",
        run.id = %run.id, pipeline = %run.pipeline, repository = %run.repository, tag = %run.tag,
        counter = run.counter, rollback = run.rollback,
    )
}

/// One attempt of a step.
pub(super) fn step(job: &Job, step: Step, attempt: u32) -> Span {
    tracing::info_span!(
        target: TARGET, "step",
        otel.name = step.name(), run.id = %job.run, step = step.name(), attempt,
        otel.status_code = Empty, otel.status_description = Empty, error.type = Empty,
    )
}

/// How an attempt ended. The message stays in the journal: it may name what a trace should not.
pub(super) fn ended<T>(span: &Span, outcome: &Result<T, StepError>) {
    match outcome {
        Ok(_) => drop(span.record("otel.status_code", "OK")),
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.code.as_str());
            span.record("error.type", error.code.as_str());
        }
    }
}
