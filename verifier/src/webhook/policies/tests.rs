//! Sets that change under a running program.

use super::*;
use pitlane_fetch::{Layout, Source};
use std::fs;

fn policy(name: &str, authority: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n\
         metadata: {{ name: {name} }}\nspec:\n  images: [{{ glob: \"r.example/**\" }}]\n  \
         authorities: [{authority}]\n"
    )
}

fn places(dir: &Path) -> Arc<Places> {
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    Arc::new(Places { open: Source::Layout(Layout::open(dir).unwrap()), login: None })
}

/// One policy for r.example, before registries that have nothing; and its folder.
pub(in crate::webhook) fn open_one() -> (tempfile::TempDir, Arc<Policies>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    fs::write(&file, policy("p", "{ static: { action: pass } }")).unwrap();
    let files = PolicyFiles { paths: vec![file], names: Names::default() };
    let policies = Policies::open(files, places(dir.path())).unwrap();
    (dir, Arc::new(policies))
}

#[test]
fn a_policy_that_cannot_be_read_is_not_left_out() {
    const PASS: &str = "{ static: { action: pass } }";
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("policies");
    fs::create_dir_all(folder.join("folder.yaml")).unwrap();
    for name in ["a", "b"] {
        fs::write(folder.join(format!("{name}.yaml")), policy(name, PASS)).unwrap();
    }
    let files = PolicyFiles { paths: vec![folder.clone()], names: Names::default() };
    let policies = Policies::open(files, places(dir.path())).unwrap();
    assert_eq!(policies.set().judge.len(), 2, "a folder is no policy");

    let b = folder.join("b.yaml");
    let link = |to: &str| {
        let _ = fs::remove_file(&b);
        std::os::unix::fs::symlink(to, &b).unwrap();
    };
    // To nowhere, in a circle, and to what is no file.
    for to in ["../gone.yaml", "b.yaml", "/dev/null"] {
        link(to);
        let Look::Broken(why) = policies.look() else { panic!("{to}") };
        assert!(why.contains("b.yaml"), "{why}");
        assert_eq!((policies.set().generation, policies.set().judge.len()), (1, 2), "{to}");
    }
    fs::write(dir.path().join("there.yaml"), policy("b", PASS)).unwrap();
    link("../there.yaml");
    assert_eq!(policies.look(), Look::Changed(2));
}

#[test]
fn a_policy_that_guards_nothing_is_no_policy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    let text = policy("p", "{ static: { action: fail } }");
    let places = places(dir.path());
    for (glob, usable) in
        [("r.example/**", true), ("r.example:443/**", false), ("docker.io/**", false)]
    {
        fs::write(&file, text.replace("r.example/**", glob)).unwrap();
        let files = PolicyFiles { paths: vec![file.clone()], names: Names::default() };
        let opened = Policies::open(files, Arc::clone(&places));
        let why = opened.err().map(|error| format!("{error:#}"));
        assert_eq!(why.is_none(), usable, "{glob}: {why:?}");
        assert!(why.is_none_or(|why| why.contains(glob) && why.contains("index.docker.io")));
    }
}

#[test]
fn a_broken_set_keeps_the_one_before() {
    const PASS: &str = "{ static: { action: pass } }";
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("policies");
    fs::create_dir(&folder).unwrap();
    let files = PolicyFiles { paths: vec![folder.clone()], names: Names::default() };
    let places = places(dir.path());
    let error = Policies::open(files.clone(), Arc::clone(&places)).unwrap_err();
    assert!(format!("{error:#}").contains("no policy in this folder"));

    fs::write(folder.join("a.yaml"), policy("a", PASS)).unwrap();
    fs::write(folder.join("note.txt"), "not a policy").unwrap();
    let policies = Policies::open(files, places).unwrap();
    assert_eq!(policies.look(), Look::Same);
    fs::write(folder.join("b.yaml"), policy("b", PASS)).unwrap();
    assert_eq!(policies.look(), Look::Changed(2));
    assert_eq!((policies.set().generation, policies.set().judge.len()), (2, 2));

    for (text, want) in [
        (policy("a", PASS), "another policy has the name `a`"),
        (policy("b", "{ static: { action: maybe } }"), "maybe"),
        ("kind: [".into(), "b.yaml"),
        ("x".repeat(MAX_POLICY + 1), "larger than"),
    ] {
        fs::write(folder.join("b.yaml"), text).unwrap();
        let Look::Broken(why) = policies.look() else { panic!("{want}") };
        assert!(why.contains(want) && policies.trouble() == Some(why.clone()), "{why}");
        assert_eq!(policies.look(), Look::Same, "said once");
        assert_eq!((policies.set().generation, policies.set().judge.len()), (2, 2));
    }
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(policies.look(), Look::Broken(_)));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), policy("a", PASS)).unwrap();
    assert_eq!(policies.look(), Look::Changed(1));
    assert_eq!((policies.set().generation, policies.trouble()), (3, None));
}

#[test]
fn a_key_that_changes_makes_a_new_set() {
    let pem = || {
        let signing = p256_key();
        fs::write(signing.0.path().join("k.pub"), signing.1).unwrap();
        signing.0
    };
    let dir = pem();
    let key = dir.path().join("k.pub");
    let file = dir.path().join("p.yaml");
    fs::write(&file, policy("p", "{ key: { secretRef: { name: lab } } }")).unwrap();
    let mut names = Names::default();
    names.add_key(&format!("lab={}", key.display()));
    let policies =
        Policies::open(PolicyFiles { paths: vec![file], names }, places(dir.path())).unwrap();
    fs::write(&key, p256_key().1).unwrap();
    assert_eq!(policies.look(), Look::Changed(1));
    fs::remove_file(&key).unwrap();
    assert!(matches!(policies.look(), Look::Broken(why) if why.contains("k.pub")));
}

/// A public key as PEM, and a folder for it.
fn p256_key() -> (tempfile::TempDir, String) {
    let pair = rcgen::KeyPair::generate().unwrap();
    (tempfile::tempdir().unwrap(), pair.public_key_pem())
}
