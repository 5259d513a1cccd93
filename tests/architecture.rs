//! The arrows between the crates, what `release` may not touch, and words that no file may hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_release::Policy;

use crate::common::{bin, json, repository, run};

/// Who may use whom among the workspace's crates; everything else is refused.
const ARROWS: &[(&str, &[&str])] = &[
    ("pitlane-release", &[]),
    ("pitlane-fetch", &["pitlane-release"]),
    // Speaks to container engines.
    ("pitlane-builder", &["pitlane-release"]),
    // Decides by reports of others, and runs what writes them.
    ("pitlane-gates", &["pitlane-release"]),
    // The lab is for its tests.
    ("pitlane-github", &["pitlane-github-lab", "pitlane-release"]),
    ("pitlane-gitops", &["pitlane-fetch", "pitlane-release"]),
    // Tells others what happened; the only crate that speaks to chats and brokers.
    ("pitlane-notify", &["pitlane-release"]),
    // Pushes to our own registry in its tests.
    ("pitlane-push", &["pitlane-fetch", "pitlane-registry", "pitlane-release"]),
    ("pitlane-registry", &["pitlane-release"]),
    ("pitlane-runs", &["pitlane-release"]),
    (
        "pitlane-pipeline",
        &[
            "pitlane-builder",
            "pitlane-fetch",
            "pitlane-gates",
            "pitlane-github",
            "pitlane-gitops",
            "pitlane-notify",
            "pitlane-push",
            "pitlane-registry",
            "pitlane-release",
            "pitlane-runs",
        ],
    ),
    ("pitlane-verifier", &["pitlane-fetch", "pitlane-release"]),
    ("pitlane-car", &["pitlane-release"]),
    ("pitlane-twin", &["pitlane-release"]),
    // Judge nothing of ours by our own code.
    ("pitlane-github-lab", &[]),
    ("pitlane-sigstore-lab", &[]),
    // Every parser of strangers' bytes, wherever it is; nobody uses this crate.
    (
        "pitlane-fuzz",
        &[
            "pitlane-car",
            "pitlane-fetch",
            "pitlane-gates",
            "pitlane-gitops",
            "pitlane-pipeline",
            "pitlane-release",
            "pitlane-sigstore-lab",
            "pitlane-twin",
            "pitlane-verifier",
        ],
    ),
];
/// What would bring I/O, clocks or an executor into the decisions.
const NOT_IN_RELEASE: [&str; 8] =
    ["tokio", "reqwest", "hyper", "axum", "oci-client", "rusqlite", "tempfile", "nix"];
const NOT_IN_RELEASE_SOURCE: [&str; 12] = [
    // Addresses may be parsed, sockets not opened.
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::fs",
    "std::process",
    "std::env::var",
    "std::env::args",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
];

/// Crate → what its manifest names, for building and (second) for tests.
type Manifests = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn manifests() -> Manifests {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--locked"]);
    let metadata = json(run(cargo.current_dir(repository())).ok());
    let packages = metadata["packages"].as_array().unwrap();
    let mut found = BTreeMap::new();
    for package in packages {
        let (mut build, mut test) = (BTreeSet::new(), BTreeSet::new());
        for dependency in package["dependencies"].as_array().unwrap() {
            let of_tests = dependency["kind"] == "dev";
            let names = if of_tests { &mut test } else { &mut build };
            names.insert(dependency["name"].as_str().unwrap().to_owned());
        }
        found.insert(package["name"].as_str().unwrap().to_owned(), (build, test));
    }
    found
}

/// What breaks the arrows.
fn wrong_arrows(manifests: &Manifests) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, (build, test)) in manifests {
        let used = build.iter().chain(test).filter(|used| manifests.contains_key(*used));
        if name == "pitlane-tests" {
            wrong.extend(build.iter().map(|used| format!("{name} must use {used} in tests alone")));
        } else if let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) {
            let wrongly = used.filter(|used| !allowed.contains(&used.as_str()));
            wrong.extend(wrongly.map(|used| format!("{name} must not use {used}")));
        } else {
            wrong.push(format!("{name} is new: say in ARROWS what it may use"));
        }
    }
    let gone = ARROWS.iter().filter(|(name, _)| !manifests.contains_key(*name));
    wrong.extend(gone.map(|(name, _)| format!("{name} is gone: take it out of ARROWS")));
    wrong
}

#[test]
fn crates_depend_only_inwards() {
    let mut manifests = manifests();
    assert_eq!(wrong_arrows(&manifests), [""; 0]);
    for (from, to) in [
        ("pitlane-verifier", "pitlane-pipeline"),
        ("pitlane-pipeline", "pitlane-twin"),
        ("pitlane-release", "pitlane-fetch"),
        ("pitlane-fetch", "pitlane-verifier"),
    ] {
        let before = manifests.clone();
        manifests.get_mut(from).unwrap().1.insert(to.to_owned());
        assert_eq!(wrong_arrows(&manifests), [format!("{from} must not use {to}")]);
        manifests = before;
    }
    manifests.insert("pitlane-new".to_owned(), Default::default());
    manifests.remove("pitlane-twin");
    assert_eq!(wrong_arrows(&manifests).len(), 2);
}

#[test]
fn release_decides_without_io() {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["tree", "-p", "pitlane-release", "--all-features", "--edges", "normal"]);
    cargo.args(["--prefix", "none", "--format", "{p}", "--offline", "--locked"]);
    let tree = run(cargo.current_dir(repository())).ok();
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("serde"), "the tree was not read: {tree}");
    for name in NOT_IN_RELEASE {
        assert!(!names.contains(name), "pitlane-release must not depend on {name}");
    }
    let sources = files(&repository().join("release/src"), "rs");
    assert!(sources.len() > 10, "only {sources:?}");
    for file in sources {
        let text = fs::read_to_string(&file).unwrap();
        // Tests may do what decisions may not.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in NOT_IN_RELEASE_SOURCE {
            assert!(!code.contains(word), "{}: `{word}` is I/O or a clock", file.display());
        }
    }
}

/// Policies by the library, pipelines by the program that reads them.
#[test]
fn the_operators_files_parse() {
    let policies = files(&repository().join("policies"), "yaml");
    assert!(policies.len() >= 2, "{policies:?}");
    let keys = tempfile::tempdir().unwrap();
    let mut generate = Command::new(bin("pitlane"));
    generate.args(["keys", "generate", "--out"]).arg(keys.path()).env("COSIGN_PASSWORD", "x");
    run(&mut generate).ok();
    let key = fs::read_to_string(keys.path().join("release.pub")).unwrap();
    for file in policies {
        let text = fs::read_to_string(&file).unwrap();
        let parsed = Policy::parse(&text, &|_: &str| Some(key.clone()));
        assert!(parsed.is_ok(), "{}: {parsed:?}", file.display());
        let named = text.contains("secretRef");
        let alone = Policy::parse(&text, &|_: &str| None);
        assert_eq!(alone.is_err(), named, "{}: a key that is only named", file.display());
    }
    for file in files(&repository().join("pipelines"), "yaml") {
        if !file.to_str().unwrap().ends_with(".lock.yaml") {
            let parsed = pitlane_pipeline::config::Pipeline::load(&file);
            assert!(parsed.is_ok(), "{parsed:?}");
        }
    }
}

/// Files below a folder with an ending, without what is built.
fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", ".venv", "__pycache__"].contains(&&*name) {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Places of one machine, package and image hosts, and loose ends have no place in the tree.
#[test]
fn sources_name_no_machine_and_no_host() {
    // Written in pieces, so that this file does not find itself.
    let words = [
        concat!("/ro", "ot/."),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/t-"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("ghcr", ".io/"),
        concat!("quay", ".io/"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("crates", ".io/"),
        concat!("deb.debian", ".org"),
    ];
    let endings = ["rs", "py", "sh", "yaml", "yml", "toml", "md", "json"];
    let mut wrong = Vec::new();
    for file in endings.iter().flat_map(|ending| files(&repository(), ending)) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
