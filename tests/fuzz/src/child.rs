//! One target in a process of its own, within limits that the kernel keeps.
//!
//! Every input is written to a file before it is tried, so that whatever ends the process (a
//! panic, an allocation that is too large, a stack that is too deep, a hang) leaves its cause
//! behind. The parent tells these apart by how the process ended.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::resource::{Resource, setrlimit};

use crate::{Reached, Target, mutate::mutate, seeds};

/// Most memory of the process: all parsers have bounds far below (bytes). Counted is what can be
/// written to, so not the program itself and not what is only reserved.
pub const MEMORY: u64 = 512 << 20;
/// Largest file the process may write (bytes).
const FILE: u64 = 256 << 20;
/// The stack that threads of our programs have (bytes).
const STACK: usize = 2 << 20;
/// Longest one input may take: the slowest take a tenth of a second, also on a busy machine.
pub const HANG: Duration = Duration::from_secs(20);
/// Most inputs kept beside the seeds.
const KEPT: usize = 600;

/// What was done, for people.
#[derive(Debug, Default)]
struct Tally {
    seeds: usize,
    accepted: usize,
    inputs: u64,
    marks: HashSet<Reached>,
}

impl std::hash::Hash for Reached {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.mark.hash(state);
    }
}

/// Limits this process: memory, files, and no dump when it ends badly.
fn limit() -> anyhow::Result<()> {
    for (what, most) in [
        (Resource::RLIMIT_DATA, MEMORY),
        (Resource::RLIMIT_FSIZE, FILE),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(what, most, most).with_context(|| format!("limiting {what:?}"))?;
    }
    Ok(())
}

/// Tries seeds and then mutations of them until the time is over; `current` takes each input
/// first. Prints a line of what was done.
pub fn fuzz(target: &Target, current: &Path, time: Duration, seed: u64) -> anyhow::Result<()> {
    let corpus = seeds::of(target);
    anyhow::ensure!(!corpus.is_empty(), "{}: no seed", target.name);
    let name = target.name;
    let tally =
        tried(target, current, move |target, attempt| work(&target, corpus, time, seed, attempt))?;
    writeln!(
        io::stdout(),
        "{name}: {} inputs, {} ways through, {} of {} seeds accepted",
        tally.inputs,
        tally.marks.len(),
        tally.accepted,
        tally.seeds
    )?;
    Ok(())
}

/// Tries one input.
pub fn repeat(target: &Target, current: &Path, input: Vec<u8>) -> anyhow::Result<()> {
    let reached = tried(target, current, move |_, attempt| Ok(attempt(&input)?))?;
    writeln!(io::stdout(), "{}: {reached:?}", target.name)?;
    Ok(())
}

type Attempt<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<Reached>;

/// Runs the work in a thread with an ordinary stack, watched by this one.
fn tried<T: Send + 'static>(
    target: &Target,
    current: &Path,
    work: impl FnOnce(Target, Attempt<'_>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let file = File::create(current).with_context(|| current.display().to_string())?;
    limit()?;
    let (target, count) = (*target, Arc::new(AtomicU64::new(0)));
    let counting = Arc::clone(&count);
    let worker = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut attempt = |input: &[u8]| {
            counting.fetch_add(1, Ordering::Relaxed);
            // Length first: the file is not cut to size each time.
            let head = (input.len() as u64).to_le_bytes();
            file.write_all_at(&[&head[..], input].concat(), 0)?;
            Ok(target.attempt(input))
        };
        work(target, &mut attempt)
    })?;
    let (mut last, mut since) = (0, Instant::now());
    while !worker.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
        let now = count.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > HANG {
            let _ = writeln!(io::stderr(), "an input takes longer than {HANG:?}");
            std::process::abort();
        }
    }
    match worker.join() {
        Ok(done) => done,
        Err(_) => anyhow::bail!("the target panicked"),
    }
}

fn work(
    target: &Target,
    mut corpus: Vec<Vec<u8>>,
    time: Duration,
    seed: u64,
    attempt: Attempt<'_>,
) -> anyhow::Result<Tally> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tally = Tally { seeds: corpus.len(), ..Tally::default() };
    for input in &corpus {
        let reached = attempt(input)?;
        tally.accepted += usize::from(reached.accepted);
        tally.marks.insert(reached);
    }
    let most = corpus.len() + KEPT;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let input = mutate(&mut rng, &corpus, target.words, target.max);
        tally.inputs += 1;
        // What got somewhere new is worth more changes.
        if tally.marks.insert(attempt(&input)?) && corpus.len() < most {
            corpus.push(input);
        }
    }
    Ok(tally)
}
