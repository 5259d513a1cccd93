//! Whatever the bytes: an answer, never a panic, and memory in proportion to the file.

use proptest::prelude::*;

use super::build::{bytes, card, good};
use crate::model::{Contract, inspect};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(inspect(&bytes, &card(), &Contract::default()).is_err());
    }

    /// Changed, removed, and doubled bytes reach deeper than noise: most of the file still parses.
    #[test]
    fn mutated_models_are_answered(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut file = bytes(&good());
        for (at, byte, what) in edits {
            let at = at.index(file.len());
            match what {
                0 => file[at] = byte,
                1 => drop(file.remove(at)),
                _ => file.insert(at, byte),
            }
        }
        let contract = Contract::default();
        if let Ok(facts) = inspect(&file, &card(), &contract) {
            prop_assert!(facts.operators.keys().all(|name| contract.operators.contains(name)));
            prop_assert!(facts.parameters <= contract.max_elements);
        }
    }

    #[test]
    fn every_cut_is_refused(at in any::<prop::sample::Index>()) {
        let file = bytes(&good());
        prop_assert!(inspect(&file[..at.index(file.len())], &card(), &Contract::default()).is_err());
    }
}
