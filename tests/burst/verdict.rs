//! Whether what is there is what was pushed, once each and in order.

use std::collections::{BTreeMap, BTreeSet};

/// A run, and what is in the registry of it.
#[derive(Clone, Debug)]
pub(super) struct SeenRun {
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) state: String,
    pub(super) counter: u64,
    /// Digest of its image.
    pub(super) index: String,
    /// Digests of the image's platforms.
    pub(super) platforms: Vec<String>,
    /// Steps that a kill met.
    pub(super) interrupted: Vec<String>,
    /// Tag and counter of each release statement that refers to the image.
    pub(super) statements: Vec<(String, u64)>,
    /// What refers to image and platforms, as `index TYPE` and `platform TYPE`, and how often.
    pub(super) documents: BTreeMap<String, usize>,
    /// The counter that `pitlane-verifier check` admitted the tag with, or what it said.
    pub(super) admitted: Result<u64, String>,
}

/// A promotion in the GitOps repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promotion {
    pub(super) counter: u64,
    pub(super) index: String,
    pub(super) run: String,
}

/// Everything that is there in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) runs: Vec<SeenRun>,
    /// Tags of the registry's repository.
    pub(super) tags: BTreeSet<String>,
    /// Oldest first.
    pub(super) promotions: Vec<Promotion>,
    /// Commits of the GitOps branch, the first one aside.
    pub(super) commits: usize,
    /// The digest that the GitOps file wants.
    pub(super) wanted: String,
    /// The tags of GitHub's releases, one for each.
    pub(super) notes: Vec<String>,
}

impl Seen {
    /// How often kills met each step.
    pub(super) fn interrupted(&self) -> BTreeMap<&str, usize> {
        let mut met = BTreeMap::new();
        for step in self.runs.iter().flat_map(|run| &run.interrupted) {
            *met.entry(step.as_str()).or_default() += 1;
        }
        met
    }
}

/// What came of the tags.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Tags that were released as they must be.
    pub(super) released: usize,
    /// What is there once too often: runs, counters, documents, promotions.
    pub(super) duplicates: usize,
    pub(super) differences: Vec<String>,
}

/// What refers to every release: each of these, once.
const DOCUMENTS: [&str; 7] = [
    "index https://model_signing/signature/v1.0",
    "index https://pitlane.dev/release/v1",
    "index https://sigstore.dev/cosign/sign/v1",
    "platform https://cyclonedx.org/bom",
    "platform https://pitlane.dev/model/v1",
    "platform https://sigstore.dev/cosign/sign/v1",
    "platform https://slsa.dev/provenance/v1",
];

/// Compares what is there with the tags that were pushed.
pub(super) fn judge(pushed: &[String], seen: &Seen) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_tag: BTreeMap<&str, Vec<&SeenRun>> = BTreeMap::new();
    for run in &seen.runs {
        by_tag.entry(&run.tag).or_default().push(run);
    }
    for tag in pushed {
        let runs = by_tag.remove(tag.as_str()).unwrap_or_default();
        let [run] = runs[..] else {
            verdict.times(&format!("{tag}: runs"), runs.len());
            continue;
        };
        let before = verdict.differences.len();
        verdict.run(run, seen);
        verdict.released += usize::from(verdict.differences.len() == before);
    }
    for (tag, runs) in by_tag {
        verdict.differences.push(format!("{} run(s) of {tag}, which nobody pushed", runs.len()));
    }
    verdict.order(pushed.len(), seen);
    verdict.registry(seen);
    verdict
}

impl Verdict {
    /// Something that must be there once.
    fn times(&mut self, what: &str, found: usize) {
        if found != 1 {
            self.duplicates += found.saturating_sub(1);
            self.differences.push(format!("{what}: {found} instead of 1"));
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, want: &T) {
        if found != want {
            self.differences.push(format!("{what}: {found:?} instead of {want:?}"));
        }
    }

    fn run(&mut self, run: &SeenRun, seen: &Seen) {
        let SeenRun { tag, counter, .. } = run;
        self.same(&format!("{tag}: state"), &run.state.as_str(), &"done");
        self.times(&format!("{tag}: release statements"), run.statements.len());
        for said in &run.statements {
            self.same(&format!("{tag}: statement"), said, &(tag.clone(), *counter));
        }
        for what in DOCUMENTS {
            let found = run.documents.get(what).copied().unwrap_or(0);
            let places = if what.starts_with("index") { 1 } else { run.platforms.len() };
            if found != places {
                self.duplicates += found.saturating_sub(places);
                self.differences.push(format!("{tag}: {what}: {found} instead of {places}"));
            }
        }
        for what in run.documents.keys().filter(|what| !DOCUMENTS.contains(&what.as_str())) {
            self.differences.push(format!("{tag}: {what} is not expected"));
        }
        self.same(&format!("{tag}: platforms"), &run.platforms.len(), &2);
        let notes = seen.notes.iter().filter(|of| *of == tag).count();
        self.times(&format!("{tag}: releases on GitHub"), notes);
        self.same(&format!("{tag}: admitted"), &run.admitted, &Ok(*counter));
        let of_image = |one: &&Promotion| one.index == run.index || one.run == run.id;
        let promotions: Vec<&Promotion> = seen.promotions.iter().filter(of_image).collect();
        self.times(&format!("{tag}: promotions"), promotions.len());
        let want = Promotion { counter: *counter, index: run.index.clone(), run: run.id.clone() };
        for one in promotions {
            self.same(&format!("{tag}: promotion"), one, &want);
        }
    }

    /// Counters are 1, 2, 3, … once each, and promotions come in their order.
    fn order(&mut self, pushed: usize, seen: &Seen) {
        let all: Vec<u64> = (1..).take(pushed).collect();
        let mut counters: Vec<u64> = seen.runs.iter().map(|run| run.counter).collect();
        counters.sort_unstable();
        let distinct: BTreeSet<u64> = counters.iter().copied().collect();
        self.duplicates += counters.len() - distinct.len();
        self.same("counters", &counters, &all);
        let promoted: Vec<u64> = seen.promotions.iter().map(|one| one.counter).collect();
        self.same("promotions in order", &promoted, &all);
        self.same("GitOps commits", &seen.commits, &pushed);
        let last = seen.runs.iter().max_by_key(|run| run.counter).map(|run| run.index.as_str());
        self.same("GitOps file", &Some(seen.wanted.as_str()), &last);
    }

    /// The registry has the tags of these releases, and no others.
    fn registry(&mut self, seen: &Seen) {
        let mut want = BTreeSet::new();
        for run in &seen.runs {
            want.insert(run.tag.clone());
            let of = |digest: &String| digest.replace("sha256:", "_release-");
            want.extend(run.platforms.iter().chain([&run.index]).map(of));
        }
        let counter = |tag: &str| {
            tag.strip_prefix("_counter-")?.rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok())
        };
        let (counters, others): (Vec<&String>, Vec<&String>) =
            seen.tags.iter().partition(|tag| counter(tag).is_some());
        let mut numbers: Vec<u64> = counters.into_iter().filter_map(|tag| counter(tag)).collect();
        numbers.sort_unstable();
        let mut runs: Vec<u64> = seen.runs.iter().map(|run| run.counter).collect();
        runs.sort_unstable();
        self.same("counters in the registry", &numbers, &runs);
        let others: BTreeSet<String> = others.into_iter().cloned().collect();
        for tag in others.symmetric_difference(&want) {
            let there = if want.contains(tag) { "is missing" } else { "should not be there" };
            self.differences.push(format!("tag {tag} {there} in the registry"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(what: char, number: u64) -> String {
        format!("sha256:{what}{number}")
    }

    fn good_run(number: u64) -> SeenRun {
        let tag = format!("v1.0.{number}");
        let document =
            |what: &str| (what.to_owned(), if what.starts_with("index") { 1 } else { 2 });
        SeenRun {
            id: format!("r{number}"),
            tag: tag.clone(),
            state: "done".to_owned(),
            counter: number,
            index: digest('a', number),
            platforms: vec![digest('b', number), digest('c', number)],
            interrupted: vec![],
            statements: vec![(tag, number)],
            documents: DOCUMENTS.map(document).into(),
            admitted: Ok(number),
        }
    }

    fn good() -> (Vec<String>, Seen) {
        let runs: Vec<SeenRun> = (1..=3).map(good_run).collect();
        let promotion = |run: &SeenRun| Promotion {
            counter: run.counter,
            index: run.index.clone(),
            run: run.id.clone(),
        };
        let mut tags = BTreeSet::new();
        for n in 1..=3 {
            tags.extend([format!("v1.0.{n}"), format!("_counter-0a-{n}")]);
            tags.extend(["a", "b", "c"].map(|what| format!("_release-{what}{n}")));
        }
        let seen = Seen {
            promotions: runs.iter().map(promotion).collect(),
            tags,
            commits: 3,
            wanted: digest('a', 3),
            notes: runs.iter().map(|run| run.tag.clone()).collect(),
            runs,
        };
        ((1..=3).map(|n| format!("v1.0.{n}")).collect(), seen)
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (pushed, seen) = good();
        let verdict = judge(&pushed, &seen);
        assert!(verdict.differences.is_empty(), "{verdict:?}");
        assert_eq!((verdict.released, verdict.duplicates), (3, 0));
        type Edit = fn(&mut Seen);
        // What was changed, and the released and duplicated that are counted then.
        let edits: [(&str, Edit, usize, usize); 17] = [
            ("no run", |seen| drop(seen.runs.remove(0)), 2, 0),
            (
                "two runs",
                |seen| seen.runs.push(SeenRun { counter: 4, ..seen.runs[0].clone() }),
                2,
                1,
            ),
            ("a stranger's", |seen| seen.runs[0].tag = "v9".to_owned(), 2, 0),
            ("not done", |seen| seen.runs[1].state = "running".to_owned(), 2, 0),
            ("a counter twice", |seen| seen.runs[1].counter = 1, 2, 1),
            (
                "two statements",
                |seen| {
                    let statements = &mut seen.runs[0].statements;
                    statements.push(statements[0].clone());
                },
                2,
                1,
            ),
            ("another's statement", |seen| seen.runs[0].statements[0].1 = 2, 2, 0),
            ("no statement", |seen| seen.runs[0].statements.clear(), 2, 0),
            (
                "sealed twice",
                |seen| {
                    *seen.runs[2].documents.get_mut(DOCUMENTS[6]).unwrap() += 1;
                },
                2,
                1,
            ),
            (
                "something else",
                |seen| {
                    seen.runs[2].documents.insert("index x".to_owned(), 1);
                },
                2,
                0,
            ),
            ("refused", |seen| seen.runs[2].admitted = Err("refused".to_owned()), 2, 0),
            (
                "promoted twice",
                |seen| {
                    let last = seen.promotions[2].clone();
                    seen.promotions.push(last);
                    seen.commits += 1;
                },
                2,
                1,
            ),
            ("told twice", |seen| seen.notes.push("v1.0.2".to_owned()), 2, 1),
            ("never promoted", |seen| drop(seen.promotions.pop()), 2, 0),
            ("out of order", |seen| seen.promotions.swap(0, 1), 3, 0),
            ("a tag too many", |seen| seen.tags.extend(["v7".to_owned()]), 3, 0),
            ("an old wish", |seen| seen.wanted = digest('a', 2), 3, 0),
        ];
        for (what, edit, released, duplicates) in edits {
            let (pushed, mut seen) = good();
            edit(&mut seen);
            let verdict = judge(&pushed, &seen);
            assert!(!verdict.differences.is_empty(), "{what}");
            let found = (verdict.released, verdict.duplicates);
            assert_eq!(found, (released, duplicates), "{what}: {verdict:?}");
        }
    }
}
