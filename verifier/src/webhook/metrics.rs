//! Counters in Prometheus' text format. Names and labels are fixed, so their number is bounded.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::cache::How;

/// Upper ends of the histogram of answers (seconds).
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 10.0];

/// Which hook was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// `/validate`.
    Validate,
    /// `/mutate`.
    Mutate,
}

impl Hook {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Hook and outcome (a code, `allowed`, `invalid`) → answers.
    answers: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Answers by the bucket they fall in; the last is for all that took longer.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    answer_micros: AtomicU64,
    cache: [AtomicU64; 3],
    judged: AtomicU64,
    judged_micros: AtomicU64,
    reloads_failed: AtomicU64,
}

/// What is true at the moment of asking.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// Verdicts kept.
    pub kept: usize,
    /// Generation of the policies in use.
    pub generation: u64,
    /// Number of policies in use.
    pub policies: usize,
    /// Whether the policy files are the set in use.
    pub policies_current: bool,
    /// Whether the certificate's files are the pair in use.
    pub certificate_current: bool,
    /// When the certificate ends (seconds since 1970).
    pub certificate_ends: i64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Metrics {
    /// An answer was given.
    pub fn answered(&self, hook: Hook, outcome: &'static str, took: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((hook.name(), outcome)).or_default() += 1;
        drop(answers);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.answer_micros.fetch_add(micros(took), Relaxed);
    }

    /// The cache was asked.
    pub fn asked(&self, how: How) {
        self.cache[how as usize].fetch_add(1, Relaxed);
    }

    /// An image was judged.
    pub fn judged(&self, took: Duration) {
        self.judged.fetch_add(1, Relaxed);
        self.judged_micros.fetch_add(micros(took), Relaxed);
    }

    /// Policies or certificate changed into something that cannot be used.
    pub fn reload_failed(&self) {
        self.reloads_failed.fetch_add(1, Relaxed);
    }

    /// The page.
    pub fn page(&self, gauges: Gauges) -> String {
        let mut page = String::new();
        let head = |name: &str, kind: &str, help: &str| {
            format!(
                "# HELP pitlane_admission_{name} {help}\n# TYPE pitlane_admission_{name} {kind}\n"
            )
        };
        page += &head("answers_total", "counter", "Answers by hook and outcome.");
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for ((hook, outcome), count) in &*answers {
            let labels = format!("hook=\"{hook}\",outcome=\"{outcome}\"");
            let _ = writeln!(page, "pitlane_admission_answers_total{{{labels}}} {count}");
        }
        drop(answers);
        page += &head("answer_seconds", "histogram", "Time to an answer.");
        let mut sum = 0;
        for (number, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Relaxed);
            let end = BUCKETS.get(number).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(page, "pitlane_admission_answer_seconds_bucket{{le=\"{end}\"}} {sum}");
        }
        let seconds = Duration::from_micros(self.answer_micros.load(Relaxed)).as_secs_f64();
        let _ = writeln!(page, "pitlane_admission_answer_seconds_sum {seconds}");
        let _ = writeln!(page, "pitlane_admission_answer_seconds_count {sum}");
        page += &head("cache_total", "counter", "Lookups of verdicts.");
        for (how, name) in [(How::Hit, "hit"), (How::Joined, "joined"), (How::Made, "made")] {
            let count = self.cache[how as usize].load(Relaxed);
            let _ = writeln!(page, "pitlane_admission_cache_total{{how=\"{name}\"}} {count}");
        }
        let judged = Duration::from_micros(self.judged_micros.load(Relaxed)).as_secs_f64();
        let truth = |yes: bool| f64::from(u8::from(yes));
        #[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^52")]
        let numbers = [
            ("judged_total", "counter", "Images judged.", self.judged.load(Relaxed) as f64),
            ("judged_seconds_total", "counter", "Time spent on that.", judged),
            (
                "reloads_failed_total",
                "counter",
                "Changes of policies or certificate that could not be used.",
                self.reloads_failed.load(Relaxed) as f64,
            ),
            ("cache_entries", "gauge", "Verdicts kept.", gauges.kept as f64),
            ("policy_generation", "gauge", "Rises with the policies.", gauges.generation as f64),
            ("policies", "gauge", "Policies in use.", gauges.policies as f64),
            (
                "policies_current",
                "gauge",
                "0 while the policy files cannot be used and older ones are.",
                truth(gauges.policies_current),
            ),
            (
                "certificate_current",
                "gauge",
                "0 while the certificate's files cannot be used and older ones are.",
                truth(gauges.certificate_current),
            ),
            (
                "certificate_end_timestamp_seconds",
                "gauge",
                "When the certificate in use ends.",
                gauges.certificate_ends as f64,
            ),
        ];
        for (name, kind, help, value) in numbers {
            page += &head(name, kind, help);
            let _ = writeln!(page, "pitlane_admission_{name} {value}");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_was_counted() {
        let metrics = Metrics::default();
        metrics.answered(Hook::Validate, "allowed", Duration::from_micros(500));
        metrics.answered(Hook::Validate, "unsigned", Duration::from_millis(20));
        metrics.answered(Hook::Mutate, "allowed", Duration::from_mins(1));
        metrics.asked(How::Hit);
        metrics.asked(How::Hit);
        metrics.judged(Duration::from_secs(2));
        let page = metrics.page(Gauges {
            kept: 7,
            generation: 3,
            policies: 2,
            policies_current: false,
            certificate_current: true,
            certificate_ends: 1_800_000_000,
        });
        for want in [
            "pitlane_admission_answers_total{hook=\"validate\",outcome=\"unsigned\"} 1\n",
            "pitlane_admission_answer_seconds_bucket{le=\"0.001\"} 1\n",
            "pitlane_admission_answer_seconds_bucket{le=\"0.05\"} 2\n",
            "pitlane_admission_answer_seconds_bucket{le=\"+Inf\"} 3\n",
            "pitlane_admission_answer_seconds_count 3\n",
            "pitlane_admission_cache_total{how=\"hit\"} 2\n",
            "pitlane_admission_cache_total{how=\"made\"} 0\n",
            "pitlane_admission_judged_seconds_total 2\n",
            "pitlane_admission_cache_entries 7\n",
            "pitlane_admission_policies_current 0\n",
            "pitlane_admission_certificate_end_timestamp_seconds 1800000000\n",
        ] {
            assert!(page.contains(want), "{want}\n{page}");
        }
        // Every sample has its type, once.
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = |name: &str| page.matches(&format!("# TYPE {name} ")).count() == 1;
            assert!(known(name) || base.is_some_and(known), "{line}");
        }
    }
}
