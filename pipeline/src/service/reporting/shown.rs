//! How a run looks in GitHub: from records to reports. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use pitlane_github::{
    Annotation, Conclusion, Deployment, DeploymentState, Level, ReleaseNotes, RunState as Said,
    Step as Shown, StepState, Verify,
};
use pitlane_release::{PinnedImage, matcher::Matcher, policy::AuthorityRule, statement::Release};
use serde_json::Value;

use crate::{
    lane::Step,
    service::store::{Placed, Run, RunState, StepOutcome, StepRecord, output},
    steps::Ready,
};

/// Most findings that become remarks on lines.
const MOST_REMARKS: usize = 50;

/// The image that was released.
pub(super) fn image(steps: &[StepRecord]) -> Option<PinnedImage> {
    output(steps, Step::Check)?["image"].as_str()?.parse().ok()
}

/// The status of the commit.
pub(super) fn state(run: &Run, steps: &[StepRecord]) -> Said {
    let error = run.error.as_ref();
    let message = || error.map(|error| error.message.clone()).unwrap_or_default();
    match run.state {
        RunState::Queued => Said::Pending("waits for its turn".into()),
        RunState::Running => {
            let now = steps.iter().find(|one| one.outcome == StepOutcome::Running);
            Said::Pending(now.map_or_else(|| "runs".to_owned(), |one| one.step.name().to_owned()))
        }
        RunState::Done => Said::Success(format!("released with counter {}", run.counter)),
        RunState::Failed => match error.is_some_and(|error| error.refused) {
            true => Said::Failure(message()),
            false => Said::Error(message()),
        },
        RunState::Cancelled => Said::Error("cancelled".into()),
        RunState::Superseded => Said::Failure("superseded by a newer release".into()),
    }
}

/// One attempt of a step.
pub(super) fn step(record: &StepRecord) -> Shown {
    let time = |ms: i64| Timestamp::from_millisecond(ms).ok();
    let took = record.finished.map(|end| format!("{} ms", end - record.started));
    let took = took.unwrap_or_default();
    let (state, title, summary) = match (record.outcome, &record.error) {
        (StepOutcome::Running, _) => (StepState::Running, "under way".to_owned(), String::new()),
        (StepOutcome::Done, _) => {
            let skipped = matches!(record.step, Step::Prove | Step::Gates | Step::Promote)
                && record.output.as_ref().is_none_or(Value::is_null);
            if skipped {
                let title = "the pipeline asks for none".to_owned();
                (StepState::Done(Conclusion::Skipped), title, String::new())
            } else {
                let conclusion = StepState::Done(Conclusion::Success);
                (conclusion, format!("done in {took}"), summary(record))
            }
        }
        (StepOutcome::Interrupted, _) => (
            StepState::Done(Conclusion::Neutral),
            "interrupted; another attempt goes on".to_owned(),
            String::new(),
        ),
        (StepOutcome::Failed, error) => {
            let (code, message, hint) = match error {
                Some(error) => (error.code.as_str(), error.message.as_str(), error.hint.as_str()),
                None => ("", "", ""),
            };
            let conclusion = match code {
                "timeout" => Conclusion::TimedOut,
                "cancelled" => Conclusion::Cancelled,
                _ => Conclusion::Failure,
            };
            let title = message.lines().next().unwrap_or_default().to_owned();
            let summary = format!("{}\n\n`{code}`: {}", plain(message), plain(hint));
            (StepState::Done(conclusion), title, summary)
        }
    };
    Shown {
        name: record.step.name().to_owned(),
        state,
        title,
        summary,
        text: None,
        annotations: remarks(record),
        started: time(record.started),
        ended: record.finished.and_then(time),
    }
}

/// A stranger's words as Markdown that is nothing but words.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(4000) {
        if "\\`*_{}[]<>()#+!|~@".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A few facts of what a step left.
fn summary(record: &StepRecord) -> String {
    let Some(output) = &record.output else { return String::new() };
    let fact = |name: &str, pointer: &str| {
        let value = output.pointer(pointer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("- {name}: `{}`\n", text.replace('`', "'")))
    };
    let facts: &[(&str, &str)] = match record.step {
        Step::Checkout => &[("commit", "/commit"), ("tag object", "/tagObject")],
        Step::Model => &[("model", "/digest"), ("bytes", "/bytes"), ("parameters", "/parameters")],
        Step::Assemble => &[("index", "/index/descriptor/digest"), ("model layer", "/modelLayer")],
        Step::Push => &[("index", "/index"), ("bytes uploaded", "/bytesUploaded")],
        Step::Sign => &[("statement", "/statement"), ("counter", "/release/counter")],
        Step::Check => &[("image", "/image")],
        Step::Promote => &[("commit", "/commit"), ("image", "/to")],
        Step::Prove | Step::Gates | Step::Attest => &[],
    };
    let mut text: String = facts.iter().filter_map(|(name, at)| fact(name, at)).collect();
    if record.step == Step::Prove {
        for run in output["runs"].as_array().into_iter().flatten() {
            let (track, seed) = (&run["run"]["track"], &run["run"]["seed"]);
            let laps = run["report"]["laps"].as_array().map_or(0, Vec::len);
            let line = format!("- {laps} laps on {track}, seed {seed}\n");
            text.push_str(&line.replace('"', "`"));
        }
    }
    if record.step == Step::Gates {
        for gate in output["gates"].as_array().into_iter().flatten() {
            let (name, said) = (gate["gate"].as_str(), gate["summary"].as_str());
            let (name, said) = (name.unwrap_or_default(), said.unwrap_or_default());
            let _ = writeln!(text, "- {}: {}", plain(name), plain(said));
        }
    }
    text
}

/// What gates found, on the lines where it is.
fn remarks(record: &StepRecord) -> Vec<Annotation> {
    let gates = record.output.as_ref().filter(|_| record.step == Step::Gates);
    let gates = gates.and_then(|output| output["gates"].as_array()).into_iter().flatten();
    let findings = gates.flat_map(|gate| gate["named"].as_array().into_iter().flatten());
    let remark = |finding: &Value| {
        // File and line; packages have none.
        let (path, line) = finding["place"].as_str()?.rsplit_once(':')?;
        let line: u32 = line.parse().ok()?;
        Some(Annotation {
            path: path.to_owned(),
            lines: (line, line),
            level: Level::Warning,
            message: finding["title"].as_str().unwrap_or_default().to_owned(),
        })
    };
    findings.filter_map(remark).take(MOST_REMARKS).collect()
}

/// How a release stands in an environment; nothing for one that it has not come to.
pub(super) fn deployment(
    place: &Placed,
    steps: &[StepRecord],
    confirmed: usize,
) -> Option<Deployment> {
    let progress = &place.progress;
    let outcome = progress["promotion"]["outcome"].as_str();
    let (state, description) = match outcome {
        Some("committed" | "inPlace") if confirmed > 0 => {
            (DeploymentState::Success, format!("confirmed by {confirmed} cars"))
        }
        Some("committed" | "inPlace") => {
            (DeploymentState::InProgress, "promoted; no car has confirmed it yet".to_owned())
        }
        Some("proposed") => (DeploymentState::Queued, "waits for its pull request".to_owned()),
        Some("held") => (DeploymentState::Failure, "held: see the run".to_owned()),
        _ if !progress["waits"].is_null() => {
            (DeploymentState::Queued, "waits for its approval".to_owned())
        }
        _ if progress["error"].is_string() => {
            (DeploymentState::Error, progress["error"].as_str().unwrap_or_default().to_owned())
        }
        _ => return None,
    };
    Some(Deployment {
        group: place.environment.clone(),
        image: image(steps)?,
        state,
        description,
        production: false,
        url: None,
    })
}

/// The notes of a finished release; none for a rollback, which has its tag's already.
pub(super) fn notes(run: &Run, steps: &[StepRecord], ready: &Ready) -> Option<ReleaseNotes> {
    if run.state != RunState::Done || run.rollback {
        return None;
    }
    let signed = output(steps, Step::Sign)?;
    let release: Release = serde_json::from_value(signed["release"].clone()).ok()?;
    let policy = &ready.pipeline.spec.policy;
    let name = policy.file_name()?.to_string_lossy();
    Some(ReleaseNotes {
        image: image(steps)?,
        counter: release.counter,
        car_kind: release.car_kind,
        platforms: release.platforms.into_iter().collect(),
        model: release.model.digest,
        policy: format!("policies/{name}"),
        verify: verify(ready)?,
        prerelease: false,
    })
}

/// How people verify by the same who the policy believes.
fn verify(ready: &Ready) -> Option<Verify> {
    if ready.signer.public().is_some() {
        return Some(Verify::Key { file: "release.pub".into(), logged: false });
    }
    let rules = ready.policy.authorities.iter().filter_map(|one| match &one.rule {
        AuthorityRule::Keyless(rule) => rule.keyless(),
        AuthorityRule::Key(_) | AuthorityRule::Static { .. } => None,
    });
    let exact = |matcher: &Matcher| match matcher {
        Matcher::Exact(text) => Some(text.clone()),
        Matcher::Pattern(_) => None,
    };
    rules.flat_map(|rule| &rule.any_of).find_map(|identity| {
        let (identity, issuer) = (exact(&identity.san)?, exact(&identity.issuer)?);
        Some(Verify::Keyless { identity, issuer })
    })
}
