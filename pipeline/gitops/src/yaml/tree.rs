//! `Tree`: the documents of a text, each node with its byte range, and the comments.

use std::{collections::BTreeSet, ops::Range};

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle};

use super::MAX_FILE;
use crate::EditRefusal;

/// Most events read from one file: a file of the largest size with one character a scalar has
/// more, and no real one has.
const MAX_EVENTS: usize = 200_000;
/// Deepest nesting. Real files have ten levels; the tree is dropped by recursion.
const MAX_DEPTH: usize = 100;

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    /// The text.
    pub text: &'t str,
    /// Everything in it, in order.
    pub events: Vec<Event<'t>>,
    /// The documents that are not empty.
    pub documents: Vec<Node>,
    /// Byte ranges of the comments, `#` included.
    pub comments: Vec<Range<usize>>,
    /// Anchors that an alias refers to.
    pub aliased: BTreeSet<usize>,
    /// The documents as values, aliases and merges resolved.
    pub values: Vec<Value>,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its bytes; of a collection only where it begins.
    pub range: Range<usize>,
    /// Its anchor, 0 for none.
    pub anchor: usize,
    /// Its event.
    pub event: usize,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A scalar: its value and how it is written.
    Scalar(String, ScalarStyle),
    /// Keys and values, in order.
    Map(Vec<(Node, Node)>),
    /// A list.
    List(Vec<Node>),
    /// Something that stands elsewhere.
    Alias,
}

impl<'t> Tree<'t> {
    /// Reads a text: bounded, without duplicate keys, by events and by values.
    pub(crate) fn read(text: &'t str) -> Result<Self, EditRefusal> {
        if text.len() > MAX_FILE {
            return Err(EditRefusal::TooLarge);
        }
        // First by values: this reader has a budget against aliases that multiply.
        let values: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|error| EditRefusal::Unreadable(first_line(&error.to_string())))?;
        let mut options = Options::default();
        options.emit_anchor_events = true;
        options.max_buffered_comment_events = MAX_EVENTS;
        let mut tree = Self {
            text,
            events: Vec::new(),
            documents: Vec::new(),
            comments: Vec::new(),
            aliased: BTreeSet::new(),
            values,
        };
        let mut open = Vec::new();
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) =
                next.map_err(|error| EditRefusal::Unreadable(first_line(&error.to_string())))?;
            let range = span.byte_range().unwrap_or(0..0);
            if tree.events.len() >= MAX_EVENTS || open.len() > MAX_DEPTH {
                return Err(EditRefusal::Unreadable("it has too many or too deep nodes".into()));
            }
            tree.take(event, range, &mut open)?;
        }
        if tree.documents.len() != tree.values.len() {
            return Err(EditRefusal::Unreadable("its documents cannot be told apart".into()));
        }
        Ok(tree)
    }

    fn take(
        &mut self,
        event: Event<'t>,
        range: Range<usize>,
        open: &mut Vec<Open>,
    ) -> Result<(), EditRefusal> {
        let number = self.events.len();
        let node = |kind, anchor| Node { kind, range: range.clone(), anchor, event: number };
        let done = match &event {
            Event::Scalar(value, style, anchor, _) => {
                Some(node(Kind::Scalar(value.to_string(), *style), *anchor))
            }
            Event::Alias(anchor) => {
                self.aliased.insert(*anchor);
                Some(node(Kind::Alias, 0))
            }
            Event::SequenceStart(_, anchor, _) => {
                open.push(Open { node: node(Kind::List(Vec::new()), *anchor), key: None });
                None
            }
            Event::MappingStart(_, anchor, _) => {
                open.push(Open { node: node(Kind::Map(Vec::new()), *anchor), key: None });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| open.node),
            Event::Comment(..) => {
                self.comments.push(range);
                None
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..) => None,
            _ => return Err(EditRefusal::Unreadable("it has an alias of nothing".into())),
        };
        self.events.push(event);
        let Some(done) = done else { return Ok(()) };
        match open.last_mut() {
            Some(Open { node: Node { kind: Kind::List(items), .. }, .. }) => items.push(done),
            Some(Open { node: Node { kind: Kind::Map(entries), .. }, key }) => match key.take() {
                Some(key) => entries.push((key, done)),
                None => *key = Some(done),
            },
            // The reader of values leaves such documents out.
            _ if !is_nothing(&done) => self.documents.push(done),
            _ => {}
        }
        Ok(())
    }

    /// The comment that stands behind this range in the same line, without `#`.
    pub(crate) fn comment_behind(&self, range: &Range<usize>) -> Option<&'t str> {
        let after = self.comments.partition_point(|comment| comment.start < range.end);
        let comment = self.comments.get(after)?;
        let between = self.text.get(range.end..comment.start)?;
        // In flow style, what closes may stand between.
        let blank = |c: char| matches!(c, ' ' | '\t' | '}' | ']' | ',');
        between.chars().all(blank).then(|| self.comment(comment))
    }

    /// The comments that have a line of their own, without `#`.
    pub(crate) fn comment_lines(&self) -> impl Iterator<Item = &'t str> {
        self.comments.iter().filter_map(|range| {
            let before = self.text[..range.start].rsplit(['\n', '\r']).next()?;
            before.trim_start_matches('\u{feff}').trim().is_empty().then(|| self.comment(range))
        })
    }

    fn comment(&self, range: &Range<usize>) -> &'t str {
        self.text[range.clone()].trim_start_matches('#').trim()
    }
}

/// A collection whose end was not seen yet.
struct Open {
    node: Node,
    key: Option<Node>,
}

fn is_nothing(node: &Node) -> bool {
    let Kind::Scalar(value, ScalarStyle::Plain) = &node.kind else { return false };
    matches!(value.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

/// Messages of the readers show the file below their first line.
fn first_line(text: &str) -> String {
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("")
        .trim()
        .chars()
        .take(300)
        .collect()
}
