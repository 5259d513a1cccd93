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

#[test]
fn a_broken_set_keeps_the_one_before() {
    const PASS: &str = "{ static: { action: pass } }";
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("policies");
    fs::create_dir(&folder).unwrap();
    let files = PolicyFiles { paths: vec![folder.clone()], keys: Keys::default() };
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
    let mut keys = Keys::default();
    keys.add(&format!("lab={}", key.display()));
    let policies =
        Policies::open(PolicyFiles { paths: vec![file], keys }, places(dir.path())).unwrap();
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
