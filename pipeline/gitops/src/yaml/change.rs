//! `Change`: a new value for one scalar; made by its byte range, proven by reading again.

use std::ops::Range;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, ScalarStyle};

use super::{
    at::{At, Step},
    tree::{Kind, Tree},
};
use crate::EditRefusal;

/// A new value for one scalar.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The bytes that are replaced, quotes included.
    pub range: Range<usize>,
    /// What is written there, quotes included.
    pub written: String,
    /// The new value.
    value: String,
    document: usize,
    path: Vec<Step>,
    event: usize,
}

impl Change {
    /// The change that gives the scalar at a place this value, in the quotes that it has.
    pub(crate) fn new(at: &At<'_>, value: String) -> Result<Self, EditRefusal> {
        let form = |why: &str| EditRefusal::Form { place: at.shown(), why: why.to_owned() };
        let range = at.node.range.clone();
        let style = match &at.node.kind {
            Kind::Scalar(_, style) => *style,
            Kind::Alias => return Err(EditRefusal::Shared(at.shown())),
            Kind::Map(_) | Kind::List(_) => return Err(form("no scalar; write one value there")),
        };
        if at.shared {
            return Err(EditRefusal::Shared(at.shown()));
        }
        let source = at.tree.text.get(range.clone()).unwrap_or_default();
        if source.is_empty() {
            return Err(form("empty; give it any value once by hand"));
        }
        if source.contains(['\n', '\r']) {
            return Err(form("written over several lines; write it in one"));
        }
        let written = match style {
            ScalarStyle::Plain if is_plain(&value) => value.clone(),
            ScalarStyle::SingleQuoted if !value.contains('\'') => format!("'{value}'"),
            ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                format!("\"{value}\"")
            }
            ScalarStyle::Literal | ScalarStyle::Folded => {
                return Err(form("a block of text; write it in one line behind its key"));
            }
        };
        let (document, path, event) = (at.document, at.path.clone(), at.node.event);
        Ok(Self { range, written, value, document, path, event })
    }
}

/// Makes the changes and proves that nothing else changed: same bytes around the ranges, same
/// events but those scalars, same values but those.
pub(crate) fn apply(tree: &Tree<'_>, changes: &[Change]) -> Result<String, EditRefusal> {
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sorted.sort_by_key(|change| change.range.start);
    let mut after = String::with_capacity(tree.text.len() + 256);
    let mut done = 0;
    for change in &sorted {
        let before = tree.text.get(done..change.range.start);
        after.push_str(before.ok_or(EditRefusal::Unproven("two changes overlap"))?);
        after.push_str(&change.written);
        done = change.range.end;
    }
    after.push_str(&tree.text[done..]);
    prove(tree, &sorted, &after)?;
    Ok(after)
}

fn prove(tree: &Tree<'_>, changes: &[&Change], after: &str) -> Result<(), EditRefusal> {
    let again =
        Tree::read(after).map_err(|_| EditRefusal::Unproven("the result cannot be read again"))?;
    if again.events.len() != tree.events.len() {
        return Err(EditRefusal::Unproven("something comes or goes"));
    }
    for (number, (old, new)) in tree.events.iter().zip(&again.events).enumerate() {
        let same = match changes.iter().find(|change| change.event == number) {
            None => old == new,
            Some(change) => scalar_of(old, new, &change.value),
        };
        if !same {
            return Err(EditRefusal::Unproven("another node would change"));
        }
    }
    let mut want = tree.values.clone();
    for change in changes {
        let place = want.get_mut(change.document).and_then(|root| find(root, &change.path));
        let place = place.ok_or(EditRefusal::Unproven("its value is not where its text is"))?;
        *place = Value::String(change.value.clone());
    }
    if again.values != want {
        return Err(EditRefusal::Unproven("another value would change"));
    }
    Ok(())
}

/// Whether `new` is the scalar `old` with this value: same anchor and tag, and no style but
/// quotes around what cannot stand without.
fn scalar_of(old: &Event<'_>, new: &Event<'_>, value: &str) -> bool {
    let (Event::Scalar(_, was, anchor, tag), Event::Scalar(text, is, anchor_now, tag_now)) =
        (old, new)
    else {
        return false;
    };
    let style = was == is || *is == ScalarStyle::DoubleQuoted;
    text == value && style && anchor == anchor_now && tag == tag_now
}

fn find<'v>(root: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

/// Whether a digest, a reference or a tag means itself when it has no quotes, to readers of YAML
/// 1.1 as well: `1.10` is a number, `yes` a truth value, `1e3` both.
fn is_plain(value: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@=".contains(&b);
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    if value.is_empty() || !value.bytes().all(word) || value.ends_with(':') {
        return false;
    }
    // What has a slash or a digest in it is no number; neither is what has two dots.
    let long = value.contains('/') || value.contains("sha256:");
    let first = value.as_bytes()[0];
    let starts = first.is_ascii_alphabetic() || (first.is_ascii_digit() && long);
    let version = first.is_ascii_digit() && value.matches('.').count() >= 2;
    (starts || version) && !words.contains(&value.to_ascii_lowercase().as_str())
}
