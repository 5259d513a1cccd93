//! Which release drives: candidates, the confirmed, the refused, and the floor under them.
//!
//! A pure state machine. No method here writes; the caller saves with [`super::state_file`]
//! *before* it acts on what a method said. The order that makes a power cut harmless:
//!
//! 1. [`State::offer`], save: the release is known, its blobs are all there.
//! 2. [`State::begin`], save, then start: a try is spent before it is made, so a release that
//!    takes the machine down with it runs out of tries.
//! 3. healthy: [`State::confirm`], save: confirmed and the floor raised in one write.
//! 4. only then drop blobs that [`State::kept`] does not name.

use jiff::Timestamp;
use pitlane_release::{Counter, Digest, Floor, PinnedImage};
use serde::{Deserialize, Serialize};

/// How often a candidate may start before it counts as unhealthy.
pub const TRIES: u8 = 3;
/// Releases whose blobs are kept: the one driving, the one before, a candidate.
pub const KEPT: usize = 3;
/// Refusals remembered, so that a bad release is not tried again at every poll.
pub const REFUSED: usize = 16;
/// The code of a candidate that used up its tries.
pub const UNHEALTHY: &str = "unhealthy";

/// One release on this car.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slot {
    /// The platform manifest that was admitted.
    pub image: PinnedImage,
    /// Its counter.
    pub counter: Counter,
    /// The release statement that it was admitted by: its identity here.
    pub statement: Digest,
    /// How far it got.
    pub state: SlotState,
}

/// How far a release got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SlotState {
    /// Admitted, not yet proven by driving.
    Candidate {
        /// Starts left.
        tries_left: u8,
    },
    /// It drove well.
    Confirmed,
    /// It will not be started again.
    Refused {
        /// Why, as a stable code.
        code: String,
    },
}

/// All that a car remembers about releases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// No release below it starts.
    pub floor: Floor,
    /// The releases, in the order in which they came.
    pub slots: Vec<Slot>,
    /// The latest time this car can prove it has reached. Cars have no clock of their own: after
    /// a power cut theirs may stand in the past.
    pub latest_known_time: Option<Timestamp>,
}

/// Why an offered release does not become the candidate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It is below the floor.
    #[error("release {offered} is below this car's floor {}: to go back, publish the old image as a new release", floor.0)]
    BelowFloor {
        /// Its counter.
        offered: Counter,
        /// The floor.
        floor: Floor,
    },
    /// It is here already; nothing to do.
    #[error("release {0} is here already")]
    Known(Counter),
    /// It was refused before.
    #[error("release {counter} was refused before: {code}; publish a new release")]
    RefusedBefore {
        /// Its counter.
        counter: Counter,
        /// Why.
        code: String,
    },
    /// Two statements with one counter: somebody signed twice.
    #[error("another release with the counter {0} is known; counters are used once")]
    CounterTaken(Counter),
    /// A newer candidate is on trial.
    #[error("release {offered} is older than the candidate {candidate}")]
    Older {
        /// Its counter.
        offered: Counter,
        /// The candidate's.
        candidate: Counter,
    },
}

/// No slot of that statement, or not in a state that allows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {want} of release statement {statement} on this car")]
pub struct NoSuchSlot {
    want: &'static str,
    statement: Digest,
}

impl State {
    /// Takes an admitted release as the candidate; an older candidate gives way. Does not write.
    pub fn offer(
        &mut self,
        image: PinnedImage,
        counter: Counter,
        statement: Digest,
    ) -> Result<(), NotTaken> {
        if !self.floor.admits(counter) {
            return Err(NotTaken::BelowFloor { offered: counter, floor: self.floor });
        }
        if let Some(slot) = self.slots.iter().find(|slot| slot.statement == statement) {
            return Err(match &slot.state {
                SlotState::Refused { code } => {
                    NotTaken::RefusedBefore { counter, code: code.clone() }
                }
                _ => NotTaken::Known(counter),
            });
        }
        if self.slots.iter().any(|slot| slot.counter == counter) {
            return Err(NotTaken::CounterTaken(counter));
        }
        if let Some(candidate) = self.candidate() {
            if counter < candidate.counter {
                return Err(NotTaken::Older { offered: counter, candidate: candidate.counter });
            }
            let old = candidate.statement;
            self.slots.retain(|slot| slot.statement != old);
        }
        let state = SlotState::Candidate { tries_left: TRIES };
        self.slots.push(Slot { image, counter, statement, state });
        self.prune();
        Ok(())
    }

    /// The release on trial.
    pub fn candidate(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| matches!(slot.state, SlotState::Candidate { .. }))
    }

    /// The confirmed release that drives when there is no candidate: the newest one that the
    /// floor admits.
    pub fn confirmed(&self) -> Option<&Slot> {
        let confirmed =
            |slot: &&Slot| slot.state == SlotState::Confirmed && self.floor.admits(slot.counter);
        self.slots.iter().filter(confirmed).max_by_key(|slot| slot.counter)
    }

    /// Decides what to start now, and spends a try if it is the candidate. One without tries
    /// becomes refused, and the confirmed release drives again. Save before starting; does not
    /// write.
    pub fn begin(&mut self) -> Option<Slot> {
        let candidate =
            self.slots.iter_mut().find(|slot| matches!(slot.state, SlotState::Candidate { .. }));
        if let Some(slot) = candidate {
            if let SlotState::Candidate { tries_left } = &mut slot.state
                && *tries_left > 0
            {
                *tries_left -= 1;
                return Some(slot.clone());
            }
            slot.state = SlotState::Refused { code: UNHEALTHY.into() };
            self.prune();
        }
        self.confirmed().cloned()
    }

    /// Gives the try back after a stop that was asked for (shutdown, update of the agent): only
    /// the release's own failures count against it. Does not write.
    pub fn give_back(&mut self, statement: &Digest) -> Result<(), NoSuchSlot> {
        match &mut self.find(statement, "candidate")?.state {
            SlotState::Candidate { tries_left } => *tries_left = (*tries_left + 1).min(TRIES),
            _ => return Err(NoSuchSlot { want: "candidate", statement: *statement }),
        }
        Ok(())
    }

    /// The release drove well: it is confirmed and the floor rises to it, in one value and so in
    /// one write. Confirming twice is fine. Does not write.
    pub fn confirm(&mut self, statement: &Digest) -> Result<(), NoSuchSlot> {
        let slot = self.find(statement, "candidate")?;
        if matches!(slot.state, SlotState::Refused { .. }) {
            return Err(NoSuchSlot { want: "candidate", statement: *statement });
        }
        slot.state = SlotState::Confirmed;
        let counter = slot.counter;
        self.floor = self.floor.raised_to(counter);
        self.prune();
        Ok(())
    }

    /// The release will not be started again: it failed its self-test or its watch, or a stricter
    /// policy refuses it now. Does not write.
    pub fn refuse(&mut self, statement: &Digest, code: &str) -> Result<(), NoSuchSlot> {
        self.find(statement, "release")?.state =
            SlotState::Refused { code: code.chars().take(64).collect() };
        self.prune();
        Ok(())
    }

    /// Raises the floor from outside (a policy's minimum counter); never lowers it. Does not write.
    pub fn raise_floor(&mut self, counter: Counter) {
        self.floor = self.floor.raised_to(counter);
    }

    /// The time to judge expiry by: the clock, unless it stands before a time already seen.
    pub fn now(&self, clock: Timestamp) -> Timestamp {
        self.latest_known_time.map_or(clock, |known| known.max(clock))
    }

    /// Remembers a time that is proven (signed, or the clock at a clean shutdown); never goes
    /// back. Does not write.
    pub fn observe(&mut self, time: Timestamp) {
        self.latest_known_time = Some(self.now(time));
    }

    /// The slots whose blobs must stay.
    pub fn kept(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !matches!(slot.state, SlotState::Refused { .. }))
    }

    fn find(&mut self, statement: &Digest, want: &'static str) -> Result<&mut Slot, NoSuchSlot> {
        let found = self.slots.iter_mut().find(|slot| slot.statement == *statement);
        found.ok_or(NoSuchSlot { want, statement: *statement })
    }

    /// Forgets the oldest beyond the bounds, but never the candidate or the confirmed release.
    fn prune(&mut self) {
        let driving = self.confirmed().map(|slot| slot.statement);
        for (refused, most) in [(false, KEPT), (true, REFUSED)] {
            let class = |slot: &Slot| matches!(slot.state, SlotState::Refused { .. }) == refused;
            while self.slots.iter().filter(|slot| class(slot)).count() > most {
                let oldest = self.slots.iter().position(|slot| {
                    class(slot)
                        && Some(slot.statement) != driving
                        && !matches!(slot.state, SlotState::Candidate { .. })
                });
                match oldest {
                    Some(at) => drop(self.slots.remove(at)),
                    None => break,
                }
            }
        }
    }

    /// What must hold in every state that is loaded; the text says what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = |f: &dyn Fn(&Slot) -> bool| self.slots.iter().filter(|slot| f(slot)).count();
        if count(&|slot| matches!(slot.state, SlotState::Candidate { .. })) > 1 {
            return Err("more than one candidate".into());
        }
        if count(
            &|slot| matches!(slot.state, SlotState::Candidate { tries_left } if tries_left > TRIES),
        ) > 0
        {
            return Err(format!("a candidate with more than {TRIES} tries"));
        }
        if self.slots.len() > KEPT + REFUSED {
            return Err(format!("{} slots", self.slots.len()));
        }
        if self
            .slots
            .iter()
            .any(|s| s.state == SlotState::Confirmed && s.counter.get() > self.floor.0)
        {
            return Err("the floor is below a confirmed release".into());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn statement(n: u64) -> Digest {
        Digest::of(n.to_string())
    }

    pub(crate) fn offer(state: &mut State, n: u64) -> Result<(), NotTaken> {
        let image = format!("r.example/car@{}", Digest::of("image")).parse().unwrap();
        state.offer(image, Counter::new(n).unwrap(), statement(n))
    }

    fn started(state: &mut State) -> Option<u64> {
        state.begin().map(|slot| slot.counter.get())
    }

    #[test]
    fn a_candidate_that_drives_is_confirmed_and_raises_the_floor() {
        let mut state = State::default();
        assert_eq!(started(&mut state), None);
        offer(&mut state, 3).unwrap();
        assert_eq!(started(&mut state), Some(3));
        assert_eq!(state.floor, Floor(0), "not at admission");
        state.confirm(&statement(3)).unwrap();
        assert_eq!((state.floor, started(&mut state)), (Floor(3), Some(3)));
        assert!(matches!(offer(&mut state, 2), Err(NotTaken::BelowFloor { .. })));
        assert!(matches!(offer(&mut state, 3), Err(NotTaken::Known(_))));
        let image = state.slots[0].image.clone();
        let twin = state.offer(image, Counter::new(3).unwrap(), Digest::of("other"));
        assert!(matches!(twin, Err(NotTaken::CounterTaken(_))));
    }

    #[test]
    fn a_candidate_that_never_gets_healthy_gives_way_to_the_last_confirmed() {
        let mut state = State::default();
        offer(&mut state, 1).unwrap();
        state.confirm(&statement(1)).unwrap();
        offer(&mut state, 2).unwrap();
        assert_eq!([(); 3].map(|()| started(&mut state)), [Some(2); 3]);
        assert_eq!(started(&mut state), Some(1));
        assert_eq!(state.floor, Floor(1));
        let again = offer(&mut state, 2).unwrap_err();
        assert!(matches!(again, NotTaken::RefusedBefore { ref code, .. } if code == UNHEALTHY));
        assert!(state.confirm(&statement(2)).is_err(), "what was refused is not confirmed later");
        // A fix with a higher counter is welcome, and so is an older one above the floor.
        offer(&mut state, 3).unwrap();
        state.refuse(&statement(3), "golden-frames").unwrap();
        assert_eq!(started(&mut state), Some(1));
    }

    #[test]
    fn a_stop_that_was_asked_for_costs_no_try() {
        let mut state = State::default();
        offer(&mut state, 1).unwrap();
        for _ in 0..10 {
            assert_eq!(started(&mut state), Some(1));
            state.give_back(&statement(1)).unwrap();
        }
        state.give_back(&statement(1)).unwrap();
        assert_eq!(
            state.slots[0].state,
            SlotState::Candidate { tries_left: TRIES },
            "never more than at first"
        );
        assert!(state.give_back(&statement(9)).is_err());
    }

    #[test]
    fn a_clock_that_steps_back_does_not_turn_back_time() {
        let time = |s| Timestamp::from_second(s).unwrap();
        let mut state = State::default();
        assert_eq!(state.now(time(50)), time(50));
        state.observe(time(100));
        state.observe(time(60));
        assert_eq!((state.now(time(0)), state.now(time(101))), (time(100), time(101)));
    }

    #[test]
    fn the_latest_three_stay() {
        let mut state = State::default();
        for n in 1..=6 {
            offer(&mut state, n).unwrap();
            state.confirm(&statement(n)).unwrap();
        }
        offer(&mut state, 7).unwrap();
        let kept: Vec<u64> = state.kept().map(|slot| slot.counter.get()).collect();
        assert_eq!(kept, [5, 6, 7]);
    }

    /// One thing that can happen to a car.
    #[derive(Clone, Debug)]
    pub(crate) enum Step {
        Offer(u64),
        Begin,
        GiveBack(u64),
        Confirm(u64),
        Refuse(u64),
        Observe(i64),
    }

    pub(crate) fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..40_u64).prop_map(Step::Offer),
            Just(Step::Begin),
            (1..40_u64).prop_map(Step::GiveBack),
            (1..40_u64).prop_map(Step::Confirm),
            (1..40_u64).prop_map(Step::Refuse),
            (0..1000_i64).prop_map(Step::Observe),
        ]
    }

    pub(crate) fn act(state: &mut State, step: &Step) {
        // What a step is refused for does not matter here, only that the state stays sound.
        let _ = match step {
            Step::Offer(n) => offer(state, *n).map_err(|_| ()),
            Step::Begin => state.begin().map(drop).ok_or(()),
            Step::GiveBack(n) => state.give_back(&statement(*n)).map_err(|_| ()),
            Step::Confirm(n) => state.confirm(&statement(*n)).map_err(|_| ()),
            Step::Refuse(n) => state.refuse(&statement(*n), "x").map_err(|_| ()),
            Step::Observe(s) => {
                state.observe(Timestamp::from_second(*s).unwrap());
                Ok(())
            }
        };
    }

    proptest! {
        #[test]
        fn whatever_happens_the_state_is_sound(steps in proptest::collection::vec(step(), 0..80)) {
            let mut state = State::default();
            for step in &steps {
                let before = state.clone();
                act(&mut state, step);
                prop_assert_eq!(state.check(), Ok(()));
                prop_assert!(state.floor >= before.floor && state.latest_known_time >= before.latest_known_time);
                prop_assert!(state.kept().count() <= KEPT);
                // Only an explicit refusal takes the confirmed release away.
                if before.confirmed().is_some() && !matches!(step, Step::Refuse(_)) {
                    prop_assert!(state.confirmed().is_some());
                }
                if let (Step::Begin, Some(slot)) = (step, state.clone().begin()) {
                    prop_assert!(state.floor.admits(slot.counter));
                }
            }
        }
    }
}
