//! Builds a release again from its provenance and compares digests.
//!
//! Source, base and runtimes may lie elsewhere than where the release was made; what counts is
//! their digests. Inputs that are not the provenance's are named before the outputs that differ
//! because of them.
//!
//! - `recipe`: what the provenance says a release is made of (pure)
//! - [`rebuild`](mod@rebuild): the files, the build, the comparison
//! - here: the report

mod rebuild;
mod recipe;

use std::fmt::{Display, Write as _};

use pitlane_release::{Commit, Counter, PinnedImage, ReleaseTag, RepoName};
use serde::Serialize;

pub use rebuild::{Files, reproduce};

/// Stands in a report for what nobody said where to find.
pub const NOT_LOOKED_AT: &str = "not looked at";

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The image that was to be reproduced.
    pub image: PinnedImage,
    /// Its counter.
    pub counter: Counter,
    /// Its source.
    pub source: RepoName,
    /// Its tag.
    pub tag: ReleaseTag,
    /// Its commit.
    pub commit: Commit,
    /// Who built it, by the provenance's word.
    pub builder: String,
    /// Whether all inputs and outputs are the same.
    pub same: bool,
    /// What went in.
    pub inputs: Vec<Row>,
    /// What came out.
    pub outputs: Vec<Row>,
}

/// One thing that was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// What the release has.
    pub want: String,
    /// What is here.
    pub got: String,
    /// Whether they are the same.
    pub same: bool,
}

impl Row {
    fn new(name: impl Into<String>, want: &dyn Display, got: &dyn Display) -> Self {
        let (want, got) = (want.to_string(), got.to_string());
        Self { name: name.into(), same: want == got, want, got }
    }
}

impl Report {
    /// The names of what differs, inputs first.
    pub fn different(&self) -> Vec<&str> {
        let all = self.inputs.iter().chain(&self.outputs);
        all.filter(|row| !row.same).map(|row| row.name.as_str()).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\nrelease {} ({} of {} at {}), built by {}\n",
            self.image, self.counter, self.tag, self.source, self.commit, self.builder
        );
        let all = self.inputs.iter().map(|row| ("input", row));
        let all = all.chain(self.outputs.iter().map(|row| ("output", row)));
        let width = self.inputs.iter().chain(&self.outputs).map(|row| row.name.len()).max();
        let width = width.unwrap_or(0);
        for (kind, row) in all {
            let Row { name, want, got, same } = row;
            let _ = if *same {
                writeln!(text, "same  {kind:6}  {name:width$}  {got}")
            } else {
                writeln!(
                    text,
                    "DIFF  {kind:6}  {name:width$}  {got}\n{:w$}want {want}",
                    "",
                    w = width + 11
                )
            };
        }
        text.push_str(if self.same { "reproduced\n" } else { "not reproduced\n" });
        text
    }
}
