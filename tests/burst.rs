//! Bursts of tags through all that can go wrong on the way: deliveries that come twice, late, in
//! another order, forged or not at all, and services that are killed. In the end each tag is
//! released once: one run, one counter, one statement, one promotion in its turn.
//!
//! - `storm`: pushes, and what becomes of their deliveries
//! - `services`: the programs, and their ends
//! - `seen`: what is there in the end, looked at from outside
//! - `verdict`: whether that is what it must be; pure
//! - `chance`: a seed makes the same choices again
//!
//! `make burst` runs the large one and writes `target/burst/report.json` (docs/burst.md).

mod chance;
mod seen;
mod services;
mod storm;
mod verdict;

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::common::{repository, skip};
use chance::Chance;
use services::{SOURCE, Services};
use storm::Storm;
use verdict::Verdict;

/// Most tags that are pushed at once.
const MOST_AT_ONCE: u64 = 10;
/// How often the runs are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest that GitHub may be told of the last release after its end.
const TOLD_WITHIN: Duration = Duration::from_mins(2);
/// How often is said how far it is.
const SAY: Duration = Duration::from_secs(5);
/// A killed service is looked for in its next second.
const KILL_WITHIN: u64 = 1200;
/// It stays away for up to this long (milliseconds).
const AWAY: u64 = 900;

/// How much is done, and how long it may take.
struct Plan {
    tags: usize,
    kills: usize,
    /// Services; more than one share a `PostgreSQL` server.
    replicas: usize,
    seed: u64,
}

impl Plan {
    /// Tags that may wait for their release before no more are pushed: kills meet pushes, too.
    fn backlog(&self) -> usize {
        (self.tags / 8).clamp(3, 24)
    }

    /// Many times what an idle machine needs, and an end.
    fn limit(&self) -> Duration {
        // A lease of a killed replica has to end before others go on (30 s).
        let kill = if self.replicas > 1 { 45 } else { 8 };
        let seconds = 60 + 5 * self.tags + kill * self.kills;
        Duration::from_secs(u64::try_from(seconds).unwrap())
    }
}

/// What is pushed and killed until all of it is released, or the time is over.
struct Course {
    storm: Storm,
    services: Services,
    chance: Chance,
    /// Released tags at which the next kills come, ascending.
    kills: Vec<usize>,
    killed: usize,
    began: Instant,
}

impl Course {
    fn start(plan: &Plan) -> Result<Self, String> {
        let mut chance = Chance::new(plan.seed);
        let services = Services::start(plan.replicas)?;
        let storm = Storm::new(&services, Chance::new(chance.draw()));
        // One in each stretch of equal length, somewhere in it.
        let stretch = |kill: usize| (kill * plan.tags / plan.kills.max(1)) as u64;
        let mut at = |kill| stretch(kill) + chance.below(stretch(kill + 1) - stretch(kill));
        let kills = (0..plan.kills).map(|kill| usize::try_from(at(kill)).unwrap()).collect();
        Ok(Self { storm, services, chance, kills, killed: 0, began: Instant::now() })
    }

    /// Goes through it; why it did not come to its end, if it did not.
    fn run(&mut self, plan: &Plan) -> Option<String> {
        let mut said = Instant::now();
        loop {
            let runs = self.services.runs();
            let in_state = |name: &str| runs.iter().filter(|run| run["state"] == name).count();
            let released = in_state("done");
            if let Some(failed) = runs.iter().find(|run| run["state"] == "failed") {
                return Some(format!("a run failed: {failed:#}"));
            }
            if released >= plan.tags && self.killed == self.kills.len() {
                return None;
            }
            if self.began.elapsed() > plan.limit() {
                return Some(format!("{released} released within {:?}", plan.limit()));
            }
            if said.elapsed() > SAY {
                said = Instant::now();
                self.say(plan, released);
            }
            self.storm.again();
            let pushed = self.storm.pushed.len();
            if pushed < plan.tags && pushed - released.min(pushed) < plan.backlog() {
                let most = MOST_AT_ONCE.min((plan.tags - pushed) as u64);
                self.storm.burst(1 + self.chance.below(most));
            }
            if self.kills.get(self.killed).is_some_and(|at| *at <= released) {
                self.kill();
            }
            std::thread::sleep(LOOK);
        }
    }

    fn kill(&mut self) {
        std::thread::sleep(self.chance.up_to(KILL_WITHIN));
        let victim = self.chance.below(self.services.count() as u64);
        let victim = usize::try_from(victim).unwrap();
        self.services.kill(victim);
        self.killed += 1;
        std::thread::sleep(self.chance.up_to(AWAY));
        self.services.begin(victim);
    }

    fn say(&self, plan: &Plan, released: usize) {
        eprintln!(
            "{:6.1} s  {} of {} tags pushed, {released} released, {} of {} kills",
            self.began.elapsed().as_secs_f64(),
            self.storm.pushed.len(),
            plan.tags,
            self.killed,
            plan.kills
        );
    }
}

/// Goes through a plan; what came of it, and the report.
fn go(plan: &Plan) -> Result<(Verdict, serde_json::Value), String> {
    eprintln!(
        "burst: {} tags, {} kills, {} service(s), seed {}",
        plan.tags, plan.kills, plan.replicas, plan.seed
    );
    let mut course = Course::start(plan)?;
    let broken = course.run(plan);
    course.say(plan, course.services.runs().iter().filter(|run| run["state"] == "done").count());
    course.storm.settle();
    if broken.is_none() {
        // Everything once more, after the end, and a start after that.
        course.storm.tell_all(&course.services);
        course.services.kill(0);
        course.services.begin(0);
        // What GitHub is told comes after a release.
        let told = || course.services.lab.releases(SOURCE).len() >= plan.tags;
        let end = Instant::now() + TOLD_WITHIN;
        while !told() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
    }
    let (services, told) = (&course.services, &mut course.storm.told);
    told.found = services.lines(&["tag found", "repeat=false"]);
    told.asked_for = services.lines(&["asked for it again"]);
    eprintln!("burst: looking at runs, registry and GitOps repository …");
    let seen = seen::look(&course.services);
    let mut verdict = verdict::judge(&course.storm.names(), &seen);
    verdict.differences.extend(broken);
    let report = json!({
        "tags": plan.tags, "released": verdict.released, "duplicates": verdict.duplicates,
        "kills": course.killed, "seconds": course.began.elapsed().as_secs(),
        "seed": plan.seed, "replicas": plan.replicas,
        "deliveries": course.storm.told, "interrupted": seen.interrupted(),
        "differences": verdict.differences,
    });
    course.services.keep_logs();
    Ok((verdict, report))
}

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: want a number"))
}

fn any_seed() -> u64 {
    u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) + 1
}

#[test]
fn a_small_burst_is_released_once() {
    let plan = Plan { tags: 12, kills: 3, replicas: 1, seed: any_seed() };
    match go(&plan) {
        Err(why) => skip(&why),
        Ok((verdict, report)) => {
            assert!(verdict.differences.is_empty(), "{report:#}");
            assert_eq!((verdict.released, verdict.duplicates), (12, 0), "{report:#}");
        }
    }
}

/// `make burst`: as large as `BURST_TAGS`, `BURST_KILLS` and `REPLICAS` say; `SEED` repeats one.
#[test]
#[ignore = "minutes: make burst"]
fn as_large_as_asked() {
    let size = |name: &str, default| usize::try_from(number(name, default)).unwrap();
    let seed = Some(number("SEED", 0)).filter(|seed| *seed != 0);
    let plan = Plan {
        tags: size("BURST_TAGS", 200),
        kills: size("BURST_KILLS", 20),
        replicas: size("REPLICAS", 1).max(1),
        seed: seed.unwrap_or_else(any_seed),
    };
    let (verdict, report) = go(&plan).unwrap_or_else(|why| panic!("{why}"));
    let dir = repository().join("target/burst");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("report.json"), format!("{report:#}\n")).unwrap();
    eprintln!("{report:#}");
    assert!(verdict.differences.is_empty(), "{}", verdict.differences.join("\n"));
}
