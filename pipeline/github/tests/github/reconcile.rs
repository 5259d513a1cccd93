//! The decision what changed, against a slow but plain one.

use std::collections::{BTreeMap, BTreeSet};

use pitlane_github::{Change, KnownTag, ListedTag, reconcile};
use pitlane_release::{Commit, ReleaseTag};
use proptest::prelude::*;

type Known = BTreeMap<ReleaseTag, KnownTag>;

fn id(n: u8) -> Commit {
    format!("{n:040x}").parse().unwrap()
}

fn tags() -> impl Strategy<Value = ReleaseTag> {
    prop_oneof!["v[0-3]", "x[0-1]"].prop_map(|name| name.parse().unwrap())
}

fn known() -> impl Strategy<Value = Known> {
    let one = (0..3u8, proptest::option::of(10..13u8), any::<bool>(), proptest::option::of(0..3u8));
    let one = one.prop_map(|(commit, object, deleted, refused)| KnownTag {
        commit: id(commit),
        tag_object: object.map(id),
        deleted,
        refused: refused.map(id),
    });
    proptest::collection::btree_map(tags(), one, 0..6)
}

fn listed() -> impl Strategy<Value = Vec<ListedTag>> {
    let one = (tags(), 0..3u8, proptest::option::of(10..13u8), any::<bool>());
    let one = one.prop_map(|(tag, commit, object, peeled)| ListedTag {
        tag,
        held: object.map_or(id(commit), id),
        annotated: object.is_some(),
        commit: (object.is_none() || peeled).then(|| id(commit)),
    });
    proptest::collection::vec(one, 0..8)
}

fn wanted(tag: &ReleaseTag) -> bool {
    tag.as_str().starts_with('v')
}

/// What a person would say of one tag.
fn plain(known: &Known, listed: &[ListedTag], tag: &ReleaseTag, complete: bool) -> &'static str {
    let here: Vec<&ListedTag> = listed.iter().filter(|one| one.tag == *tag).collect();
    let held: BTreeSet<&Commit> = here.iter().map(|one| &one.held).collect();
    if !wanted(tag) {
        return "";
    }
    let was = known.get(tag);
    match (here.last(), was) {
        _ if held.len() > 1 => "unsettled",
        (None, Some(was)) if !was.deleted && complete => "deleted",
        (None, _) => "",
        (Some(one), Some(was)) if was.refused.as_ref() == Some(&one.held) => "",
        (Some(one), Some(was))
            if !was.deleted && was.tag_object.as_ref().unwrap_or(&was.commit) == &one.held =>
        {
            ""
        }
        (Some(one), _) if one.commit.is_none() => "open",
        (Some(_), None) => "new",
        (Some(one), Some(was)) if one.commit.as_ref() == Some(&was.commit) => "recreated",
        (Some(_), Some(_)) => "moved",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_says_what_a_person_would(known in known(), listed in listed(), complete: bool) {
        let decision = reconcile(&known, &listed, &wanted, complete);
        let mut said = BTreeMap::new();
        for change in &decision.changes {
            let word = match change {
                Change::New { .. } => "new",
                Change::Moved { .. } => "moved",
                Change::Recreated { .. } => "recreated",
                Change::Deleted { .. } => "deleted",
            };
            prop_assert_eq!(said.insert(change.tag().clone(), word), None, "a tag twice");
        }
        for (tags, word) in [(&decision.open, "open"), (&decision.unsettled, "unsettled")] {
            for tag in tags {
                prop_assert_eq!(said.insert(tag.clone(), word), None, "a tag twice");
            }
        }
        let all: BTreeSet<&ReleaseTag> =
            known.keys().chain(listed.iter().map(|one| &one.tag)).collect();
        for tag in all {
            let found = said.remove(tag).unwrap_or("");
            prop_assert_eq!(found, plain(&known, &listed, tag, complete), "{}", tag);
        }
        prop_assert!(said.is_empty());
    }

    #[test]
    fn what_was_taken_or_refused_is_not_told_again(
        known in known(), listed in listed(), complete: bool, refuse: bool,
    ) {
        let mut known = known;
        for change in reconcile(&known, &listed, &wanted, complete).changes {
            if refuse { change.refuse(&mut known) } else { change.take(&mut known) }
        }
        let again = reconcile(&known, &listed, &wanted, complete);
        prop_assert_eq!(again.changes, vec![]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(known in known(), listed in listed()) {
        let mut back = listed.clone();
        back.reverse();
        // One that is listed twice with the same contents may be peeled in one place alone.
        prop_assume!(listed.iter().all(|a| listed.iter().all(|b| a.held != b.held || a.commit == b.commit)));
        let one = reconcile(&known, &listed, &wanted, true);
        prop_assert_eq!(one, reconcile(&known, &back, &wanted, true));
    }
}
