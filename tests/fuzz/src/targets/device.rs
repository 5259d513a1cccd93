//! What lies on a car's disk or comes out of its container: state, diary, evidence, status.

use std::{collections::BTreeMap, fs, io};

use pitlane_release::Digest;
use pitlane_verifier::{
    agent::{
        diary::{self, Diary},
        evidence_file,
    },
    device::{fs::Fs, health::CarStatus, state_file::StateFile},
};

use super::fresh_folder;
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "slot-state",
        run: slot_state,
        more: &[],
        words: &[
            "\"candidate\":{\"triesLeft\":1}",
            "\"confirmed\"",
            "\"refused\":{\"code\":\"x\"}",
            "\"floor\":18446744073709551615",
            "\"slots\":[]",
            "\"latestKnownTime\":null",
            "pitlane-slots 1 ",
        ],
        max: 8_000,
    },
    Target {
        name: "car-words",
        run: car_words,
        more: &[],
        words: &["\"state\":\"driving\"", "\"frames\":", "\"gate\":", "\"loop_hz\":1e400"],
        max: 8_000,
    },
];

/// Files in memory.
#[derive(Clone, Debug, Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Fs for Memory {
    fn read(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        match self.0.get(name) {
            Some(bytes) if bytes.len() > cap => Err(io::Error::other("too long")),
            other => Ok(other.cloned()),
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A state file: the input with the right first line, or as it is when it brings its own.
fn slot_state(input: &[u8]) -> Reached {
    let mut bytes = input.to_vec();
    if !input.starts_with(b"pitlane-slots") {
        let digest = Digest::of([b"pitlane-slots 1 7\n", input].concat());
        bytes = [format!("pitlane-slots 1 7 {digest}\n").as_bytes(), input].concat();
    }
    let memory = Memory(BTreeMap::from([("slots.1".to_owned(), bytes)]));
    let (mut file, state, damage) = match StateFile::load(memory.clone()) {
        Ok(loaded) => loaded,
        Err(error) => return Reached::refused(error),
    };
    assert_eq!(damage, None);
    // What can be read can be kept, and comes back as it was.
    file.save(&state).unwrap();
    Reached::accepted(state.slots.len().min(3))
}

/// A status, a diary, kept evidence: nothing that cannot be read stops the agent.
fn car_words(input: &[u8]) -> Reached {
    let status = serde_json::from_slice::<CarStatus>(input);
    let folder = fresh_folder();
    fs::write(folder.join(diary::FILE), input).unwrap();
    let read = Diary::read(&folder);
    assert!(read.driving.is_none(), "nothing drives because a file says so");
    let statement = Digest::from_bytes([5; 32]);
    fs::write(folder.join(format!("{}.json", statement.hex())), input).unwrap();
    let evidence = evidence_file::load(&folder, &statement);
    let evidence = evidence.map_err(|error| format!("{error:#}"));
    Reached::of(&status)
        .and(Reached::accepted(read.decisions.len().min(2)))
        .and(Reached::of(&evidence))
}
