//! `At`: a place in a tree, with the way that led there.

use std::fmt::Write as _;

use serde_saphyr::granit_parser::Event;

use super::tree::{Kind, Node, Tree};
use crate::EditRefusal;

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A place in a tree.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    /// The tree.
    pub tree: &'a Tree<'a>,
    /// The node.
    pub node: &'a Node,
    /// Number of the document.
    pub document: usize,
    /// The way from the document's root.
    pub path: Vec<Step>,
    /// Whether an alias elsewhere shows this node as well.
    pub shared: bool,
}

impl<'a> At<'a> {
    /// The roots of the documents.
    pub(crate) fn documents(tree: &'a Tree<'a>) -> Vec<Self> {
        let root = |(document, node): (usize, &'a Node)| At {
            tree,
            node,
            document,
            path: Vec::new(),
            shared: tree.aliased.contains(&node.anchor),
        };
        tree.documents.iter().enumerate().map(root).collect()
    }

    /// The root of a file that has one document.
    pub(crate) fn only_document(tree: &'a Tree<'a>) -> Result<Self, EditRefusal> {
        // Counted with the empty ones: readers of such files take no second document at all.
        let starts = |event: &&Event<'_>| matches!(event, Event::DocumentStart(..));
        let count = tree.events.iter().filter(starts).count();
        match (count, Self::documents(tree).pop()) {
            (0 | 1, Some(root)) => Ok(root),
            (0 | 1, None) => {
                Err(EditRefusal::missing("it is empty", "write the file once by hand"))
            }
            (n, _) => Err(EditRefusal::ambiguous(
                format!("it has {n} documents"),
                "this kind of file has one; split it",
            )),
        }
    }

    fn step(&self, node: &'a Node, step: Step) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        let shared = self.shared || (node.anchor != 0 && self.tree.aliased.contains(&node.anchor));
        At { tree: self.tree, node, document: self.document, path, shared }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let Kind::Map(entries) = &self.node.kind else { return None };
        let found =
            |(name, _): &&(Node, Node)| matches!(&name.kind, Kind::Scalar(k, _) if k == key);
        let (_, node) = entries.iter().find(found)?;
        Some(self.step(node, Step::Key(key.to_owned())))
    }

    /// The value of a key that must be there; `hint` says what to do when it is not.
    pub(crate) fn need(&self, key: &str, hint: &str) -> Result<Self, EditRefusal> {
        match self.get(key) {
            Some(At { node: Node { kind: Kind::Alias, .. }, path, .. }) => {
                Err(EditRefusal::Shared(show(&path)))
            }
            Some(found) => Ok(found),
            None if matches!(self.node.kind, Kind::Alias) || self.get("<<").is_some() => {
                let mut path = self.path.clone();
                path.push(Step::Key(key.to_owned()));
                Err(EditRefusal::Shared(show(&path)))
            }
            None => Err(EditRefusal::missing(format!("{} has no `{key}:`", self.shown()), hint)),
        }
    }

    /// The items of a list; nothing else has any.
    pub(crate) fn items(&self) -> Vec<Self> {
        let Kind::List(items) = &self.node.kind else { return Vec::new() };
        items.iter().enumerate().map(|(i, node)| self.step(node, Step::Index(i))).collect()
    }

    /// The items of a list under a key that must be there.
    pub(crate) fn list(&self, key: &str, hint: &str) -> Result<Vec<Self>, EditRefusal> {
        match self.get(key).map(|found| found.node) {
            Some(Node { kind: Kind::List(_), .. }) => Ok(self.need(key, hint)?.items()),
            Some(Node { kind: Kind::Alias, .. }) => self.need(key, hint).map(|_| Vec::new()),
            _ => Err(EditRefusal::missing(format!("{} has no list `{key}:`", self.shown()), hint)),
        }
    }

    /// The one item that fits; `what` names what was looked for, `hint` what to do.
    pub(crate) fn only(items: Vec<Self>, what: &str, hint: &str) -> Result<Self, EditRefusal> {
        let mut items = items;
        match items.len() {
            1 => Ok(items.remove(0)),
            0 => Err(EditRefusal::missing(format!("no {what}"), hint)),
            n => {
                let shown: Vec<String> = items.iter().take(5).map(At::shown).collect();
                let (count, places) = (times(n), shown.join(", "));
                Err(EditRefusal::ambiguous(format!("{what} is there {count}: {places}"), hint))
            }
        }
    }

    /// A scalar's value.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(value, _) => Some(value),
            _ => None,
        }
    }

    /// What a key says, also by an alias or a merge: what other readers of the file find there.
    pub(crate) fn text_of(&self, key: &str) -> Option<&'a str> {
        let root = self.tree.values.get(self.document)?;
        let here = self.path.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        here?.get(key)?.as_str()
    }

    /// The scalars below that fit, at most `most` of them.
    pub(crate) fn scalars(&self, most: usize, fits: &mut dyn FnMut(&Node) -> bool) -> Vec<Self> {
        let mut found = Vec::new();
        collect(self.node, most, fits, &mut found);
        found.into_iter().filter_map(|event| self.to(event)).collect()
    }

    /// The place below whose event has this number. Ways are made for what is wanted alone: a
    /// file may have a hundred thousand nodes a hundred levels down.
    fn to(&self, event: usize) -> Option<Self> {
        let mut here = self.clone();
        while here.node.event != event {
            let next = match &here.node.kind {
                Kind::Map(entries) => {
                    let below = entries.partition_point(|(_, value)| value.event <= event);
                    let (key, value) = entries.get(below.checked_sub(1)?)?;
                    let Kind::Scalar(key, _) = &key.kind else { return None };
                    here.step(value, Step::Key(key.clone()))
                }
                Kind::List(items) => {
                    let below = items.partition_point(|item| item.event <= event).checked_sub(1)?;
                    here.step(items.get(below)?, Step::Index(below))
                }
                Kind::Scalar(..) | Kind::Alias => return None,
            };
            here = next;
        }
        Some(here)
    }

    /// The way, for people: `spec.containers[0].image`.
    pub(crate) fn shown(&self) -> String {
        if self.path.is_empty() {
            return if self.tree.documents.len() > 1 {
                format!("document {}", self.document + 1)
            } else {
                "it".to_owned()
            };
        }
        show(&self.path)
    }
}

/// Numbers of the scalars that fit; as deep as a tree may be.
fn collect(node: &Node, most: usize, fits: &mut dyn FnMut(&Node) -> bool, found: &mut Vec<usize>) {
    match &node.kind {
        Kind::Scalar(..) if found.len() < most && fits(node) => found.push(node.event),
        Kind::Map(entries) => {
            for (_, value) in entries {
                collect(value, most, fits, found);
            }
        }
        Kind::List(items) => {
            for item in items {
                collect(item, most, fits, found);
            }
        }
        Kind::Scalar(..) | Kind::Alias => {}
    }
}

fn times(n: usize) -> String {
    if n == 2 { "twice".to_owned() } else { format!("{n} times") }
}

fn show(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                let _ = write!(text, ".{key}");
            }
            Step::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    text
}
