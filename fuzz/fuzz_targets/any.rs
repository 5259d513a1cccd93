//! The target that `PITLANE_FUZZ_TARGET` names, driven by coverage.
//!
//! One program for all targets: they share everything that takes long to build.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pitlane_fuzz::{Target, targets};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("PITLANE_FUZZ_TARGET").expect("PITLANE_FUZZ_TARGET is set");
    targets::find(&name).expect("PITLANE_FUZZ_TARGET names a target")
});

fuzz_target!(|input: &[u8]| {
    if input.len() <= TARGET.max {
        let _ = TARGET.attempt(input);
    }
});
