//! SIGTERM, SIGINT and SIGHUP: one thread waits for them, and brakes.
//!
//! No handler runs anywhere: the signals are blocked in all threads and taken by `sigwait`, also
//! as process 1 of a container.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::watch::Shared;

/// How long the loop may take to end after the brake command is out.
const GRACE: Duration = Duration::from_secs(2);

/// The signals, blocked in the calling thread and those it starts from now on.
#[derive(Debug)]
pub(crate) struct Signals(SigSet);

/// Blocks them; call it before any other thread exists.
pub(crate) fn block() -> nix::Result<Signals> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(Signals(set))
}

impl Signals {
    /// Starts the thread that ends the drive on the first of them.
    pub(crate) fn listen(self, shared: Arc<Shared>) -> std::io::Result<()> {
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if self.0.wait().is_err() {
                return;
            }
            shared.end();
            // The loop ends by itself now, and with it the process. If it does not, the car
            // stands already, and whoever sent the signal should not have to send another.
            std::thread::sleep(GRACE);
            std::process::exit(1);
        })?;
        Ok(())
    }
}
