//! Files that people and repositories write: YAML, key files, kustomizations.

use std::{collections::BTreeMap, fs, path::Component};

use pitlane_gitops::{Pin, Target as Scalar};
use pitlane_pipeline::{config::Pipeline, sign::keyfile};
use pitlane_release::{Digest, ModelCard, Repository, yaml};
use pitlane_verifier::{
    agent::{config::CarFile, gitops::wanted},
    device::profile::CarProfile,
};

use super::{fresh_folder, text};
use crate::{Reached, Target};

const YAML: &[&str] = &[
    ": ",
    "- ",
    "\n  ",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">-\n",
    "? ",
    "!!str ",
    "#",
    "---\n",
    "...\n",
    "{a: [b, c]}",
    "\"\\x00\"",
    "0x10",
    "0o7",
    "1e3",
    ".inf",
    "~",
    "yes",
    "\t",
];

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "yaml",
        run: any_yaml,
        more: &["pipelines/donkeycar.yaml", "examples/gitops/car/*.yaml"],
        words: YAML,
        max: 12_000,
    },
    Target {
        name: "model-card",
        run: model_card,
        more: &["examples/donkeycar/models/*.yaml", "car-image/tests/data/*.yaml"],
        words: &["shape: [1, 120, 160, 3]", "NCHW", "BGR", "cropTop: 9", "mean: []", "std: [0]"],
        max: 4_000,
    },
    Target {
        name: "pipeline-file",
        run: pipeline_file,
        more: &["pipelines/donkeycar.yaml"],
        words: &["platforms: []", "../", "url: ext::sh", "url: -x", "laps: 0", "runs: []"],
        max: 6_000,
    },
    Target {
        name: "car-file",
        run: car_file,
        more: &[],
        words: &["profile:", "binds:", "env: { LD_PRELOAD: x }", "devices:", "url: ext::sh", "../"],
        max: 4_000,
    },
    Target {
        name: "kustomization",
        run: kustomization,
        more: &["examples/gitops/car/kustomization.yaml"],
        words: YAML,
        max: 3_000,
    },
    Target { name: "gitops-file", run: gitops_file, more: &[], words: YAML, max: 3_000 },
    Target {
        name: "key-file",
        run: key_file,
        more: &[],
        words: &[
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----",
            "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----",
            "{\"N\":1073741824}",
        ],
        max: 18_000,
    },
];

fn any_yaml(input: &[u8]) -> Reached {
    let value = yaml::read::<serde_json::Value>(text(input), 64 * 1024);
    if let Ok(value) = &value {
        // Aliases may expand, within the reader's budget: not into something out of proportion.
        assert!(nodes(value) <= 300_000, "{} nodes", nodes(value));
    }
    Reached::of(&value).and(Reached::of(&yaml::read::<BTreeMap<String, String>>(text(input), 64)))
}

fn nodes(value: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Object};
    1 + match value {
        Array(list) => list.iter().map(nodes).sum(),
        Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

fn model_card(input: &[u8]) -> Reached {
    let card = ModelCard::parse(text(input));
    if let Ok(card) = &card {
        let pixels = u64::from(card.input.width()) * u64::from(card.input.height());
        assert!((1..=4096 * 4096).contains(&pixels), "{pixels} pixels");
        assert!(card.input.crop_top < card.input.height(), "nothing of the picture is left");
    }
    Reached::of(&card)
}

fn pipeline_file(input: &[u8]) -> Reached {
    let file = fresh_folder().join("car.yaml");
    fs::write(&file, input).unwrap();
    let loaded = Pipeline::load(&file);
    if let Ok(pipeline) = &loaded {
        for path in [&pipeline.spec.model.path, &pipeline.spec.model.card_path()] {
            let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            assert!(inside, "{}", path.display());
        }
        assert!(!pipeline.spec.source.url.starts_with(['-']), "git would take it for an option");
    }
    Reached::of(&loaded.map_err(|error| format!("{error:#}")))
}

fn car_file(input: &[u8]) -> Reached {
    let file = fresh_folder().join("car.yaml");
    fs::write(&file, input).unwrap();
    let loaded = CarFile::load(&file);
    if let Ok(car) = &loaded {
        assert!(car.state.is_absolute() && car.run.is_absolute() && car.policy.is_absolute());
    }
    let profile = CarProfile::parse(text(input));
    if let Ok(profile) = &profile {
        let loads = |name: &String| name.starts_with("LD_") && name != "LD_LIBRARY_PATH";
        assert!(!profile.env.keys().any(loads), "{:?}", profile.env);
    }
    Reached::of(&loaded.map_err(|error| format!("{error:#}"))).and(Reached::of(&profile))
}

/// The editor's reading and the car's reading of one file agree.
fn kustomization(input: &[u8]) -> Reached {
    let repository: Repository = "127.0.0.1:5000/team/donkeycar".parse().unwrap();
    let pin = Pin { digest: Digest::from_bytes([7; 32]), tag: "v7.0.0".into() };
    let target = Scalar::Kustomize { file: "kustomization.yaml".into(), image: "donkeycar".into() };
    let edited = target.set(text(input).as_bytes(), &repository, &pin);
    let wish = wanted(text(input), "donkeycar");
    if let Ok(edited) = &edited {
        let now = wanted(&edited.text, "donkeycar").expect("what was edited can be read");
        assert_eq!(now, repository.pin(pin.digest));
        if let Ok(wish) = &wish {
            assert_eq!(wish.digest.to_string(), edited.from);
        }
        let again = target.set(edited.text.as_bytes(), &repository, &pin).unwrap();
        assert_eq!(again.text, edited.text, "the same edit again changes nothing");
    }
    let edited = edited.map_err(|error| format!("{error:#}"));
    Reached::of(&edited).and(Reached::of(&wish.map_err(|error| format!("{error:#}"))))
}

/// Files of all other kinds: what was written is found there, once and for all.
fn gitops_file(input: &[u8]) -> Reached {
    let repository: Repository = "127.0.0.1:5000/team/donkeycar".parse().unwrap();
    let pin = Pin { digest: Digest::from_bytes([7; 32]), tag: "v7.0.0".into() };
    let (file, name) = (std::path::PathBuf::from("f.yaml"), || "car".to_owned());
    let targets = [
        Scalar::Kubernetes { file: file.clone(), container: name(), workload: None },
        Scalar::Helm { file: file.clone(), path: name() },
        Scalar::Compose { file: file.clone(), service: name() },
        Scalar::ArgoImage { file: file.clone(), image: name() },
        Scalar::ArgoParameter { file: file.clone(), parameter: name() },
        Scalar::Flux { file, policy: "ns:car".into() },
    ];
    let mut reached = Vec::new();
    for target in targets {
        let edited = target.set(input, &repository, &pin);
        if let Ok(edited) = &edited {
            let found = target.look(edited.text.as_bytes(), &repository).unwrap();
            assert_eq!(found.digest, Some(pin.digest), "{target}");
            let again = target.set(edited.text.as_bytes(), &repository, &pin).unwrap();
            assert_eq!(again.text, edited.text, "{target}");
            let lines = |text: &[u8]| text.split(|b| *b == b'\n').count();
            assert_eq!(lines(input), lines(edited.text.as_bytes()), "{target}: in its line");
        }
        reached.push(Reached::of(&edited.map_err(|error| format!("{error:#}"))));
    }
    reached.into_iter().reduce(Reached::and).expect("there are targets")
}

fn key_file(input: &[u8]) -> Reached {
    let opened = keyfile::decrypt(text(input), "fuzz");
    Reached::of(&opened.map(|_| ()).map_err(|error| format!("{error:#}")))
}
