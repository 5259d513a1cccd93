//! Several environments in one repository: `sim` first, then `rc` by confirmations, then `street`
//! by a person.

use pitlane_gitops::{Approved, Candidate, Confirmed, Known, PlainGit, Progress, Promoter};

use crate::world::{REPOSITORY, World, candidate, commit_of, config, digest, kustomization};

fn world() -> World {
    let zero = "0".repeat(64);
    let values =
        format!("image: # the car's\n  repository: {REPOSITORY}\n  digest: sha256:{zero}\n");
    let pod = format!(
        "kind: Pod\nspec:\n  containers:\n  - name: car\n    image: {REPOSITORY}@sha256:{zero}\n"
    );
    let mut world = World::with(&[
        ("sim/kustomization.yaml", &kustomization(&[("car", '0')])),
        ("rc/values.yaml", &values),
        ("street/pod.yaml", &pod),
    ]);
    let url = world.bare().display().to_string();
    world.config = config(&format!(
        "url: {url}\nenvironments:\n\
         - name: sim\n  target: {{kind: kustomize, file: sim/kustomization.yaml, image: car}}\n\
         - name: rc\n  target: {{kind: helm, file: rc/values.yaml, path: image}}\n  \
           approval: {{afterConfirmed: sim}}\n  confirmations: 2\n\
         - name: street\n  target: {{kind: kubernetes, file: street/pod.yaml, container: car}}\n  \
           approval: manual\n"
    ));
    world
}

async fn advance(world: &World, candidates: &[Candidate], known: &Known) -> Vec<String> {
    let promoter = Promoter { config: &world.config, forge: &PlainGit, dir: &world.copies() };
    let said = promoter.advance(candidates, known).await.unwrap();
    said.iter().map(shown).collect()
}

fn shown(progress: &Progress) -> String {
    let Progress { environment, counter, promotion, waits, held, error } = progress;
    let counter = counter.map(|counter| format!(" {counter}")).unwrap_or_default();
    let what = match (promotion, waits, held, error) {
        (_, _, _, Some(error)) => format!(" failed: {error}"),
        (_, _, Some(held), _) => format!(" held: {}", held.code()),
        (_, Some(waits), ..) => format!(" waits for {waits}"),
        (Some(promotion), ..) => {
            format!(" promoted {}", &commit_of(promotion)[..0]).trim_end().into()
        }
        _ => " up to date".to_owned(),
    };
    format!("{environment}{counter}{what}")
}

fn confirm(counter: u64, by: &str) -> Confirmed {
    Confirmed { environment: "sim".parse().unwrap(), digest: digest(counter), by: by.into() }
}

#[tokio::test]
async fn a_release_goes_from_environment_to_environment() {
    let world = world();
    let releases = [candidate(1)];
    let mut known = Known::default();
    let before_rc = "street 1 waits for environment rc, which is before it, to have the release";
    assert_eq!(
        advance(&world, &releases, &known).await,
        ["sim 1 promoted", "rc 1 waits for 2 to confirm it in environment sim, 0 did", before_rc]
    );
    assert_eq!(world.git(&["log", "-1", "--format=%s"]), "donkeycar: release v1.0.0 to sim");
    let head = world.head();
    known.confirmed = vec![confirm(1, "car-1"), confirm(1, "car-1")];
    let waiting = advance(&world, &releases, &known).await;
    assert_eq!(
        waiting[..2],
        ["sim up to date", "rc 1 waits for 2 to confirm it in environment sim, 1 did"]
    );
    assert_eq!(world.head(), head, "nothing to do, nothing done");
    known.confirmed.push(confirm(1, "car-2"));
    assert_eq!(
        advance(&world, &releases, &known).await,
        ["sim up to date", "rc 1 promoted", "street 1 waits for a person to approve it"]
    );
    let street = "street".parse().unwrap();
    let (digest_of, counter) = (digest(1), candidate(1).counter);
    known.approved =
        vec![Approved { environment: street, digest: digest_of, counter, by: "ana".into() }];
    let all = ["sim up to date", "rc up to date"];
    assert_eq!(advance(&world, &releases, &known).await, [all[0], all[1], "street 1 promoted"]);
    assert_eq!(
        advance(&world, &releases, &known).await,
        ["sim up to date", "rc up to date", "street up to date"]
    );
    assert_eq!(world.count(), 4);
    for file in ["sim/kustomization.yaml", "rc/values.yaml", "street/pod.yaml"] {
        assert!(world.read(file).contains(&digest(1).hex()), "{file}");
    }
}

#[tokio::test]
async fn what_was_rolled_away_in_one_comes_to_no_other() {
    let world = world();
    let releases = [candidate(1), candidate(2)];
    let known =
        Known { confirmed: vec![confirm(2, "car-1"), confirm(2, "car-2")], approved: vec![] };
    let file = "sim/kustomization.yaml";
    // Only the newest goes out, and comes as far as it may at once.
    assert_eq!(advance(&world, &releases, &known).await[..2], ["sim 2 promoted", "rc 2 promoted"]);
    // A third is set back by a person, before or after anybody confirmed it.
    let releases = [candidate(3), candidate(1), candidate(2)];
    assert_eq!(advance(&world, &releases, &known).await[0], "sim 3 promoted");
    world.pull();
    world.person(&["revert", "--no-edit", "HEAD"]);
    world.push("Not that one");
    let known = Known { confirmed: vec![confirm(3, "car-1"), confirm(3, "car-2")], ..known };
    let head = world.head();
    let said = advance(&world, &releases, &known).await;
    assert_eq!(
        said[..2],
        [
            "sim up to date",
            "rc 3 waits for environment sim, which is before it, to have the release"
        ]
    );
    assert_eq!(world.head(), head);
    assert!(world.read(file).contains(&digest(2).hex()));
}

/// One environment that is paused or broken does not stop those before it, and hides nothing.
#[tokio::test]
async fn a_broken_environment_says_so() {
    let world = world();
    world.write("rc/values.yaml", "image: {digest: x\n");
    world.push("Broken");
    let known = Known { confirmed: vec![confirm(1, "a"), confirm(1, "b")], approved: vec![] };
    let said = advance(&world, &[candidate(1)], &known).await;
    assert_eq!(said[..2], ["sim 1 promoted", "rc held: unusable"]);
    world.pull();
    let zero = "0".repeat(64);
    let values =
        format!("# pitlane: pause\nimage:\n  repository: {REPOSITORY}\n  digest: sha256:{zero}\n");
    world.write("rc/values.yaml", &values);
    world.push("Paused");
    let said = advance(&world, &[candidate(1)], &known).await;
    assert_eq!(said[..2], ["sim up to date", "rc held: paused"]);
    world.person(&["rm", "--quiet", "rc/values.yaml"]);
    world.push("Gone");
    let said = advance(&world, &[candidate(1)], &known).await;
    assert_eq!(said[1], "rc held: unusable");
}

/// An environment by pull request: the next one waits until people merged.
#[tokio::test]
async fn a_pull_request_is_not_deployed_before_it_is_merged() {
    let mut world = world();
    let url = world.bare().display().to_string();
    world.config = config(&format!(
        "url: {url}\nhow: pullRequest\nenvironments:\n\
         - name: sim\n  target: {{kind: kustomize, file: sim/kustomization.yaml, image: car}}\n\
         - name: rc\n  how: commit\n  target: {{kind: helm, file: rc/values.yaml, path: image}}\n"
    ));
    let wait = "rc 1 waits for environment sim, which is before it, to have the release";
    for _ in 0..2 {
        let said = advance(&world, &[candidate(1)], &Known::default()).await;
        assert_eq!(said, ["sim 1 promoted", wait]);
    }
    world.pull();
    world.person(&["merge", "--quiet", "--ff-only", "origin/pitlane/donkeycar/sim"]);
    world.person(&["push", "--quiet", "origin", "HEAD:main"]);
    let said = advance(&world, &[candidate(1)], &Known::default()).await;
    assert_eq!(said, ["sim up to date", "rc 1 promoted"]);
}
