//! All tags: what a look finds, what it costs, and what it must not believe.

use std::collections::BTreeMap;

use pitlane_github::{Change, KnownTag, Limit, Problem, TagWatch};
use pitlane_github_lab::{Fault, Rule, Signature};
use pitlane_release::ReleaseTag;

use crate::common::{Setup, is_for_tokens, tag};

type Known = BTreeMap<ReleaseTag, KnownTag>;

fn wanted(tag: &ReleaseTag) -> bool {
    tag.as_str().starts_with('v')
}

fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::New { tag, .. } => format!("new {tag}"),
        Change::Moved { tag, .. } => format!("moved {tag}"),
        Change::Recreated { tag, .. } => format!("recreated {tag}"),
        Change::Deleted { tag, .. } => format!("deleted {tag}"),
    };
    changes.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_deliveries_missed_is_found() {
    let setup = Setup::new();
    let (lab, first) = (&setup.lab, setup.commit.clone());
    let client = setup.client();
    let (mut known, mut watch) = (Known::new(), TagWatch::default());
    let mut look = async |known: &mut Known, refuse: bool| {
        let decision = client.look(&setup.repo, "v", &wanted, known, &mut watch).await.unwrap();
        assert!(decision.open.is_empty() && decision.unsettled.is_empty(), "{decision:?}");
        let told = words(&decision.changes);
        for change in decision.changes {
            if refuse { change.refuse(known) } else { change.take(known) }
        }
        told
    };
    assert_eq!(look(&mut known, false).await, ["new v1.0.0"]);
    // Nothing changed: nothing is told, and nothing is paid.
    lab.take_asked();
    assert_eq!(look(&mut known, false).await, [""; 0]);
    let asked = lab.take_asked();
    assert!(asked.iter().all(|one| one.status == 304 && !one.cost), "{asked:?}");

    // Four at once: GitHub tells nobody.
    lab.forget_lined_up();
    let object = lab.tag_object("octo/car", "v4", &first, Signature::None).unwrap();
    let four = [("v2", &first), ("v3", &first), ("v4", &object), ("x5", &first)];
    let four: Vec<_> = four.iter().map(|(name, id)| (*name, Some(id.as_str()))).collect();
    lab.push_tags("octo/car", &four).unwrap();
    assert_eq!(look(&mut known, false).await, ["new v2", "new v3", "new v4"]);
    assert_eq!(known[&tag("v4")].tag_object.as_ref().unwrap().as_str(), object);
    assert_eq!(known[&tag("v4")].commit.as_str(), first);

    // Moved by force, deleted, and made anew by another object of the same commit.
    let second = lab.commit("octo/car", &[("a", b"b")], "another").unwrap();
    lab.push_tags("octo/car", &[("v2", Some(&second)), ("v3", None), ("v4", None)]).unwrap();
    let again = lab.tag_object("octo/car", "v4", &first, Signature::None).unwrap();
    lab.push_tags("octo/car", &[("v4", Some(&again))]).unwrap();
    assert_eq!(look(&mut known, true).await, ["moved v2", "deleted v3", "recreated v4"]);
    assert_eq!(known[&tag("v2")].commit.as_str(), first, "the move was refused");
    assert_eq!(look(&mut known, true).await, [""; 0], "a refused move is told once");

    // A deleted tag comes back: at its commit, or elsewhere.
    lab.push_tags("octo/car", &[("v3", Some(&first)), ("v1.0.0", None)]).unwrap();
    assert_eq!(look(&mut known, true).await, ["deleted v1.0.0", "recreated v3"]);
    lab.push_tags("octo/car", &[("v1.0.0", Some(&second)), ("v2", Some(&first))]).unwrap();
    assert_eq!(look(&mut known, false).await, ["moved v1.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_pages_costs_nothing_the_second_time() {
    let setup = Setup::new();
    setup.lab.set_paged_refs(true);
    let client = setup.client();
    for n in (0..249).step_by(3) {
        let names: Vec<String> = (n..n + 3).map(|n| format!("v2.{n:03}")).collect();
        let tags: Vec<_> =
            names.iter().map(|n| (n.as_str(), Some(setup.commit.as_str()))).collect();
        setup.lab.push_tags("octo/car", &tags).unwrap();
    }
    let mut watch = TagWatch::default();
    let list = client.list_tags(&setup.repo, "v", &mut watch).await.unwrap();
    assert_eq!((list.tags.len(), list.complete, list.changed), (250, true, true));
    setup.lab.take_asked();
    let again = client.list_tags(&setup.repo, "v", &mut watch).await.unwrap();
    assert_eq!((&again.tags, again.changed), (&list.tags, false));
    let asked = setup.lab.take_asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|one| one.status == 304 && !one.cost), "{asked:?}");
    // A change on the last page is found, and only that page is paid for.
    setup.lab.push_tags("octo/car", &[("v3", Some(&setup.commit))]).unwrap();
    let more = client.list_tags(&setup.repo, "v", &mut watch).await.unwrap();
    assert_eq!((more.tags.len(), more.changed), (251, true));
    let paid = setup.lab.take_asked().iter().filter(|one| one.cost).count();
    assert_eq!(paid, 1);
    // Names that no image can have are counted, not listed.
    let odd = [("v4/x", Some(setup.commit.as_str())), ("v4.1", Some(&setup.commit))];
    setup.lab.push_tags("octo/car", &odd).unwrap();
    let odd = client.list_tags(&setup.repo, "v4", &mut watch).await.unwrap();
    assert_eq!((odd.tags.len(), odd.skipped, odd.complete), (1, 1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_an_end_is_cut_and_deletes_nothing() {
    let setup = Setup::new();
    let client = setup.client();
    let (mut known, mut watch) = (Known::new(), TagWatch::default());
    known.insert(tag("v0"), KnownTag::new("1".repeat(40).parse().unwrap(), None));
    known.insert(tag("v1.0.0"), KnownTag::new(setup.commit.parse().unwrap(), None));
    // A list that forgot a tag which is there.
    setup.lab.rule(Rule::once("GET", "matching-refs", Fault::Says("[]".to_owned())));
    let decision = client.look(&setup.repo, "v", &wanted, &known, &mut watch).await.unwrap();
    assert_eq!(words(&decision.changes), ["deleted v0"], "v1.0.0 was asked for by its name");
    // A list of tags that changed while it was read.
    let one =
        |id: &str| format!(r#"{{"ref":"refs/tags/v7","object":{{"sha":"{id}","type":"commit"}}}}"#);
    let twice = format!("[{},{}]", one(&"1".repeat(40)), one(&"2".repeat(40)));
    setup.lab.rule(Rule::once("GET", "matching-refs", Fault::Says(twice)));
    let decision =
        client.look(&setup.repo, "v7", &wanted, &Known::new(), &mut watch).await.unwrap();
    assert_eq!((decision.changes.len(), decision.unsettled), (0, vec![tag("v7")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_follows_a_hundred_objects() {
    let setup = Setup::new();
    let client = setup.client();
    for n in 0..130 {
        let name = format!("v2.{n}");
        let lab = &setup.lab;
        let id = lab.tag_object("octo/car", &name, &setup.commit, Signature::None).unwrap();
        lab.push_tags("octo/car", &[(&name, Some(&id))]).unwrap();
    }
    let (mut known, mut watch) = (Known::new(), TagWatch::default());
    let first = client.look(&setup.repo, "v", &wanted, &known, &mut watch).await.unwrap();
    assert_eq!((first.changes.len(), first.open.len()), (101, 30));
    first.changes.into_iter().for_each(|change| change.take(&mut known));
    let second = client.look(&setup.repo, "v", &wanted, &known, &mut watch).await.unwrap();
    assert_eq!((second.changes.len(), second.open.len()), (30, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_leaves_requests_for_reports() {
    let setup = Setup::new();
    setup.lab.set_hourly(10);
    let mut settings = setup.settings(setup.app_credentials());
    settings.reserve = 5;
    let client = pitlane_github::Client::new(settings).unwrap();
    let mut paid = 0;
    let error = loop {
        // A new watch each time, so that each look is paid for.
        match client.list_tags(&setup.repo, "", &mut TagWatch::default()).await {
            Ok(_) => paid += 1,
            Err(error) => break error,
        }
        assert!(paid < 10, "looking used everything up");
    };
    let reserve = matches!(error.problem, Problem::Limited { limit: Limit::Reserve, .. });
    assert!(reserve && error.wait().unwrap().as_secs() > 3000, "{error}");
    assert_eq!((paid, client.remaining(&setup.repo)), (5, Some(5)));
    setup.lab.take_asked();
    assert!(client.list_tags(&setup.repo, "", &mut TagWatch::default()).await.is_err());
    assert_eq!(setup.lab.take_asked(), [], "it is not even asked");
    assert!(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    let asked = setup.lab.take_asked();
    assert_eq!(asked.iter().filter(|one| !is_for_tokens(one)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_leads_to_no_commit_is_asked_for_once() {
    let setup = Setup::new();
    let (lab, client) = (&setup.lab, setup.client());
    let blob = lab.blob("octo/car", b"no commit").unwrap();
    let nowhere = lab.tag_object("octo/car", "v9", &blob, Signature::None).unwrap();
    lab.push_tags("octo/car", &[("v9", Some(&nowhere))]).unwrap();
    let (known, mut watch) = (Known::new(), TagWatch::default());
    for round in 0..3 {
        lab.take_asked();
        let looked = client.look(&setup.repo, "", &wanted, &known, &mut watch).await.unwrap();
        assert_eq!((words(&looked.changes), looked.open), (vec!["new v1.0.0".to_owned()], vec![]));
        let about = |one: &pitlane_github_lab::Asked| one.path.contains("/git/tags/");
        let asked = lab.take_asked().iter().filter(|one| about(one)).count();
        assert_eq!(asked, usize::from(round == 0), "round {round}");
    }
    // Who may not ask learns nothing of the tag.
    let refused = Setup::granted("checks=write metadata=read");
    let mut watch = TagWatch::default();
    let looked = refused.client().look(&refused.repo, "", &wanted, &known, &mut watch).await;
    assert_eq!(looked.unwrap_err().status(), Some(403));
}
