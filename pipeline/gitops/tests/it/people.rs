//! What people do to the file is respected: set back, taken out, paused, or moved ahead.

use pitlane_gitops::Outcome;

use crate::world::{World, candidate, commit_of, digest, held, kustomization};

/// The file that `main` has.
fn now(world: &World) -> String {
    world.read("car/kustomization.yaml")
}

#[tokio::test]
async fn a_rollback_by_revert_stays() {
    let world = World::new();
    world.promote(1).await;
    let second = world.promote(2).await;
    world.pull();
    world.person(&["revert", "--no-edit", "HEAD"]);
    world.push("And an empty one on top");
    let before = world.head();
    // The run is repeated, an older one comes late: neither overrides the person.
    let again = world.promote(2).await;
    assert_eq!(held(&again), "rolled-away");
    let Outcome::Held { held: why } = &again.outcome else { unreachable!() };
    assert!(why.to_string().contains(commit_of(&second)), "{why}");
    assert_eq!(world.head(), before);
    // The older one is what the person chose: it is there.
    assert!(matches!(world.promote(1).await.outcome, Outcome::Committed { .. }));
    assert_eq!(world.head(), before);
    // Only a newer release moves it on.
    world.promote(3).await;
    assert!(now(&world).contains(&digest(3).hex()));
    assert_eq!(held(&world.promote(2).await), "older");
    assert_eq!(held(&world.promote(1).await), "older");
}

#[tokio::test]
async fn a_rollback_by_hand_and_a_rollback_of_the_rollback() {
    let world = World::new();
    world.promote(5).await;
    world.pull();
    world.write("car/kustomization.yaml", &kustomization(&[("car", '9')]));
    world.push("Back to what nobody here promoted");
    assert_eq!(held(&world.promote(5).await), "rolled-away");
    assert_eq!(held(&world.promote(4).await), "older");
    // Copying the message does not make it Pitlane's: the file says something else.
    let message = world.git(&["log", "-1", "--format=%B", "main^"]);
    world.pull();
    world.write("car/kustomization.yaml", &kustomization(&[("car", '8')]));
    world.push(&message);
    assert_eq!(held(&world.promote(5).await), "rolled-away");
    // The person takes it back: it is there, by the commit of old.
    world.pull();
    world.person(&["revert", "--no-edit", "HEAD", "HEAD~1"]);
    world.push("Both back");
    assert!(now(&world).contains(&digest(5).hex()));
    assert!(matches!(world.promote(5).await.outcome, Outcome::Committed { .. }));
    // A rollback by Pitlane is a new release of an old image: it goes.
    let mut back = candidate(6);
    back.image = candidate(1).image;
    back.rollback = true;
    world.try_promote(&back).await.unwrap();
    assert!(now(&world).contains(&digest(1).hex()));
    assert!(world.git(&["log", "-1", "--format=%s"]).contains("roll back to"));
}

#[tokio::test]
async fn a_counter_that_is_taken_by_another_image_is_not_newer() {
    let world = World::new();
    world.promote(4).await;
    let mut other = candidate(4);
    other.image = candidate(3).image;
    assert_eq!(held(&world.try_promote(&other).await.unwrap()), "older");
}

#[tokio::test]
async fn what_was_taken_out_stays_out() {
    let world = World::new();
    world.promote(1).await;
    world.pull();
    world.write("car/kustomization.yaml", "kind: Kustomization\nimages: []\n");
    world.push("No car");
    assert_eq!(held(&world.promote(2).await), "deleted");
    world.person(&["rm", "--quiet", "car/kustomization.yaml"]);
    world.push("No file");
    assert_eq!(held(&world.promote(2).await), "deleted");
    // Back again: a newer release goes on.
    world.write("car/kustomization.yaml", &kustomization(&[("car", '0')]));
    world.push("Car");
    assert_eq!(held(&world.promote(1).await), "rolled-away");
    world.promote(2).await;
    assert!(now(&world).contains(&digest(2).hex()));
}

#[tokio::test]
async fn a_pause_stops_everything_newer_until_it_is_taken_out() {
    let world = World::new();
    world.promote(1).await;
    for mark in ["# pitlane: pause until the race is over\n", ""] {
        world.pull();
        let text = now(&world);
        let text = match mark {
            "" => text.replace("# by Pitlane", "# pitlane: pause"),
            mark => format!("{mark}{text}"),
        };
        world.write("car/kustomization.yaml", &format!("{text}\n"));
        world.push("Pause");
        assert_eq!(held(&world.promote(2).await), "paused");
        assert!(matches!(world.promote(1).await.outcome, Outcome::Committed { .. }), "is there");
        world.person(&["revert", "--no-edit", "HEAD"]);
        world.push("Go on");
    }
    world.promote(2).await;
    assert!(now(&world).contains(&digest(2).hex()));
}

/// In one file, each image has its own history.
#[tokio::test]
async fn images_of_one_file_do_not_speak_for_each_other() {
    let mut world =
        World::with(&[("car/kustomization.yaml", &kustomization(&[("car", '0'), ("bus", '0')]))]);
    world.promote(9).await;
    world.config.image = Some("bus".into());
    world.promote(3).await;
    let text = now(&world);
    assert!(text.contains(&digest(9).hex()) && text.contains(&digest(3).hex()), "{text}");
}
