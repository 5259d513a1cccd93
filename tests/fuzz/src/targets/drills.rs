//! Targets that break on purpose: the tests show by them that breakage is seen.

use crate::{Reached, Target};

/// They are not listed; `find` knows them.
pub(super) const TARGETS: &[Target] = &[
    drill("drill-panic", panics),
    drill("drill-memory", allocates),
    drill("drill-stack", recurses),
    drill("drill-hang", hangs),
    drill("drill-fine", fine),
];

const fn drill(name: &'static str, run: fn(&[u8]) -> Reached) -> Target {
    let more = &["tests/fuzz/seeds/drill/*"];
    Target { name, run, more, words: &["now"], max: 100 }
}

/// Whether it shall break: seeds do not say so, a mutation of them soon does.
fn now(input: &[u8]) -> bool {
    input.windows(3).any(|word| word == b"now")
}

fn panics(input: &[u8]) -> Reached {
    assert!(!now(input), "a drill");
    fine(input)
}

fn allocates(input: &[u8]) -> Reached {
    if now(input) {
        let bytes = vec![1_u8; 1 << 30];
        return Reached::accepted(bytes.len());
    }
    fine(input)
}

fn recurses(input: &[u8]) -> Reached {
    fn deeper(n: u64) -> u64 {
        let block = std::hint::black_box([n; 64]);
        if block[3] == 0 { 0 } else { deeper(n.wrapping_add(1)).wrapping_add(block[5]) }
    }
    if now(input) {
        return Reached::accepted(deeper(1));
    }
    fine(input)
}

fn hangs(input: &[u8]) -> Reached {
    while now(input) {
        std::hint::spin_loop();
    }
    fine(input)
}

fn fine(input: &[u8]) -> Reached {
    if input.first() == Some(&b's') { Reached::accepted("") } else { Reached::refused("other") }
}
