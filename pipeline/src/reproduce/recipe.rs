//! What a provenance says a release is made of, checked against the release itself. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use pitlane_fetch::git;
use pitlane_release::{
    Digest, Platform, Refusal,
    provenance::{BUILD_TYPE, DOCKERFILE_BUILD_TYPE, LayerParameters, PROVENANCE, Provenance},
    statement::{Release, Statement},
};

use crate::{attest::BY_FILE, claim::refuse, dependencies::ORIGINAL};

/// Everything that a build needs to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Where the source was, if that is a place that others can reach.
    pub(super) url: Option<String>,
    pub(super) model: From,
    pub(super) card: From,
    pub(super) model_digest: Digest,
    pub(super) card_digest: Digest,
    pub(super) base: BTreeMap<Platform, Digest>,
    pub(super) runtime: BTreeMap<Platform, Digest>,
    /// The time in the images.
    pub(super) created: String,
    pub(super) builder: String,
}

/// Where a file came from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum From {
    /// From this path of the commit.
    Commit(PathBuf),
    /// From a file of this name on the pipeline's machine.
    File(String),
}

impl From {
    fn of(text: &str) -> Self {
        match text.strip_prefix(BY_FILE) {
            Some(name) => Self::File(name.to_owned()),
            None => Self::Commit(text.into()),
        }
    }

    /// Its path in the commit, if it is from there.
    pub(super) fn in_commit(&self) -> Option<&Path> {
        match self {
            Self::Commit(path) => Some(path),
            Self::File(_) => None,
        }
    }
}

/// Reads a provenance that a key of the policy signed.
pub(super) fn recipe(
    release: &Release,
    statements: &[Statement<Provenance>],
) -> anyhow::Result<Recipe> {
    let wrong = |why: &str| refuse(&Refusal::WrongProvenance(why.to_owned()));
    let about_all = |s: &&Statement<Provenance>| {
        release.platforms.values().all(|manifest| s.is_about(manifest))
    };
    let statement = statements.iter().find(about_all);
    let statement = statement.ok_or_else(|| wrong("it speaks of another image"))?;
    let built = &statement.predicate.build_definition;
    let (outside, inside) = (&built.external_parameters, built.internal_parameters.as_ref());
    ensure!(
        built.build_type != DOCKERFILE_BUILD_TYPE,
        "it was built from a Dockerfile, whose steps date what they write: the same inputs give \
         other digests, so it cannot be reproduced (docs/reproduce.md)"
    );
    if built.build_type != BUILD_TYPE {
        return Err(wrong(&format!("build type `{}`", built.build_type)));
    }
    if outside.source.reference != format!("refs/tags/{}", release.source.tag) {
        return Err(wrong(&format!("built from `{}`", outside.source.reference)));
    }
    let commit = |dependency: &pitlane_release::lap::Resource| {
        dependency.digest.get("gitCommit").is_some_and(|c| c == release.source.commit.as_str())
    };
    if !built.resolved_dependencies.iter().any(commit) {
        return Err(wrong(&format!("it does not name commit {}", release.source.commit)));
    }
    let repository = &release.source.repository;
    if let Some(other) = outside.source.repository.as_ref().filter(|named| *named != repository) {
        return Err(wrong(&format!("built from the repository `{other}`, not {repository}")));
    }
    if let Some(other) = inside.filter(|inside| inside.pipeline_digest != release.pipeline) {
        let (other, want) = (other.pipeline_digest, release.pipeline);
        return Err(wrong(&format!("built by the pipeline file {other}, not {want}")));
    }
    let older = || format!("its {PROVENANCE} is of an older version, which did not say enough");
    let image = inside.and_then(|inside| inside.image.as_ref()).with_context(older)?;
    let (current, theirs) = (LayerParameters::current(), &image.layers);
    ensure!(
        *theirs == current,
        "its layers were packed as {theirs:?}, this version does {current:?}"
    );
    let named = |name: &str| {
        built.dependency(name).ok_or_else(|| wrong(&format!("it does not name its {name}")))
    };
    let model_digest = named("model")?;
    if model_digest != release.model.digest {
        let want = release.model.digest;
        return Err(wrong(&format!("it names the model {model_digest}, the release {want}")));
    }
    let of_platforms = |what: &str| {
        let platforms = release.platforms.keys();
        let found = platforms.map(|p| anyhow::Ok((*p, named(&format!("{what} {p}"))?)));
        found.collect::<anyhow::Result<BTreeMap<_, _>>>()
    };
    let url = outside.source.uri.strip_prefix("git+").unwrap_or(&outside.source.uri);
    // A document from elsewhere does not say which folders of this machine are read.
    if git::is_local(url) {
        return Err(wrong(&format!("its source is `{url}`, a path that means nothing here")));
    }
    git::check_url(url).map_err(|why| wrong(&why))?;
    Ok(Recipe {
        url: (!url.starts_with("local:")).then(|| url.to_owned()),
        // What the commit has is the original, and nobody else converts it to the same bytes.
        model: match built.dependency(ORIGINAL) {
            Some(_) => From::File(format!("{} (converted)", outside.model)),
            None => From::of(&outside.model),
        },
        card: From::of(outside.card.as_ref().with_context(older)?),
        model_digest,
        card_digest: named("card")?,
        base: of_platforms("base")?,
        runtime: of_platforms("runtime")?,
        created: image.created.clone(),
        builder: statement.predicate.run_details.builder.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parts() -> (Value, Value) {
        let digest = |text: &str| Digest::of(text).to_string();
        let release = json!({
            "carKind": "car", "counter": 1, "pipeline": digest("p"), "index": digest("i"),
            "source": { "repository": "team/car", "tag": "v1", "commit": "1".repeat(40) },
            "model": { "digest": digest("model"), "layer": digest("l") },
            "platforms": { "linux/amd64": digest("amd64") },
            "evidence": [], "issuedAt": "2026-01-02T03:04:05Z",
        });
        let named =
            |name: &str| json!({ "name": name, "digest": { "sha256": Digest::of(name).hex() } });
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": PROVENANCE,
            "subject": [{ "digest": { "sha256": Digest::of("amd64").hex() } }],
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "source": { "uri": "git+https://h.example/car", "ref": "refs/tags/v1",
                                    "repository": "team/car" },
                        "pipeline": "car", "model": "models/pilot.onnx", "card": "file:p.yaml",
                        "platforms": ["linux/amd64"],
                    },
                    "internalParameters": {
                        "pipelineDigest": digest("p"), "carKind": "car",
                        "image": { "created": "2026-01-01T00:00:00Z",
                                   "layers": LayerParameters::current() },
                    },
                    "resolvedDependencies": [
                        { "name": "source", "digest": { "gitCommit": "1".repeat(40) } },
                        named("model"), named("card"), named("base linux/amd64"),
                        named("runtime linux/amd64"),
                    ],
                },
                "runDetails": {
                    "builder": { "id": "https://b.example" },
                    "metadata": { "invocationId": "r", "startedOn": "2026-01-02T03:04:05Z",
                                  "finishedOn": "2026-01-02T03:04:05Z" },
                },
            },
        });
        (release, statement)
    }

    fn read(edit: impl Fn(&mut Value)) -> anyhow::Result<Recipe> {
        let (release, mut statement) = parts();
        edit(&mut statement);
        let release: Release = serde_json::from_value(release)?;
        recipe(&release, &[serde_json::from_value(statement)?])
    }

    #[test]
    fn a_complete_provenance_is_a_recipe() {
        let recipe = read(|_| ()).unwrap();
        assert_eq!(recipe.url.as_deref(), Some("https://h.example/car"));
        assert_eq!(recipe.model, From::Commit("models/pilot.onnx".into()));
        assert_eq!(recipe.card, From::File("p.yaml".into()));
        assert_eq!(recipe.runtime[&Platform::LinuxAmd64], Digest::of("runtime linux/amd64"));
        let local = read(|s| from(s, "git+local:team/car"));
        assert_eq!(local.unwrap().url, None, "nobody else can reach it");
    }

    fn from(statement: &mut Value, uri: &str) {
        let outside = &mut statement["predicate"]["buildDefinition"]["externalParameters"];
        outside["source"]["uri"] = uri.into();
    }

    #[test]
    fn what_does_not_fit_or_is_missing_is_refused() {
        type Edit = fn(&mut Value);
        let table: [(&str, Edit); 17] = [
            ("another image", |s| s["subject"] = json!([])),
            ("build type", |s| s["predicate"]["buildDefinition"]["buildType"] = "other".into()),
            ("built from a Dockerfile", |s| {
                s["predicate"]["buildDefinition"]["buildType"] = DOCKERFILE_BUILD_TYPE.into();
            }),
            ("refs/tags/v2", |s| {
                s["predicate"]["buildDefinition"]["externalParameters"]["source"]["ref"] =
                    "refs/tags/v2".into();
            }),
            ("does not name commit", |s| {
                let all = &mut s["predicate"]["buildDefinition"]["resolvedDependencies"];
                all[0]["digest"]["gitCommit"] = "2".repeat(40).into();
            }),
            ("the repository `team/other`", |s| {
                let source = &mut s["predicate"]["buildDefinition"]["externalParameters"]["source"];
                source["repository"] = "team/other".into();
            }),
            ("built by the pipeline file", |s| {
                let inside = &mut s["predicate"]["buildDefinition"]["internalParameters"];
                inside["pipelineDigest"] = Digest::of("other").to_string().into();
            }),
            ("it names the model", |s| {
                let all = &mut s["predicate"]["buildDefinition"]["resolvedDependencies"];
                all[1]["digest"]["sha256"] = Digest::of("other").hex().into();
            }),
            ("its source is `/srv/car`", |s| from(s, "git+/srv/car")),
            ("its source is `file:///srv/car`", |s| from(s, "git+file:///srv/car")),
            ("its source is `../car`", |s| from(s, "../car")),
            ("carries credentials", |s| from(s, "git+https://me:pw@h.example/car")),
            ("its model", |s| {
                s["predicate"]["buildDefinition"]["resolvedDependencies"][1]["name"] = "x".into();
            }),
            ("its runtime linux/amd64", |s| {
                let all = &mut s["predicate"]["buildDefinition"]["resolvedDependencies"];
                all[4]["digest"] = json!({ "sha512": "00" });
            }),
            ("older version", |s| {
                let built = &mut s["predicate"]["buildDefinition"];
                built["externalParameters"].as_object_mut().unwrap().remove("card");
            }),
            ("older version", |s| {
                let built = &mut s["predicate"]["buildDefinition"];
                built["internalParameters"].as_object_mut().unwrap().remove("image");
            }),
            ("packed as", |s| {
                let image = &mut s["predicate"]["buildDefinition"]["internalParameters"]["image"];
                image["layers"]["runtime"] = "tar+zstd".into();
            }),
        ];
        for (want, edit) in table {
            let error = format!("{:#}", read(edit).unwrap_err());
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
