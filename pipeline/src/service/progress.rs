//! How far transfers are, while they are under way: for who follows a run at the process that has
//! it. Nothing of it is kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::lane::Step;

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// In which step.
    pub step: Step,
    /// Bytes so far; what the other side has already counts as sent once that is known.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The transfers of this process, by run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    by_run: Arc<Mutex<BTreeMap<String, Transfer>>>,
}

/// A transfer that is told of; dropping it ends it.
#[derive(Debug)]
pub struct Telling {
    progress: Progress,
    run: String,
}

impl Progress {
    /// Begins to tell of a transfer of a run.
    pub fn begin(&self, run: &str, step: Step, total: u64) -> Telling {
        let transfer = Transfer { step, done: 0, total };
        self.with(|all| all.insert(run.to_owned(), transfer));
        Telling { progress: self.clone(), run: run.to_owned() }
    }

    /// The transfer of a run, if one is under way here.
    pub fn of(&self, run: &str) -> Option<Transfer> {
        self.with(|all| all.get(run).cloned())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Transfer>) -> T) -> T {
        act(&mut self.by_run.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Telling {
    /// So many bytes more are there.
    pub fn add(&self, bytes: u64) {
        self.progress.with(|all| {
            if let Some(transfer) = all.get_mut(&self.run) {
                transfer.done = (transfer.done + bytes).min(transfer.total);
            }
        });
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.progress.with(|all| all.remove(&self.run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_told_of_while_it_lasts() {
        let progress = Progress::default();
        assert_eq!(progress.of("r1"), None);
        let telling = progress.begin("r1", Step::Push, 10);
        telling.add(4);
        let other = progress.clone();
        assert_eq!(other.of("r1"), Some(Transfer { step: Step::Push, done: 4, total: 10 }));
        telling.add(40);
        assert_eq!(other.of("r1").unwrap().done, 10, "what was there already counts once");
        drop(telling);
        assert_eq!(other.of("r1"), None);
    }
}
