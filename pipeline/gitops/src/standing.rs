//! What a target says now against what Pitlane wrote there, and what follows for a candidate.
//!
//! A person who sets a file back makes no entry anywhere but in the file: the newest promotion in
//! the history names one image, the file another. What was rolled away that way is not promoted
//! again, and nothing older either; only a release with a newer counter moves it on.

use pitlane_release::{Counter, Digest};
use serde::{Deserialize, Serialize};

use crate::{Candidate, EditRefusal, Edited, Record, Target};

/// What is known of a target on a branch.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The branch's commit.
    pub head: String,
    /// The file's bytes, if it is there.
    pub file: Option<Vec<u8>>,
    /// Whether it is marked as a program; it stays so.
    pub executable: bool,
    /// Promotions of this target, as far back as was looked.
    pub records: Vec<Record>,
}

/// Why automation leaves a target alone: an answer, no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Held {
    /// A comment asks for it.
    #[error("a comment pauses it (`{comment}`); take the comment out to go on")]
    Paused {
        /// The comment.
        comment: String,
    },
    /// What Pitlane wrote to is gone.
    #[error("somebody took it out ({what}); put it back to go on")]
    Deleted {
        /// What is gone.
        what: String,
    },
    /// The file cannot be edited.
    #[error("{why}")]
    Unusable {
        /// Why, with the file.
        why: String,
    },
    /// This very release was there, and somebody set the file to something else.
    #[error(
        "release {counter} was promoted by commit {commit}, and somebody changed the file after \
         it; a newer release moves it on, `pitlane rollback` makes one"
    )]
    RolledAway {
        /// Its counter.
        counter: Counter,
        /// Its commit.
        commit: String,
    },
    /// A newer release was there already.
    #[error("release {newest} was promoted before, which is not older than {counter}")]
    Older {
        /// The counter that is too old.
        counter: Counter,
        /// The newest one promoted.
        newest: Counter,
    },
    /// A person closed the pull request of this release or a newer one, or merged it and the
    /// branch says something else now.
    #[error("pull request {url} of release {counter} was closed; a newer release opens another")]
    Closed {
        /// The counter of the release that was closed.
        counter: Counter,
        /// Where.
        url: String,
    },
    /// Somebody committed to the pull request's branch.
    #[error("branch {branch} has changes by others; merge or delete it")]
    Edited {
        /// The branch.
        branch: String,
    },
}

impl Held {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "paused",
            Self::Deleted { .. } => "deleted",
            Self::Unusable { .. } => "unusable",
            Self::RolledAway { .. } => "rolled-away",
            Self::Older { .. } => "older",
            Self::Closed { .. } => "closed",
            Self::Edited { .. } => "edited",
        }
    }
}

/// What follows for a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there, by this commit of this very promotion.
    Landed {
        /// The commit.
        commit: String,
    },
    /// It is there already; nothing has to change.
    InPlace,
    /// It is left alone.
    Held(Held),
    /// This is to be written.
    Write(Edited),
}

impl Standing {
    /// The newest promotion.
    pub fn newest(&self) -> Option<&Record> {
        self.records.iter().max_by_key(|record| record.counter)
    }

    /// The digest that the file names now.
    pub fn digest(&self, target: &Target, candidate: &Candidate) -> Option<Digest> {
        let found = target.look(self.file.as_deref()?, &candidate.image.repository);
        found.ok().and_then(|found| found.digest)
    }

    /// What follows for a candidate.
    pub fn verdict(&self, target: &Target, candidate: &Candidate) -> Result<Verdict, EditRefusal> {
        let deleted = |what: String| Ok(Verdict::Held(Held::Deleted { what }));
        let Some(bytes) = &self.file else {
            let what = format!("no file {}", target.file().display());
            return match self.newest() {
                Some(_) => deleted(what),
                None => Err(EditRefusal::missing(what, "write it once by hand")),
            };
        };
        let found = match target.look(bytes, &candidate.image.repository) {
            Ok(found) => found,
            Err(EditRefusal::Missing { what, .. }) if self.newest().is_some() => {
                return deleted(what);
            }
            Err(refusal) => return Err(refusal),
        };
        if found.digest == Some(candidate.image.digest) {
            let mine = |record: &&Record| {
                record.counter == candidate.counter && record.image == candidate.image
            };
            return Ok(match self.records.iter().find(mine) {
                Some(record) => Verdict::Landed { commit: record.commit.clone() },
                None => Verdict::InPlace,
            });
        }
        if let Some(comment) = found.paused {
            return Ok(Verdict::Held(Held::Paused { comment }));
        }
        if let Some(newest) = self.newest() {
            let (counter, commit) = (candidate.counter, newest.commit.clone());
            if newest.counter == counter && newest.image == candidate.image {
                return Ok(Verdict::Held(Held::RolledAway { counter, commit }));
            }
            if newest.counter >= counter {
                return Ok(Verdict::Held(Held::Older { counter, newest: newest.counter }));
            }
        }
        let edited = target.set(bytes, &candidate.image.repository, &candidate.pin())?;
        Ok(Verdict::Write(edited))
    }
}
