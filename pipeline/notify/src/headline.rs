//! An event in one sentence and a few facts. Our words and the values of others stay apart, so
//! that each channel can make the values harmless in its own way. Pure.

use crate::event::{Event, What};

/// Longest value in a message (characters): Slack takes 2000 in a field, and each may become five.
const MAX_VALUE: usize = 350;
/// Longest name in the sentence (characters): Slack takes 3000 in all.
const MAX_NAME: usize = 120;

/// A piece of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Ours, as it is.
    Word(&'static str),
    /// Somebody's; to be escaped.
    Value(String),
}

use Part::Word;

fn value(text: &str) -> Part {
    Part::Value(crate::text::line(text, MAX_NAME))
}

/// The sentence.
pub(crate) fn sentence(event: &Event) -> Vec<Part> {
    let about = &event.about;
    let tag = about.tag.as_deref().unwrap_or("a release");
    let mut whole = vec![value(tag)];
    if let Some(repository) = &about.repository {
        whole.extend([Word(" of "), value(repository)]);
    }
    let release = whole.clone();
    match &event.what {
        What::RunQueued { rollback: false } => whole.push(Word(" is queued")),
        What::RunQueued { rollback: true } => whole.push(Word(" is queued to be released again")),
        What::StepFinished { step, .. } => whole.extend([Word(": finished "), value(step)]),
        What::StepFailed { step, again, .. } => {
            whole.extend([Word(": failed in "), value(step)]);
            whole.push(Word(if *again { ", and is tried again" } else { "" }));
        }
        What::RunReleased { .. } => whole.push(Word(" is released")),
        What::RunRefused { code, .. } => whole.extend([Word(" is refused: "), value(code)]),
        What::TagMoved { .. } => {
            whole.push(Word(" was moved after its release; cars keep to the first commit"));
        }
        What::Promoted { target, .. } => whole.extend([Word(" is promoted in "), value(target)]),
        What::RolledBack { .. } => whole.push(Word(" is released again: a rollback")),
        What::GateFailed { gate, .. } => whole.extend([Word(": no by the gate "), value(gate)]),
        What::CarConfirmed { car, .. } => {
            whole = vec![value(car), Word(" drives ")];
            whole.extend(release);
        }
        What::CarRefused { car, code, .. } => {
            whole = vec![value(car), Word(" refuses ")];
            whole.extend(release);
            whole.extend([Word(": "), value(code)]);
        }
        What::CarBlocked { car, code, .. } => {
            whole = vec![value(car), Word(" cannot go on to ")];
            whole.extend(release);
            whole.extend([Word(": "), value(code)]);
        }
    }
    whole
}

/// The facts, at most ten: name → value. Empty values are left out.
pub(crate) fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&'static str, String)> = Vec::new();
    let mut add = |name, text: &str| {
        let text = crate::text::line(text, MAX_VALUE);
        if !text.is_empty() {
            facts.push((name, text));
        }
    };
    match &event.what {
        What::RunQueued { .. } => {}
        What::StepFinished { duration_ms, .. } => add("took", &seconds(*duration_ms)),
        What::StepFailed { code, message, hint, attempt, .. } => {
            add("code", code);
            add("why", message);
            add("next", hint);
            add("attempt", &attempt.to_string());
        }
        What::RunReleased { image, duration_ms, .. } => {
            add("image", image);
            add("took", &seconds(*duration_ms));
        }
        What::RunRefused { step, message, hint, .. } => {
            add("step", step);
            add("why", message);
            add("next", hint);
        }
        What::TagMoved { was, now } => {
            add("was", was);
            add("now", now);
        }
        What::Promoted { commit, from, to, .. } => {
            add("to", to);
            add("from", from.as_deref().unwrap_or_default());
            add("GitOps commit", commit);
        }
        What::RolledBack { image } | What::CarConfirmed { image, .. } => add("image", image),
        What::GateFailed { message, findings, .. } => {
            add("why", message);
            let counts: Vec<String> =
                findings.iter().map(|(severity, count)| format!("{count} {severity}")).collect();
            add("findings", &counts.join(", "));
        }
        What::CarRefused { image, message, .. } | What::CarBlocked { image, message, .. } => {
            add("why", message);
            add("image", image);
        }
    }
    let about = &event.about;
    add("counter", &about.counter.map(|counter| counter.to_string()).unwrap_or_default());
    add("commit", about.commit.as_deref().unwrap_or_default());
    add("pipeline", about.pipeline.as_deref().unwrap_or_default());
    add("run", about.run.as_deref().unwrap_or_default());
    facts
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::samples;

    #[test]
    fn sentences() {
        let lines: Vec<String> = samples()
            .iter()
            .map(|event| {
                assert!(facts(event).len() <= 10);
                let parts = sentence(event).into_iter().map(|part| match part {
                    Word(word) => word.to_owned(),
                    Part::Value(value) => format!("[{value}]"),
                });
                parts.collect()
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        [v1.0.0] of [team/car] is queued
        [v1.0.0] of [team/car]: finished [prove]
        [v1.0.0] of [team/car]: failed in [push], and is tried again
        [v1.0.0] of [team/car] is released
        [v1.0.0] of [team/car] is refused: [prove-off-road]
        [v1.0.0] of [team/car] was moved after its release; cars keep to the first commit
        [v1.0.0] of [team/car] is promoted in [fleet/gitops]
        [v1.0.0] of [team/car] is released again: a rollback
        [v1.0.0] of [team/car]: no by the gate [secrets]
        [car-7] drives [v1.0.0] of [team/car]
        [car-7] refuses [v1.0.0] of [team/car]: [rollback]
        [car-7] cannot go on to [v1.0.0] of [team/car]: [registry-unreachable]
        "#);
    }
}
