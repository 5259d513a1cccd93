//! Many at once: other pipelines, people. Nobody's change is lost, and history is a line.

use pitlane_gitops::{PlainGit, Promoter};

use crate::world::{World, candidate, config, digest, kustomization};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_images_in_one_file_all_land() {
    let images: Vec<_> = NAMES.iter().map(|name| (*name, '0')).collect();
    let world = World::with(&[("car/kustomization.yaml", &kustomization(&images))]);
    let mut tasks = tokio::task::JoinSet::new();
    for (number, name) in NAMES.iter().enumerate() {
        let (url, dir) = (world.bare().display().to_string(), world.copies());
        let config = config(&format!("url: {url}\nfile: car/kustomization.yaml\nimage: {name}\n"));
        tasks.spawn(async move {
            let environment = config.environments().remove(0);
            let promoter = Promoter { config: &config, forge: &PlainGit, dir: &dir };
            promoter.promote(&environment, &candidate(number as u64 + 1)).await
        });
    }
    // And a person who pushes beside them: each note until it is there, as people do.
    let person = std::thread::spawn({
        let dir = world.dir.path().join("person");
        move || {
            let git = |args: &[&str]| {
                let mut git = std::process::Command::new("git");
                git.current_dir(&dir).args(["-c", "user.name=Ana", "-c", "user.email=a@b"]);
                let ran = git.args(args).output().unwrap();
                ran.status.success().then_some(()).ok_or(ran)
            };
            let mut pushes = 0;
            for number in 0..3 {
                std::fs::write(dir.join(format!("note-{number}")), "x").unwrap();
                git(&["add", "--all"]).unwrap();
                git(&["commit", "--quiet", "-m", "Note"]).unwrap();
                loop {
                    pushes += 1;
                    assert!(pushes < 200, "people get in as well");
                    git(&["pull", "--quiet", "--rebase", "origin", "main"]).unwrap();
                    if git(&["push", "--quiet", "origin", "HEAD:main"]).is_ok() {
                        break;
                    }
                }
            }
            pushes
        }
    });
    let mut commands = 0;
    while let Some(done) = tasks.join_next().await {
        commands += done.unwrap().unwrap().commands;
    }
    let pushes = person.join().unwrap();
    let text = world.read("car/kustomization.yaml");
    for number in 1..=8 {
        assert!(text.contains(&digest(number).hex()), "{number} was lost:\n{text}");
    }
    assert!(!text.contains(&"0".repeat(64)));
    let by_pitlane = world.git(&["rev-list", "--count", "--author=Pitlane", "main"]);
    assert_eq!(by_pitlane, "8", "one commit each");
    assert_eq!(world.git(&["rev-list", "--count", "--merges", "main"]), "0", "a line");
    for number in 0..3 {
        assert_eq!(world.read(&format!("note-{number}")), "x");
    }
    assert_eq!(world.count(), 1 + 8 + 3, "everybody's, once");
    println!("8 promotions took {commands} git commands; the person's 3 notes {pushes} pushes");
}

/// The same release by several services: one commit, one answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_release_by_four_is_one_commit() {
    let world = World::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (config, dir) = (world.config.clone(), world.copies());
        tasks.spawn(async move {
            let environment = config.environments().remove(0);
            let promoter = Promoter { config: &config, forge: &PlainGit, dir: &dir };
            let promotion = promoter.promote(&environment, &candidate(1)).await.unwrap();
            crate::world::commit_of(&promotion).to_owned()
        });
    }
    let commits: std::collections::BTreeSet<String> = tasks.join_all().await.into_iter().collect();
    assert_eq!(commits.into_iter().collect::<Vec<_>>(), [world.head()]);
    assert_eq!(world.count(), 2);
}

/// Releases that overtake each other: the newest stands in the end, whoever comes last.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_newest_of_five_stands_at_the_end() {
    let world = World::new();
    let mut tasks = tokio::task::JoinSet::new();
    for counter in [3, 5, 1, 4, 2] {
        let (config, dir) = (world.config.clone(), world.copies());
        tasks.spawn(async move {
            let environment = config.environments().remove(0);
            let promoter = Promoter { config: &config, forge: &PlainGit, dir: &dir };
            promoter.promote(&environment, &candidate(counter)).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert!(world.read("car/kustomization.yaml").contains(&digest(5).hex()));
    let counters =
        world.git(&["log", "--format=%(trailers:key=Pitlane-Counter,valueonly)", "main"]);
    let counters: Vec<u64> = counters.split_whitespace().map(|c| c.parse().unwrap()).collect();
    assert!(counters.windows(2).all(|pair| pair[0] > pair[1]), "never back: {counters:?}");
}
