//! One promotion: the commit, what is in it, who made it, and what it costs.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Instant};

use pitlane_gitops::{Outcome, Pin, Target};

use crate::world::{REPOSITORY, World, candidate, commit_of, digest, git, kustomization};

#[tokio::test]
async fn one_scalar_by_one_commit_with_trailers() {
    let world = World::new();
    let before = world.read("car/kustomization.yaml");
    let promoted = world.promote(7).await;
    assert_eq!(commit_of(&promoted), world.head());
    assert_eq!(promoted.from, format!("sha256:{}", "0".repeat(64)));
    let after = world.read("car/kustomization.yaml");
    assert_eq!(after, before.replace(&"0".repeat(64), &digest(7).hex()));
    assert_eq!(world.git(&["show", "--format=", "--numstat"]), "1\t1\tcar/kustomization.yaml");
    assert_eq!(
        world.git(&["log", "-1", "--format=%an <%ae>|%cn <%ce>|%P"]),
        format!(
            "Pitlane <pitlane@localhost>|Pitlane <pitlane@localhost>|{}",
            world.git(&["rev-parse", "main^"])
        )
    );
    let image = format!("{REPOSITORY}@{}", digest(7));
    let (source, model) = ("1".repeat(40), candidate(7).model);
    assert_eq!(
        world.git(&["log", "-1", "--format=%B"]),
        format!(
            "donkeycar: release v7.0.0\n\nImage:   {image}\nCounter: 7\n\
             Source:  team/donkeycar {source}\nModel:   {model}\n\n\
             Pitlane-Counter: 7\nPitlane-Image: {image}\nPitlane-Run: run-7\n\
             Pitlane-Target: kustomize car/kustomization.yaml car"
        )
    );
    world.git(&["fsck", "--strict"]);
}

#[tokio::test]
async fn again_is_answered_with_the_same_commit() {
    let world = World::new();
    let first = world.promote(1).await;
    let again = world.promote(1).await;
    assert_eq!(commit_of(&again), commit_of(&first));
    // Others go on; it is still the same answer.
    world.pull();
    world.write("README", "x");
    world.push("Else");
    assert_eq!(commit_of(&world.promote(1).await), commit_of(&first));
    assert_eq!(world.count(), 3);
    // The same image as another release changes nothing, so it is no commit.
    let mut same = candidate(2);
    same.image = candidate(1).image;
    assert_eq!(world.try_promote(&same).await.unwrap().outcome, Outcome::InPlace);
    assert_eq!(world.count(), 3);
}

#[tokio::test]
async fn a_promotion_far_back_is_found() {
    let world = World::new();
    let first = world.promote(1).await;
    world.pull();
    for number in 0..70 {
        let message = format!("Else {number}");
        world.person(&["commit", "--quiet", "--allow-empty", "-m", &message]);
    }
    world.push("Last");
    assert_eq!(commit_of(&world.promote(1).await), commit_of(&first), "beyond the first depth");
    assert_eq!(world.count(), 73);
}

#[tokio::test]
async fn bytes_and_modes_are_kept() {
    let world = World::new();
    // What a work tree would change: line ends by an attribute, and a filter.
    world.write(".gitattributes", "*.yaml text eol=lf filter=evil\n");
    let text = kustomization(&[("car", '0')]).replace('\n', "\r\n");
    world.person(&["config", "core.autocrlf", "false"]);
    world.write("car/kustomization.yaml", &text);
    let blob = {
        let path = world.dir.path().join("person/car/kustomization.yaml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        world.person(&["hash-object", "-w", "--no-filters", "car/kustomization.yaml"])
    };
    let entry = format!("100755,{blob},car/kustomization.yaml");
    world.person(&["update-index", "--cacheinfo", &entry]);
    world.person(&["add", ".gitattributes"]);
    world.person(&["commit", "--quiet", "-m", "CRLF"]);
    world.person(&["push", "--quiet", "origin", "HEAD:main"]);
    world.promote(1).await;
    let after = Command::new("git")
        .current_dir(world.bare())
        .args(["cat-file", "blob", "main:car/kustomization.yaml"])
        .output()
        .unwrap();
    let want = text.replace(&"0".repeat(64), &digest(1).hex());
    assert_eq!(String::from_utf8(after.stdout).unwrap(), want);
    assert!(world.git(&["ls-tree", "main", "car/"]).starts_with("100755 "));
}

#[tokio::test]
async fn names_with_spaces_and_quotes_and_another_author() {
    let path = "my \"cars\" \\ ä/values file.yaml";
    let text = format!("image: {REPOSITORY}@sha256:{}\n", "0".repeat(64));
    let mut world = World::with(&[(path, &text)]);
    world.config.file = None;
    world.config.image = None;
    world.config.target = Some(Target::Helm { file: path.into(), path: "image".into() });
    world.config.author.name = "Ötzi's bot".into();
    world.config.author.email = "bot@example.org".into();
    world.config.check().unwrap();
    let first = world.promote(1).await;
    assert_eq!(commit_of(&world.promote(1).await), commit_of(&first));
    assert_eq!(world.read(path), format!("image: {REPOSITORY}@{}", digest(1)));
    assert_eq!(world.git(&["log", "-1", "--format=%an <%ce>"]), "Ötzi's bot <bot@example.org>");
    for (name, email) in [("a\nb", "x"), ("a", "x>"), (" ", "x"), ("a", "")] {
        world.config.author.name = name.into();
        world.config.author.email = email.into();
        assert!(world.config.check().unwrap_err().contains("author"), "{name}");
    }
}

#[tokio::test]
async fn signed_commits_verify_and_only_by_that_key() {
    let mut world = World::new();
    let dir = world.dir.path().to_owned();
    for name in ["key", "other"] {
        let file = dir.join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&file)
            .status()
            .unwrap();
        assert!(made.success());
        let public = fs::read_to_string(file.with_extension("pub")).unwrap();
        fs::write(dir.join(format!("{name}.allowed")), format!("pitlane@localhost {public}"))
            .unwrap();
    }
    world.config.signing_key = Some(dir.join("key"));
    let commit = commit_of(&world.promote(1).await).to_owned();
    let verify = |allowed: &str| {
        let file = format!("gpg.ssh.allowedSignersFile={}", dir.join(allowed).display());
        let mut git = Command::new("git");
        git.current_dir(world.bare()).args(["-c", &file, "verify-commit", &commit]);
        git.output().unwrap().status.success()
    };
    assert!(verify("key.allowed"));
    assert!(!verify("other.allowed"));
    assert_eq!(commit_of(&world.promote(1).await), commit, "the signature changes no memory");
    assert_eq!(world.git(&["show", "--format=", "--numstat"]), "1\t1\tcar/kustomization.yaml");
    // A key that is not there signs nothing, and nothing is pushed.
    world.config.signing_key = Some(dir.join("gone"));
    let error = world.try_promote(&candidate(2)).await.unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("signing"), "{error}");
    assert_eq!(world.head(), commit);
}

#[tokio::test]
async fn hooks_of_the_copy_do_not_run_and_those_of_the_server_do() {
    let world = World::new();
    let mark = world.dir.path().join("ran");
    let hook = world.bare().join("hooks/post-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    world.promote(1).await;
    assert!(mark.exists(), "people's hooks on the server are theirs");
}

/// What one promotion costs; printed, and bounded so that it does not grow unseen.
#[tokio::test]
async fn a_promotion_costs_few_commands() {
    let world = World::new();
    let started = Instant::now();
    let promoted = world.promote(1).await;
    let first = started.elapsed();
    let started = Instant::now();
    let again = world.promote(1).await;
    println!(
        "promotion: {} git commands, {first:?}; found again: {} commands, {:?}",
        promoted.commands,
        again.commands,
        started.elapsed()
    );
    assert_eq!((promoted.commands, again.commands), (6, 4));
    let pin = Pin { digest: digest(1), tag: String::new() };
    let text = world.read("car/kustomization.yaml");
    let target = world.only().target;
    let started = Instant::now();
    for _ in 0..1000 {
        target.set(text.as_bytes(), &REPOSITORY.parse().unwrap(), &pin).unwrap();
    }
    println!("one edit with its proof: {:?}", started.elapsed() / 1000);
    git(&world.bare(), &["fsck"]);
}
