//! The table of bad inputs: hostile ones and broken ones, each with the exact code and words that
//! it gets, and proof that nothing else changed: runs, registry, GitOps repository and state
//! folder are as they were before.
//!
//! One row is one input. What other tests hold is not repeated: admission of images is in
//! `refusals`, parsers alone in their crates and in the fuzz targets.
//!
//! - `world`: what is compared before and after
//! - `webhook`, `repository`, `model`, `card`, `pipeline_file`, `policy`, `registry`, `dockerfile`:
//!   the rows, by where the input comes from

/// Rows of a table: what it is, how it is made, and after the arrow what it must get.
macro_rules! rows {
    ($($what:literal: $($make:expr),+ => $($answer:literal),+;)*) => {
        &[$(($what, $($make),+, $($answer),+)),*]
    };
}

mod card;
mod dockerfile;
mod liar;
mod model;
mod onnx;
mod pipeline_file;
mod policy;
mod registry;
mod repository;
mod webhook;
mod world;
mod yaml;

/// The code and the words of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    code: String,
    says: String,
}

impl Answer {
    fn new(code: impl Into<String>, says: impl Into<String>) -> Self {
        Self { code: code.into(), says: says.into() }
    }
}

/// The first line of what a reader of YAML says; below it the place is shown, and after it all
/// fields that there are, which become more.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split(", expected one of ").next().unwrap_or_default()
}

/// A text with N instead of each number after this word: what differs from machine to machine.
fn unnumbered(text: &str, word: &str) -> String {
    let mut parts = text.split(word);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str(word);
        out.push_str(if rest.len() < part.len() { "N" } else { "" });
        out.push_str(rest);
    }
    out
}

/// Rows that did not get what they must.
#[derive(Debug, Default)]
struct Table {
    rows: usize,
    wrong: Vec<String>,
}

impl Table {
    /// Compares the answer to one input.
    fn row(&mut self, what: &str, got: &Answer, code: &str, says: &str) {
        self.rows += 1;
        if (got.code.as_str(), got.says.as_str()) != (code, says) {
            self.wrong.push(format!(
                "{what}\n    want {code:?} {says:?}\n    got  {:?} {:?}",
                got.code, got.says
            ));
        }
    }

    /// Something beside the answer that is not as it must be.
    fn note(&mut self, what: &str, why: &str) {
        self.wrong.push(format!("{what}\n    {why}"));
    }

    /// All rows of a kind were as they must be, and there were so many.
    #[track_caller]
    fn end(self, rows: usize) {
        assert!(
            self.wrong.is_empty(),
            "{} of {}:\n{}",
            self.wrong.len(),
            self.rows,
            self.wrong.join("\n")
        );
        assert_eq!(self.rows, rows, "rows of this table");
    }
}

#[test]
fn a_table_finds_what_differs() {
    let got = Answer::new("code", "words");
    let mut table = Table::default();
    table.row("same", &got, "code", "words");
    assert!(table.wrong.is_empty());
    for (code, says) in [("other", "words"), ("code", "other words"), ("", "")] {
        table.row("differs", &got, code, says);
    }
    assert_eq!((table.rows, table.wrong.len()), (4, 3));
}
