//! The order of environments: a table of situations, and whatever may happen to four of them.

use proptest::prelude::*;

use super::*;
use crate::Target;

fn offer(counter: u64) -> Offer {
    Offer { counter: Counter::new(counter).unwrap(), digest: Digest::of(counter.to_string()) }
}

fn environment(number: usize, approval: Approval) -> Environment {
    let name: CarKind = format!("e{number}").parse().unwrap();
    let target = Target::Compose { file: format!("{name}.yaml").into(), service: "car".to_owned() };
    Environment { name, target, branch: None, how: None, approval, confirmations: 1 }
}

fn has(counter: u64) -> Deployed {
    let Offer { counter, digest } = offer(counter);
    Deployed { digest: Some(digest), newest: Some(counter), stopped: None }
}

#[test]
fn what_is_next() {
    let sim = environment(0, Approval::Auto);
    let rc = environment(1, Approval::AfterConfirmed(sim.name.clone()));
    let street = Environment { confirmations: 2, ..environment(2, Approval::Manual) };
    let all = [sim.clone(), Environment { confirmations: 2, ..rc.clone() }, street.clone()];
    let offers = [offer(1), offer(2), offer(3)];
    let confirm = |by: &str| Confirmed {
        environment: sim.name.clone(),
        digest: offer(3).digest,
        by: by.into(),
    };
    let approve = |counter| Approved {
        environment: street.name.clone(),
        digest: offer(3).digest,
        counter: offer(counter).counter,
        by: "ana".into(),
    };
    let decide = |deployed: [Deployed; 3], confirmed: &[Confirmed], approved: &[Approved]| {
        Situation { environments: &all, deployed: &deployed, offers: &offers, confirmed, approved }
            .decide()
    };
    let waits = |on| Decision::Wait { offer: offer(3), on };
    let confirmation =
        |have| waits(WaitsFor::Confirmation { environment: sim.name.clone(), have, want: 2 });
    let before = |of: &Environment| waits(WaitsFor::Before { environment: of.name.clone() });
    let none = Deployed::default;

    let first = decide([has(2), has(2), none()], &[], &[]);
    assert_eq!(first[0], Decision::Promote(offer(3)));
    assert_eq!(first[1], before(&sim), "not before the first has it");
    // What the second has, the third may get, once somebody says so.
    assert_eq!(first[2], before(&rc));
    let waiting = decide([has(3), has(2), has(2)], &[confirm("a"), confirm("a")], &[approve(3)]);
    assert_eq!(waiting, [Decision::UpToDate, confirmation(1), before(&rc)], "one car is one");
    let on = decide([has(3), has(2), has(2)], &[confirm("a"), confirm("b")], &[]);
    assert_eq!(on[1], Decision::Promote(offer(3)));
    let asked = decide([has(3), has(3), has(2)], &[], &[approve(2)]);
    assert_eq!(asked[2], waits(WaitsFor::Approval), "approved was another release");
    let approved = decide([has(3), has(3), has(2)], &[], &[approve(3)]);
    assert_eq!(approved[2], Decision::Promote(offer(3)));
    // A person set the first back: it stays, and what was rolled away goes nowhere else.
    let rolled = Deployed { digest: Some(offer(2).digest), ..has(3) };
    let stays = decide([rolled, has(2), has(2)], &[confirm("a"), confirm("b")], &[]);
    assert_eq!(stays[..2], [Decision::UpToDate, before(&sim)]);
    let paused = Held::Paused { comment: "pitlane: pause".into() };
    let stopped = Deployed { stopped: Some(paused.clone()), ..has(2) };
    assert_eq!(decide([stopped, has(2), has(2)], &[], &[])[0], Decision::Held(paused));
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Happens {
    /// A release; of an old image when a number is given (a rollback).
    Release(Option<usize>),
    /// A car confirms what the environment has.
    Confirm(usize, u8),
    /// Somebody approves a release for an environment.
    Approve(usize, usize),
    /// A person sets the file to any release.
    Set(usize, usize),
    /// A person pauses or goes on.
    Pause(usize, bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => proptest::option::weighted(0.2, 0..20usize).prop_map(Happens::Release),
        4 => (0..4usize, 0..3u8).prop_map(|(e, by)| Happens::Confirm(e, by)),
        3 => (0..4usize, 0..20usize).prop_map(|(e, r)| Happens::Approve(e, r)),
        1 => (0..4usize, 0..20usize).prop_map(|(e, r)| Happens::Set(e, r)),
        1 => (0..4usize, any::<bool>()).prop_map(|(e, on)| Happens::Pause(e, on)),
    ]
}

fn approvals() -> impl Strategy<Value = Vec<(u8, usize, u32)>> {
    proptest::collection::vec((0..3u8, 0..4usize, 1..3u32), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn releases_come_in_order_whatever_happens(
        kinds in approvals(),
        story in proptest::collection::vec(happens(), 0..60),
    ) {
        let environments: Vec<Environment> = kinds.iter().enumerate().map(|(n, (kind, of, many))| {
            let approval = match kind {
                1 if n > 0 => Approval::AfterConfirmed(format!("e{}", of % n).parse().unwrap()),
                2 => Approval::Manual,
                _ => Approval::Auto,
            };
            Environment { confirmations: *many, ..environment(n, approval) }
        }).collect();
        let count = environments.len();
        let mut deployed = vec![Deployed::default(); count];
        let (mut offers, mut confirmed, mut approved): (Vec<Offer>, Vec<Confirmed>, Vec<Approved>) =
            Default::default();
        let mut promoted: Vec<Vec<Offer>> = vec![Vec::new(); count];
        for event in story {
            let pick = |n: usize, offers: &[Offer]| offers.get(n % offers.len().max(1)).copied();
            match event {
                Happens::Release(of) => {
                    let next = offer(offers.len() as u64 + 1);
                    let old = of.and_then(|n| pick(n, &offers)).map_or(next.digest, |o| o.digest);
                    offers.push(Offer { digest: old, ..next });
                }
                Happens::Confirm(e, by) => if let Some(digest) = deployed[e % count].digest {
                    let environment = environments[e % count].name.clone();
                    confirmed.push(Confirmed { environment, digest, by: by.to_string() });
                },
                Happens::Approve(e, r) => if let Some(Offer { counter, digest }) = pick(r, &offers) {
                    let environment = environments[e % count].name.clone();
                    approved.push(Approved { environment, digest, counter, by: "ana".into() });
                },
                Happens::Set(e, r) => deployed[e % count].digest = pick(r, &offers).map(|o| o.digest),
                Happens::Pause(e, on) => deployed[e % count].stopped =
                    on.then(|| Held::Paused { comment: String::new() }),
            }
            for round in 0.. {
                prop_assert!(round <= count, "it comes to an end");
                let situation = Situation {
                    environments: &environments, deployed: &deployed, offers: &offers,
                    confirmed: &confirmed, approved: &approved,
                };
                let Some((environment, offer)) = situation.next() else { break };
                let n = environments.iter().position(|e| e.name == environment.name).unwrap();
                prop_assert!(offers.contains(&offer));
                prop_assert!(promoted[n].iter().all(|old| old.counter < offer.counter), "never back, never again");
                prop_assert!(deployed[n].stopped.is_none(), "paused");
                if n > 0 {
                    prop_assert_eq!(deployed[n - 1].digest, Some(offer.digest), "in order");
                }
                match &environment.approval {
                    Approval::Auto => {}
                    Approval::AfterConfirmed(of) => {
                        let by: BTreeSet<_> = confirmed.iter()
                            .filter(|c| c.environment == *of && c.digest == offer.digest)
                            .map(|c| &c.by).collect();
                        prop_assert!(by.len() >= environment.confirmations as usize, "confirmed before");
                    }
                    Approval::Manual => {
                        let fits = |a: &Approved| {
                            a.environment == environment.name
                                && (a.counter, a.digest) == (offer.counter, offer.digest)
                        };
                        prop_assert!(approved.iter().any(fits), "approved before");
                    }
                }
                promoted[n].push(offer);
                deployed[n].digest = Some(offer.digest);
                deployed[n].newest = Some(offer.counter);
            }
        }
    }

    /// And it is not safe by doing nothing: without people and approvals all get the newest.
    #[test]
    fn without_people_everybody_gets_the_newest(count in 1..5usize, releases in 1..9u64) {
        let environments: Vec<_> = (0..count).map(|n| environment(n, Approval::Auto)).collect();
        let offers: Vec<_> = (1..=releases).map(offer).collect();
        let mut deployed = vec![Deployed::default(); count];
        for _ in 0..count {
            let situation = Situation {
                environments: &environments, deployed: &deployed, offers: &offers,
                confirmed: &[], approved: &[],
            };
            let (environment, offer) = situation.next().unwrap();
            let n = environments.iter().position(|e| e.name == environment.name).unwrap();
            deployed[n] = has(offer.counter.get());
        }
        prop_assert!(deployed.iter().all(|d| *d == has(releases)));
    }
}
