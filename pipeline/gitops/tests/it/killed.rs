//! `kill -9` at each git command, before and after it ran: repeated, there is one commit, and the
//! answer names it.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::world::{World, commit_of};

/// Set for the process that is killed: where its world is.
const CHILD: &str = "PITLANE_GITOPS_CHILD";

/// What the killed process does; by itself it is no test.
#[tokio::test]
async fn child() {
    let Some(url) = std::env::var_os(CHILD) else { return };
    let url = url.into_string().unwrap();
    let copies = std::env::temp_dir();
    let text = format!("url: {url}\nfile: car/kustomization.yaml\nimage: car\n");
    let config = crate::world::config(&text);
    let promoter = pitlane_gitops::Promoter {
        config: &config,
        forge: &pitlane_gitops::PlainGit,
        dir: &copies,
    };
    let environment = config.environments().remove(0);
    promoter.promote(&environment, &crate::world::candidate(1)).await.unwrap();
}

/// A `git` in front of git that kills its parent at its Nth call.
fn install(world: &World, at: usize, before: bool) -> std::path::PathBuf {
    let dir = world.dir.path().join("bin");
    fs::create_dir_all(&dir).unwrap();
    let real = Command::new("sh").args(["-c", "command -v git"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let calls = world.dir.path().join("calls");
    fs::create_dir_all(&calls).unwrap();
    // Making a folder is what two calls at once cannot both do.
    let script = format!(
        "#!/bin/sh\nn=1\nuntil mkdir {calls}/$n 2>/dev/null; do n=$((n+1)); done\n\
         if [ $n -ne {at} ]; then exec {real} \"$@\"; fi\n{run}\nkill -9 $PPID\n",
        calls = calls.display(),
        real = real.trim(),
        run = if before { String::new() } else { format!("{} \"$@\" > /dev/null", real.trim()) },
    );
    let file = dir.join("git");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn a_kill_at_each_command_leaves_one_commit() {
    let mut killed = 0;
    for at in 1..=6 {
        for before in [true, false] {
            let world = World::new();
            let bin = install(&world, at, before);
            let copies = world.dir.path().join("child");
            fs::create_dir(&copies).unwrap();
            let path = std::env::var("PATH").unwrap();
            let ran = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "killed::child", "--nocapture"])
                .env(CHILD, world.bare())
                .env("TMPDIR", &copies)
                .env("PATH", format!("{}:{path}", bin.display()))
                .output()
                .unwrap();
            assert!(!ran.status.success(), "it was killed at command {at}");
            killed += 1;
            let landed = world.count();
            assert!(landed <= 2, "at {at}");
            let promoted = world.promote(1).await;
            assert_eq!(world.count(), 2, "at {at}: one commit");
            assert_eq!(commit_of(&promoted), world.head(), "at {at}");
            if at == 6 {
                assert_eq!(landed, if before { 1 } else { 2 }, "the last command is the push");
            }
        }
    }
    assert_eq!(killed, 12);
}

/// The control: without a kill the child does promote.
#[test]
fn the_child_promotes_when_nobody_kills_it() {
    let world = World::new();
    let bin = install(&world, 1000, true);
    let path = std::env::var("PATH").unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--nocapture"])
        .env(CHILD, world.bare())
        .env("TMPDIR", world.copies())
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(world.count(), 2);
}
