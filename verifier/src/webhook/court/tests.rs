//! One finding of many verdicts.

use super::*;

const KEEP: Duration = Duration::from_hours(1);

fn verdict(
    policy: &str,
    mode: Mode,
    answer: Result<Option<jiff::Timestamp>, Refusal>,
) -> PolicyVerdict {
    PolicyVerdict { policy: policy.into(), mode, platform: Platform::LinuxArm64, answer }
}

fn image() -> ImageRef {
    "r.example/car:v1".parse().unwrap()
}

#[test]
fn all_policies_must_pass() {
    let ok = verdict("a", Mode::Enforce, Ok(None));
    let no = verdict("b", Mode::Enforce, Err(Refusal::Unsigned));
    let lap = verdict("c", Mode::Enforce, Err(Refusal::NoEvidence("lap")));
    assert_eq!(
        combine(&image(), std::slice::from_ref(&ok), KEEP),
        (Finding::Admitted(vec![]), KEEP)
    );
    for verdicts in [[ok.clone(), no.clone(), lap.clone()], [no.clone(), lap, ok]] {
        let (finding, keep) = combine(&image(), &verdicts, KEEP);
        let Finding::Refused { code, why } = finding else { panic!("{verdicts:?}") };
        assert_eq!((code, keep), ("unsigned", KEEP_REFUSED));
        for want in ["`b`", "`c`", "(unsigned)", "(no-lap)", "linux/arm64", "hint: "] {
            assert!(why.contains(want), "{want}: {why}");
        }
    }
    // Nothing judged is nothing admitted.
    let (finding, _) = combine(&image(), &[], KEEP);
    assert!(matches!(finding, Finding::Refused { code: "wrong-platform", .. }));
}

#[test]
fn a_policy_that_warns_denies_nothing_and_hides_nothing() {
    let warn = verdict("w", Mode::Warn, Err(Refusal::Unsigned));
    let (finding, keep) = combine(&image(), std::slice::from_ref(&warn), KEEP);
    let Finding::Admitted(warnings) = finding else { panic!() };
    assert!(warnings[0].contains("(unsigned) by policy `w`"), "{warnings:?}");
    assert_eq!(keep, KEEP_REFUSED);
    let no = verdict("e", Mode::Enforce, Err(Refusal::WrongSigner));
    let (finding, _) = combine(&image(), &[warn, no], KEEP);
    assert!(matches!(finding, Finding::Refused { code: "wrong-signer", .. }));
}

#[test]
fn no_admission_outlives_its_release() {
    let at = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
    let of = |end| combine(&image(), &[verdict("a", Mode::Enforce, Ok(Some(end)))], KEEP).1;
    let soon = of(at(60));
    assert!(soon <= Duration::from_mins(1) && soon > Duration::from_secs(50), "{soon:?}");
    assert_eq!(of(at(-5)), Duration::ZERO);
    assert_eq!(of(at(100_000)), KEEP);
}

#[test]
fn images_without_a_policy() {
    let image = KubeImage::parse("nginx").unwrap();
    let Finding::Refused { code, why } = no_match(NoMatch::default(), &image) else { panic!() };
    assert!(code == "no-policy" && why.contains("index.docker.io/library/nginx:latest"));
    assert_eq!(no_match(NoMatch::Allow, &image), Finding::Admitted(vec![]));
    let Finding::Admitted(told) = no_match(NoMatch::Warn, &image) else { panic!() };
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn tags_are_resolved_in_their_turn() {
    let (_dir, policies) = super::super::policies::open_one();
    let rules = Rules {
        no_match: NoMatch::Deny,
        platforms: Vec::new(),
        resolve_tags: true,
        keep: KEEP,
        most_kept: 8,
    };
    let court = Court::new(policies, rules, Arc::new(Metrics::default()));
    let image = KubeImage::parse("r.example/car:v1").unwrap();
    let all = court.room.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    let soon = Duration::from_millis(50);
    let set = court.set();
    assert!(tokio::time::timeout(soon, court.judge(&set, &image)).await.is_err());
    assert!(tokio::time::timeout(soon, court.pin(&set, &image)).await.is_err());
    drop(all);
    // The empty layout behind it has no such tag.
    assert!(matches!(court.judge(&set, &image).await, Finding::Undecided { .. }));
}

#[test]
fn why_there_is_no_verdict_is_said_as_it_is() {
    let said = |verdict| match without(verdict, &image()) {
        Finding::Undecided { why } => why,
        other => panic!("{other:?}"),
    };
    assert!(said(Without::Full).contains("too many images"));
    let died = said(Without::Died);
    assert!(died.contains("error of the program") && !died.contains("too many"), "{died}");
}
