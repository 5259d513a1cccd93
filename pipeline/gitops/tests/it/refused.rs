//! What is not promoted into, and what people are told.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use pitlane_gitops::{MAX_FILE, PromoteError};

use crate::world::{World, candidate, config, kustomization};

async fn error(world: &World) -> (String, String) {
    let head = world.head();
    let error = world.try_promote(&candidate(1)).await.unwrap_err();
    assert_eq!(world.head(), head, "nothing was pushed");
    (error.code().to_owned(), error.to_string())
}

#[tokio::test]
async fn links_submodules_folders_and_giants() {
    let world = World::new();
    let person = world.dir.path().join("person");
    let file = person.join("car/kustomization.yaml");
    // A link in the file's place, to a file of this machine.
    fs::remove_file(&file).unwrap();
    symlink("/etc/hostname", &file).unwrap();
    world.push("Link");
    let (code, said) = error(&world).await;
    assert!(code == "scalar-form" && said.contains("a link"), "{code}: {said}");
    // A link in the folder's place.
    fs::remove_file(&file).unwrap();
    fs::remove_dir(person.join("car")).unwrap();
    fs::create_dir(person.join("real")).unwrap();
    fs::write(person.join("real/kustomization.yaml"), kustomization(&[("car", '0')])).unwrap();
    symlink("real", person.join("car")).unwrap();
    world.push("Link of a folder");
    let (_, said) = error(&world).await;
    assert!(said.contains("behind car, which is a link"), "{said}");
    // A submodule.
    fs::remove_file(person.join("car")).unwrap();
    world.person(&["rm", "--quiet", "--cached", "car"]);
    let head = world.head();
    world.person(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},car")]);
    world.person(&["commit", "--quiet", "-m", "Submodule"]);
    world.person(&["push", "--quiet", "origin", "HEAD:main"]);
    let (_, said) = error(&world).await;
    assert!(said.contains("which is a submodule"), "{said}");
    // A folder.
    world.person(&["rm", "--quiet", "--cached", "car"]);
    fs::create_dir_all(&file).unwrap();
    fs::write(file.join("x"), "x").unwrap();
    world.push("Folder");
    let (_, said) = error(&world).await;
    assert!(said.contains("a folder"), "{said}");
    // A giant, by one byte.
    fs::remove_dir_all(&file).unwrap();
    let mut text = kustomization(&[("car", '0')]);
    let rest = "x".repeat(MAX_FILE - text.len() - 1);
    text = format!("{text}#{rest}\n");
    assert_eq!(text.len(), MAX_FILE + 1);
    fs::write(&file, &text).unwrap();
    world.push("Giant");
    let (code, said) = error(&world).await;
    assert_eq!(code, "file-too-large", "{said}");
    // One that is as large as any may be is edited.
    text.truncate(text.len() - 2);
    text.push('\n');
    fs::write(&file, &text).unwrap();
    world.push("Large");
    world.promote(1).await;
}

#[tokio::test]
async fn places_that_are_not_there() {
    let mut world = World::new();
    world.config.image = Some("bus".into());
    let (code, said) = error(&world).await;
    assert_eq!(code, "place-missing");
    assert!(said.contains("car/kustomization.yaml: no entry of `images:`"), "{said}");
    world.config.file = Some("bus/kustomization.yaml".into());
    let (code, said) = error(&world).await;
    assert!(code == "place-missing" && said.contains("no file bus/kustomization.yaml"), "{said}");
    world.config.branch = "stable".into();
    let (code, said) = error(&world).await;
    assert_eq!(code, "gitops-clone");
    assert!(said.contains("stable") && said.contains("gitops.git"), "{said}");
    world.config.url = "/nowhere/gitops.git".into();
    let (_, said) = error(&world).await;
    assert!(said.contains("/nowhere/gitops.git"), "{said}");
}

/// A server that refuses is asked once, and one that only loses the answer is believed.
#[tokio::test]
async fn a_push_that_is_refused() {
    let world = World::new();
    let hook = world.bare().join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let install = |hook: &std::path::Path, text: &str| {
        fs::write(hook, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let asked = world.dir.path().join("asked");
    install(&hook, &format!("echo x >> {}; echo main is protected >&2; exit 1", asked.display()));
    let head = world.head();
    let refused = world.try_promote(&candidate(1)).await.unwrap_err();
    assert!(matches!(refused, PromoteError::Rejected { .. }), "{refused}");
    assert!(refused.to_string().contains("hook declined"), "{refused}");
    assert!(refused.to_string().contains("pullRequest"), "{refused}");
    assert_eq!(fs::read_to_string(&asked).unwrap(), "x\n", "once");
    assert_eq!(world.head(), head);
    fs::remove_file(&hook).unwrap();
    // The server takes the commit, then the line breaks before it says so.
    let hook = world.bare().join("hooks/post-receive");
    install(&hook, "kill -9 $PPID");
    let promoted = world.promote(1).await;
    assert_eq!(crate::world::commit_of(&promoted), world.head());
}

#[test]
fn configurations_that_cannot_be() {
    let base = "url: /srv/gitops.git\n";
    let target = "{kind: compose, file: c.yaml, service: car}";
    let other = "{kind: compose, file: d.yaml, service: car}";
    config(&format!("{base}file: k.yaml\nimage: car\n"));
    config(&format!("{base}target: {target}\nhow: pullRequest\n"));
    config(&format!(
        "{base}environments:\n- {{name: sim, target: {target}}}\n\
         - {{name: rc, target: {other}, approval: {{afterConfirmed: sim}}, confirmations: 2}}\n"
    ));
    for (text, want) in [
        (base.to_owned(), "name `file`"),
        (format!("{base}file: k.yaml\n"), "name `file`"),
        (format!("{base}file: k.yaml\nimage: car\ntarget: {target}\n"), "name `file`"),
        (format!("{base}file: ../k.yaml\nimage: car\n"), "plain path"),
        (format!("{base}target: {target}\nbranch: -x\n"), "no name of a branch"),
        (format!("{base}target: {target}\nbranch: a..b\n"), "no name of a branch"),
        (format!("url: https://u:p@h.example/x\ntarget: {target}\n"), "credentials"),
        (
            format!(
                "{base}environments:\n- {{name: rc, target: {target}, approval: {{afterConfirmed: sim}}}}\n"
            ),
            "no environment before it",
        ),
        (
            format!(
                "{base}environments:\n- {{name: a, target: {target}}}\n- {{name: a, target: {other}}}\n"
            ),
            "taken",
        ),
        (
            format!(
                "{base}environments:\n- {{name: a, target: {target}}}\n- {{name: b, target: {target}}}\n"
            ),
            "same target",
        ),
        (
            format!("{base}environments:\n- {{name: a, target: {target}, confirmations: 0}}\n"),
            "at least 1",
        ),
    ] {
        let parsed: pitlane_gitops::Promote = pitlane_release::yaml::read(&text, 10_000).unwrap();
        let said = parsed.check().unwrap_err();
        assert!(said.contains(want), "{text}: {said}");
    }
    let unknown = format!("{base}target: {target}\nforce: true\n");
    assert!(pitlane_release::yaml::read::<pitlane_gitops::Promote>(&unknown, 1000).is_err());
}

/// What the page shows can be used as it stands.
#[test]
fn the_examples_of_the_page_are_right() {
    let page = include_str!("../../../../docs/gitops.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let parsed: Vec<pitlane_gitops::Promote> = blocks
        .filter(|block| block.contains("promote:\n"))
        .map(|block| {
            let text = block[block.find("promote:\n").unwrap()..].split_once('\n').unwrap().1;
            let promote: pitlane_gitops::Promote =
                pitlane_release::yaml::read(text, 10_000).unwrap();
            promote.check().unwrap();
            promote
        })
        .collect();
    assert_eq!(parsed.len(), 2);
    assert_eq!(parsed[0].environments().len(), 1);
    assert_eq!(parsed[1].environments().len(), 3);
    // The kustomization beside it, and the one of the example folder.
    let kustomization = page.split("# car/kustomization.yaml\n").nth(1).unwrap();
    let kustomization = kustomization.split("```").next().unwrap();
    let example = include_str!("../../../../examples/gitops/car/kustomization.yaml");
    for text in [kustomization, example] {
        let target = &parsed[0].environments()[0].target;
        let repository = "127.0.0.1:5000/team/donkeycar".parse().unwrap();
        let found = target.look(text.as_bytes(), &repository).unwrap();
        assert!(found.digest.is_some(), "{found:?}");
    }
}
