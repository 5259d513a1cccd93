//! Processor time, for reports: what a frame costs beyond waiting.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Processor time of the calling thread so far; zero where the kernel does not say.
pub(crate) fn of_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Processor time of the whole process so far.
pub(crate) fn of_process() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
