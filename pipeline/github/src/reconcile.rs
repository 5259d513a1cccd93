//! What changed among a repository's tags since they were last looked at. Decided without I/O.
//!
//! Deliveries get lost, come twice and out of order, and are never made when more than three tags
//! are pushed at once. The list of tags is what is so; comparing it with what the store knows says
//! what was missed.

use std::collections::{BTreeMap, BTreeSet};

use pitlane_release::{Commit, ReleaseTag};

/// What the store knows of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTag {
    /// Its commit.
    pub commit: Commit,
    /// Its tag object, if it is annotated.
    pub tag_object: Option<Commit>,
    /// Whether it was deleted since.
    pub deleted: bool,
    /// What it was moved to when that was refused; the same move is not told again.
    pub refused: Option<Commit>,
}

impl KnownTag {
    /// A tag that is there.
    pub fn new(commit: Commit, tag_object: Option<Commit>) -> Self {
        Self { commit, tag_object, deleted: false, refused: None }
    }

    /// What its ref holds: the tag object, or the commit.
    pub fn held(&self) -> &Commit {
        self.tag_object.as_ref().unwrap_or(&self.commit)
    }
}

/// A tag as GitHub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub tag: ReleaseTag,
    /// What its ref holds: the tag object, or the commit.
    pub held: Commit,
    /// Whether `held` is a tag object.
    pub annotated: bool,
    /// The commit, where it is known; always so for lightweight tags.
    pub commit: Option<Commit>,
}

/// What happened to a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, and was not known.
    New {
        /// The tag.
        tag: ReleaseTag,
        /// Its commit and object.
        now: KnownTag,
    },
    /// It names another commit than it did.
    Moved {
        /// The tag.
        tag: ReleaseTag,
        /// What was known.
        was: KnownTag,
        /// What is so.
        now: KnownTag,
    },
    /// It names the same commit, by another tag object or after it was deleted.
    Recreated {
        /// The tag.
        tag: ReleaseTag,
        /// What was known.
        was: KnownTag,
        /// What is so.
        now: KnownTag,
    },
    /// It is gone.
    Deleted {
        /// The tag.
        tag: ReleaseTag,
        /// What was known.
        was: KnownTag,
    },
}

impl Change {
    /// Which tag.
    pub fn tag(&self) -> &ReleaseTag {
        match self {
            Self::New { tag, .. }
            | Self::Moved { tag, .. }
            | Self::Recreated { tag, .. }
            | Self::Deleted { tag, .. } => tag,
        }
    }

    /// Writes the change into what is known, as a store does that takes it.
    pub fn take(self, known: &mut BTreeMap<ReleaseTag, KnownTag>) {
        match self {
            Self::New { tag, now }
            | Self::Moved { tag, now, .. }
            | Self::Recreated { tag, now, .. } => {
                known.insert(tag, now);
            }
            Self::Deleted { tag, mut was } => {
                was.deleted = true;
                known.insert(tag, was);
            }
        }
    }

    /// Writes into what is known that a move was refused: the tag stays where it was first seen.
    pub fn refuse(self, known: &mut BTreeMap<ReleaseTag, KnownTag>) {
        match self {
            Self::Moved { tag, mut was, now } => {
                was.refused = Some(now.held().clone());
                known.insert(tag, was);
            }
            other => other.take(known),
        }
    }
}

/// The answer: what changed, and what cannot be told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What changed, by tag; each tag at most once.
    pub changes: Vec<Change>,
    /// Tags whose commit must be asked for before anything can be said of them.
    pub open: Vec<ReleaseTag>,
    /// Tags that were listed twice with different contents: they were pushed while the list was
    /// read. The next look tells.
    pub unsettled: Vec<ReleaseTag>,
}

/// Compares what GitHub lists with what is known, for the tags that are `wanted`.
///
/// `complete` says whether the list has all tags; from one that has not, nothing is deleted.
pub fn reconcile(
    known: &BTreeMap<ReleaseTag, KnownTag>,
    listed: &[ListedTag],
    wanted: &dyn Fn(&ReleaseTag) -> bool,
    complete: bool,
) -> Decision {
    let mut by_tag = BTreeMap::<&ReleaseTag, &ListedTag>::new();
    let mut unsettled = BTreeSet::<&ReleaseTag>::new();
    for one in listed.iter().filter(|one| wanted(&one.tag)) {
        let before = by_tag.insert(&one.tag, one);
        if before.is_some_and(|before| before.held != one.held) {
            unsettled.insert(&one.tag);
        }
    }
    let mut decision = Decision {
        unsettled: unsettled.iter().map(|tag| (*tag).clone()).collect(),
        ..Decision::default()
    };
    for (tag, one) in &by_tag {
        if unsettled.contains(tag) {
            continue;
        }
        match look(known.get(*tag), one) {
            Look::Same => {}
            Look::Open => decision.open.push((*tag).clone()),
            Look::Changed(change) => decision.changes.push(change),
        }
    }
    if complete {
        let gone = |(tag, was): &(&ReleaseTag, &KnownTag)| {
            !was.deleted && wanted(tag) && !by_tag.contains_key(*tag)
        };
        let gone = known.iter().filter(gone);
        let gone = gone.map(|(tag, was)| Change::Deleted { tag: tag.clone(), was: was.clone() });
        decision.changes.extend(gone);
        decision.changes.sort_by(|a, b| a.tag().cmp(b.tag()));
    }
    decision
}

enum Look {
    Same,
    Open,
    Changed(Change),
}

fn look(known: Option<&KnownTag>, one: &ListedTag) -> Look {
    if let Some(was) = known {
        let same = !was.deleted && *was.held() == one.held;
        if same || was.refused.as_ref() == Some(&one.held) {
            return Look::Same;
        }
    }
    let commit = if one.annotated { one.commit.as_ref() } else { Some(&one.held) };
    let Some(commit) = commit else { return Look::Open };
    let object = one.annotated.then(|| one.held.clone());
    let (tag, now) = (one.tag.clone(), KnownTag::new(commit.clone(), object));
    Look::Changed(match known.cloned() {
        None => Change::New { tag, now },
        Some(was) if was.commit == now.commit => Change::Recreated { tag, was, now },
        Some(was) => Change::Moved { tag, was, now },
    })
}
