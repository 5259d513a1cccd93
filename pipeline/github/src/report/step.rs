//! A step of a run, and how it is written as a check run.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Run, cut};

/// Annotations that one request may carry.
pub(super) const AT_ONCE: usize = 50;
/// Annotations of a step; more than a person reads.
const MOST_ANNOTATIONS: usize = 200;
/// Characters of a summary or text.
const LONGEST: usize = 65_000;
/// Characters of a title or name.
const TITLE: usize = 200;

/// A step of a run, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name; part of the check's name.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// One line.
    pub title: String,
    /// What there is to say, in Markdown.
    pub summary: String,
    /// More of it, in Markdown.
    pub text: Option<String>,
    /// Remarks about lines of files in the repository.
    pub annotations: Vec<Annotation>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It has not begun.
    Queued,
    /// It has begun.
    Running,
    /// It has ended.
    Done(Conclusion),
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Well.
    Success,
    /// It refused or failed.
    Failure,
    /// It was not needed, or an earlier one failed.
    Skipped,
    /// Somebody ended it.
    Cancelled,
    /// It ran out of time.
    TimedOut,
    /// It says nothing either way.
    Neutral,
}

impl Conclusion {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Neutral => "neutral",
        }
    }
}

/// A remark about lines of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Path in the repository.
    pub path: String,
    /// First and last line, from 1.
    pub lines: (u32, u32),
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub message: String,
}

/// How bad a remark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It is as it is.
    Notice,
    /// It should be looked at.
    Warning,
    /// It is why the step failed.
    Failure,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// GitHub wants lines from 1, in order.
pub(super) fn lines(annotation: &Annotation) -> (u32, u32) {
    let first = annotation.lines.0.max(1);
    (first, annotation.lines.1.max(first))
}

fn annotation(one: &Annotation) -> Value {
    let (first, last) = lines(one);
    json!({
        "path": one.path, "start_line": first, "end_line": last,
        "annotation_level": one.level.name(), "message": message(one),
    })
}

impl Step {
    /// How far it is, and what it came to, in GitHub's words.
    pub(super) fn status(&self) -> (&'static str, Option<&'static str>) {
        match self.state {
            StepState::Queued => ("queued", None),
            StepState::Running => ("in_progress", None),
            StepState::Done(conclusion) => ("completed", Some(conclusion.name())),
        }
    }

    pub(super) fn output(&self, annotations: &[Annotation]) -> Value {
        json!({
            "title": cut(&self.title, TITLE), "summary": cut(&self.summary, LONGEST),
            "text": self.text.as_deref().map(|text| cut(text, LONGEST)),
            "annotations": annotations.iter().map(annotation).collect::<Vec<_>>(),
        })
    }

    /// The annotations that are sent.
    pub(super) fn wanted(&self) -> &[Annotation] {
        &self.annotations[..self.annotations.len().min(MOST_ANNOTATIONS)]
    }

    /// The whole check run, with the first annotations.
    pub(super) fn body(&self, run: &Run, mark: &str, annotations: &[Annotation]) -> Value {
        let (status, conclusion) = self.status();
        let first = &annotations[..annotations.len().min(AT_ONCE)];
        let mut body = json!({
            "name": name(run, self), "external_id": mark, "status": status,
            "output": self.output(first),
        });
        let times = [("started_at", self.started), ("completed_at", self.ended)];
        for (field, time) in times.into_iter().filter_map(|(f, t)| Some((f, t?))) {
            body[field] = json!(time.to_string());
        }
        if let Some(conclusion) = conclusion {
            body["conclusion"] = json!(conclusion);
        }
        if let Some(url) = &run.url {
            body["details_url"] = json!(url);
        }
        body
    }
}

/// The name that people see, and that branch rules may ask for.
pub(super) fn name(run: &Run, step: &Step) -> String {
    cut(&format!("pitlane / {} / {}", run.pipeline, step.name), TITLE)
}

/// The texts as they are sent: title, summary, text.
pub(super) fn texts(step: &Step) -> (String, String, Option<String>) {
    let text = step.text.as_deref().map(|text| cut(text, LONGEST));
    (cut(&step.title, TITLE), cut(&step.summary, LONGEST), text)
}

/// A remark's message as it is sent.
pub(super) fn message(annotation: &Annotation) -> String {
    cut(&annotation.message, LONGEST)
}
