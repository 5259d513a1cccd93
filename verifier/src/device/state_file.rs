//! The state on disk: two copies, a generation number and a digest, so that no power cut at any
//! point, and no single damaged file, loses the floor.
//!
//! Each save writes the weaker copy first (the damaged or older one), durably, then the other.
//! A copy is written beside, flushed, renamed, and its directory flushed; reading takes the valid
//! copy with the highest generation. Whoever is root can put both copies back: a floor in a file
//! binds the network and the registry, not the owner of the disk.

use std::io;

use pitlane_release::Digest;

use super::{fs::Fs, slots::State};

/// The two copies.
const COPIES: [&str; 2] = ["slots.0", "slots.1"];
/// What the first line begins with; the number is the format's.
const MAGIC: &str = "pitlane-slots 1";
/// Longest file: some twenty slots of a kilobyte.
const MAX: usize = 256 * 1024;

/// Why there is no state, or why it was not saved. Start nothing new in either case.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system failed.
    #[error("slot state: {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Files are there, but none is valid. Never taken for a new car: its floor is lost.
    #[error("slot state: no valid copy ({0}); the floor is lost, enrol this car again")]
    Damaged(String),
}

/// The state with its place on disk.
#[derive(Debug)]
pub struct StateFile<F> {
    fs: F,
    generation: u64,
    /// Generation of each copy as it is on disk; 0 when absent or damaged.
    copies: [u64; 2],
}

impl<F: Fs> StateFile<F> {
    /// Reads the state; a directory without any copy is a new car. The text, if any, says which
    /// copy was damaged (the next save repairs it).
    pub fn load(fs: F) -> Result<(Self, State, Option<String>), StateError> {
        let mut found: Option<(u64, State)> = None;
        let (mut copies, mut damage) = ([0; 2], Vec::new());
        for (at, name) in COPIES.iter().enumerate() {
            let bytes = match fs.read(name, MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) => {
                    damage.push(format!("{name}: {error}"));
                    continue;
                }
            };
            match decode(&bytes) {
                Ok((generation, state)) => {
                    copies[at] = generation;
                    if found.as_ref().is_none_or(|(best, _)| generation > *best) {
                        found = Some((generation, state));
                    }
                }
                Err(why) => damage.push(format!("{name}: {why}")),
            }
        }
        let damage = (!damage.is_empty()).then(|| damage.join("; "));
        let (generation, state) = match (found, &damage) {
            (Some(found), _) => found,
            (None, Some(damage)) => return Err(StateError::Damaged(damage.clone())),
            (None, None) => (0, State::default()),
        };
        Ok((Self { fs, generation, copies }, state, damage))
    }

    /// Makes the state durable, in both copies. After an error it is unknown which state the next
    /// load gives (the old or this one), so nothing must be started on it.
    pub fn save(&mut self, state: &State) -> Result<(), StateError> {
        state.check().map_err(StateError::Damaged)?;
        let generation = self.generation + 1;
        let bytes = encode(generation, state)?;
        let weaker = usize::from(self.copies[1] < self.copies[0]);
        for at in [weaker, 1 - weaker] {
            self.put(COPIES[at], &bytes)?;
            self.copies[at] = generation;
            self.generation = generation;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let io = |what| move |source| StateError::Io { what, source };
        self.fs.write("slots.tmp", bytes).map_err(io("cannot write"))?;
        self.fs.sync("slots.tmp").map_err(io("cannot flush"))?;
        self.fs.rename("slots.tmp", name).map_err(io("cannot rename"))?;
        self.fs.sync_dir().map_err(io("cannot flush its directory"))
    }
}

fn digest(generation: u64, body: &[u8]) -> Digest {
    Digest::of([format!("{MAGIC} {generation}\n").as_bytes(), body].concat())
}

fn encode(generation: u64, state: &State) -> Result<Vec<u8>, StateError> {
    let body = serde_json::to_vec_pretty(state)
        .map_err(|e| StateError::Io { what: "cannot encode", source: e.into() })?;
    let head = format!("{MAGIC} {generation} {}\n", digest(generation, &body));
    Ok([head.as_bytes(), &body].concat())
}

fn decode(bytes: &[u8]) -> Result<(u64, State), String> {
    let line = bytes.iter().position(|b| *b == b'\n').ok_or("no first line")?;
    let (head, body) = (&bytes[..line], &bytes[line + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| "the first line is no text")?;
    let rest =
        head.strip_prefix(MAGIC).and_then(|r| r.strip_prefix(' ')).ok_or("another format")?;
    let (generation, found) = rest.split_once(' ').ok_or("the first line is cut")?;
    let generation: u64 = generation.parse().map_err(|_| "no generation")?;
    if found != digest(generation, body).to_string() {
        return Err("its digest is wrong".into());
    }
    let state: State = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    state.check()?;
    Ok((generation, state))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    use proptest::prelude::*;

    use super::{
        super::{
            fs::Dir,
            slots::tests::{act, offer, statement, step},
        },
        *,
    };

    /// One operation, as a disk sees it.
    #[derive(Clone, Debug)]
    enum Op {
        Write(String, Vec<u8>),
        Sync(String),
        Rename(String, String),
        SyncDir,
    }

    type Files = BTreeMap<String, Vec<u8>>;

    /// Works in memory and records.
    #[derive(Clone, Debug, Default)]
    struct Recorder {
        files: Rc<RefCell<Files>>,
        log: Rc<RefCell<Vec<Op>>>,
    }

    impl Fs for Recorder {
        fn read(&self, name: &str, _: usize) -> io::Result<Option<Vec<u8>>> {
            Ok(self.files.borrow().get(name).cloned())
        }
        fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.files.borrow_mut().insert(name.into(), bytes.into());
            self.log.borrow_mut().push(Op::Write(name.into(), bytes.into()));
            Ok(())
        }
        fn sync(&mut self, name: &str) -> io::Result<()> {
            self.log.borrow_mut().push(Op::Sync(name.into()));
            Ok(())
        }
        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            let bytes = self.files.borrow_mut().remove(from).unwrap();
            self.files.borrow_mut().insert(to.into(), bytes);
            self.log.borrow_mut().push(Op::Rename(from.into(), to.into()));
            Ok(())
        }
        fn sync_dir(&mut self) -> io::Result<()> {
            self.log.borrow_mut().push(Op::SyncDir);
            Ok(())
        }
    }

    /// A disk: inodes with content, names that point to them; what is durable and what is not.
    #[derive(Clone, Default)]
    struct Disk {
        inodes: Vec<(Vec<u8>, bool)>,
        names: BTreeMap<String, usize>,
        durable_names: BTreeMap<String, usize>,
        /// Changes of names since the directory was flushed: (name removed, name set, inode).
        pending: Vec<(Option<String>, String, usize)>,
    }

    impl Disk {
        fn apply(&mut self, op: &Op) {
            match op {
                Op::Write(name, bytes) => {
                    self.inodes.push((bytes.clone(), false));
                    let inode = self.inodes.len() - 1;
                    self.names.insert(name.clone(), inode);
                    self.pending.push((None, name.clone(), inode));
                }
                Op::Sync(name) => self.inodes[self.names[name]].1 = true,
                Op::Rename(from, to) => {
                    let inode = self.names.remove(from).unwrap();
                    self.names.insert(to.clone(), inode);
                    self.pending.push((Some(from.clone()), to.clone(), inode));
                }
                Op::SyncDir => {
                    self.durable_names = self.names.clone();
                    self.pending.clear();
                }
            }
        }

        /// Every directory that a power cut now may leave: any subset of the pending names, and
        /// content that was not flushed whole, empty, or torn.
        fn crashes(&self) -> Vec<Files> {
            let mut result = Vec::new();
            for subset in 0_u32..1 << self.pending.len() {
                let mut names = self.durable_names.clone();
                for (at, (gone, name, inode)) in self.pending.iter().enumerate() {
                    if subset & (1 << at) != 0 {
                        if let Some(gone) = gone {
                            names.remove(gone);
                        }
                        names.insert(name.clone(), *inode);
                    }
                }
                for torn in 0..3 {
                    result.push(
                        names
                            .iter()
                            .map(|(name, inode)| {
                                let (bytes, durable) = &self.inodes[*inode];
                                let keep = match torn {
                                    _ if *durable => bytes.len(),
                                    0 => bytes.len(),
                                    1 => 0,
                                    _ => bytes.len() / 2,
                                };
                                (name.clone(), bytes[..keep].to_vec())
                            })
                            .collect(),
                    );
                }
            }
            result
        }
    }

    fn load(files: Files) -> Result<State, StateError> {
        let fs = Recorder { files: Rc::new(RefCell::new(files)), ..Recorder::default() };
        StateFile::load(fs).map(|(_, state, _)| state)
    }

    /// Replays all power cuts of a history; returns how many were tried.
    fn replay(log: &[Op], history: &[State]) -> Result<usize, String> {
        let mut disk = Disk::default();
        let (mut tried, mut saved) = (0, 0);
        let per_save = log.len() / (history.len() - 1);
        for (n, op) in log.iter().enumerate() {
            disk.apply(op);
            let done = (n + 1) / per_save;
            for files in disk.crashes() {
                tried += 1;
                let state =
                    load(files).map_err(|error| format!("after {n} operations: {error}"))?;
                // The last finished save, or the one under way; nothing older, nothing else.
                let last = (done + 1).min(history.len() - 1);
                if !history[done..=last].contains(&state) {
                    return Err(format!("after {n} operations: neither old nor new state"));
                }
                if state.floor < history[saved].floor {
                    return Err(format!("after {n} operations: the floor went down"));
                }
            }
            saved = done;
        }
        Ok(tried)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn any_power_cut_leaves_the_state_before_or_after(steps in proptest::collection::vec(step(), 1..12)) {
            let fs = Recorder::default();
            let (mut file, mut state, _) = StateFile::load(fs.clone()).unwrap();
            let mut history = vec![state.clone()];
            for step in &steps {
                act(&mut state, step);
                file.save(&state).unwrap();
                history.push(state.clone());
            }
            let tried = replay(&fs.log.borrow(), &history);
            prop_assert!(tried.as_ref().is_ok_and(|n| *n > steps.len() * 30), "{:?}", tried);
        }
    }

    #[test]
    fn the_replay_finds_a_save_that_does_not_flush() {
        // The proof that the model can fail: the same history without one kind of flush.
        let fs = Recorder::default();
        let (mut file, mut state, _) = StateFile::load(fs.clone()).unwrap();
        let mut history = vec![state.clone()];
        for n in 1..4 {
            offer(&mut state, n).unwrap();
            state.confirm(&statement(n)).unwrap();
            file.save(&state).unwrap();
            history.push(state.clone());
        }
        let log = fs.log.borrow().clone();
        assert!(replay(&log, &history).is_ok());
        let without = |gone: fn(&Op) -> bool| -> Vec<Op> {
            log.iter().filter(|op| !gone(op)).cloned().collect()
        };
        let no_file = replay(&without(|op| matches!(op, Op::Sync(_))), &history);
        assert!(no_file.is_err(), "unflushed content must be found");
        let no_dir = replay(&without(|op| matches!(op, Op::SyncDir)), &history);
        assert!(no_dir.is_err(), "unflushed names must be found");
    }

    #[test]
    fn one_damaged_copy_loses_nothing_and_two_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateFile::load(Dir::open(dir.path().join("state")).unwrap());
        let (mut file, mut state, damage) = open().unwrap();
        assert_eq!(damage, None);
        for n in 1..=3 {
            offer(&mut state, n).unwrap();
            state.confirm(&statement(n)).unwrap();
            file.save(&state).unwrap();
        }
        let path = |name: &str| dir.path().join("state").join(name);
        for name in COPIES {
            let good = std::fs::read(path(name)).unwrap();
            for at in (0..good.len()).step_by(7) {
                let mut bad = good.clone();
                bad[at] ^= 1;
                std::fs::write(path(name), &bad).unwrap();
                let (_, loaded, damage) = open().unwrap();
                assert_eq!(loaded, state, "{name} byte {at}");
                assert!(damage.is_some_and(|d| d.contains(name)));
            }
            std::fs::write(path(name), &good[..good.len() / 2]).unwrap();
            let (mut file, loaded, _) = open().unwrap();
            file.save(&loaded).unwrap();
            assert_eq!(open().unwrap().2, None, "a save repairs the damaged copy");
        }
        for name in COPIES {
            std::fs::write(path(name), "").unwrap();
        }
        assert!(matches!(open(), Err(StateError::Damaged(_))), "never taken for a new car");
    }

    #[test]
    fn an_unsound_state_is_neither_saved_nor_loaded() {
        let mut state = State::default();
        offer(&mut state, 5).unwrap();
        state.confirm(&statement(5)).unwrap();
        state.floor = pitlane_release::Floor(2);
        let (mut file, _, _) = StateFile::load(Recorder::default()).unwrap();
        assert!(file.save(&state).is_err());
        let bytes = encode(1, &state).unwrap();
        assert!(decode(&bytes).unwrap_err().contains("floor"));
    }
}
