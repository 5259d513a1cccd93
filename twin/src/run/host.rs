//! Who is let in: one client to be judged, or several to drive freely.

use super::address::{Address, Listener, Stream};
use super::files::Outputs;
use super::peer::Peer;
use super::report::LapReport;
use super::say;
use super::session::{self, Plan};
use anyhow::Context as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections that may come and go without a word before a judged run gives up: port probes.
const MAX_SILENT: usize = 1_000;

/// Which way the connection is made.
#[derive(Clone, Debug)]
pub enum Way {
    /// Clients come to us.
    Listen(Address),
    /// We go to a client that listens.
    Dial(Address),
}

/// Where connections come from.
enum Door {
    Listener(Listener),
    Dial(Address),
}

impl Door {
    fn open(way: &Way) -> anyhow::Result<Self> {
        match way {
            Way::Dial(address) => Ok(Self::Dial(address.clone())),
            Way::Listen(address) => {
                let listener =
                    address.listen().with_context(|| format!("cannot listen on {address}"))?;
                let told = serde_json::json!({"listening": listener.address().to_string()});
                let mut out = std::io::stdout().lock();
                writeln!(out, "{told}")
                    .and_then(|()| out.flush())
                    .context("cannot write to stdout")?;
                Ok(Self::Listener(listener))
            }
        }
    }

    fn wait(&self, deadline: Instant) -> anyhow::Result<Option<Stream>> {
        match self {
            Self::Listener(listener) => Ok(listener.accept(Some(deadline))?),
            Self::Dial(address) => {
                let stream = address.dial(deadline);
                stream.map(Some).with_context(|| format!("nobody answers at {address}"))
            }
        }
    }
}

/// Judges one client; true when it passed. Connections that never say a word do not count.
pub fn judge(
    way: &Way,
    plan: &Plan,
    patience: Duration,
    outputs: &Outputs,
) -> anyhow::Result<bool> {
    let door = Door::open(way)?;
    let deadline = Instant::now() + patience;
    for _ in 0..MAX_SILENT {
        let stream = door.wait(deadline)?.with_context(|| {
            format!(
                "no client came within {} s; start it sooner or raise --connect-timeout",
                patience.as_secs_f64()
            )
        })?;
        let mut peer = Peer::new(stream)?;
        let began = Instant::now();
        let ended = session::serve(&mut peer, plan)?;
        if !ended.spoke {
            continue;
        }
        let drive = ended.drive.context("the client left before it loaded a scene")?;
        let report =
            LapReport::of(&drive, ended.reason, plan.lock_step, began.elapsed().as_secs_f64());
        outputs.write(&drive, &report)?;
        say(report.line());
        return Ok(report.passed());
    }
    anyhow::bail!("{MAX_SILENT} connections came and none of them spoke")
}

/// Lets clients drive freely: one when dialling, up to `most` at a time when listening.
pub fn host(way: &Way, plan: &Plan, patience: Duration, most: usize) -> anyhow::Result<()> {
    let listener = match Door::open(way)? {
        Door::Listener(listener) => listener,
        door @ Door::Dial(_) => {
            let Some(stream) = door.wait(Instant::now() + patience)? else { return Ok(()) };
            session::serve(&mut Peer::new(stream)?, plan)?;
            return Ok(());
        }
    };
    let cars = Arc::new(AtomicUsize::new(0));
    while let Some(stream) = listener.accept(None)? {
        if cars.load(Ordering::Acquire) >= most {
            say(format_args!("a client was turned away: {most} are driving (--max-clients)"));
            continue;
        }
        let guest = Guest::arrive(&cars);
        let plan = plan.clone();
        let spawned = std::thread::Builder::new().name("car".into()).spawn(move || {
            let _guest = guest;
            let served = Peer::new(stream)
                .map_err(anyhow::Error::from)
                .and_then(|mut peer| session::serve(&mut peer, &plan).map_err(anyhow::Error::from));
            match served {
                Ok(_) => say("a client left"),
                Err(error) => say(format_args!("a client was dropped: {error:#}")),
            }
        });
        spawned.context("cannot start a thread for a client")?;
    }
    Ok(())
}

/// Counts a client for as long as its thread lives, however that ends.
struct Guest(Arc<AtomicUsize>);

impl Guest {
    fn arrive(cars: &Arc<AtomicUsize>) -> Self {
        cars.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(cars))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
