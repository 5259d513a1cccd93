//! What a provenance says a release is made of, checked against the release itself. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, ensure};
use pitlane_release::{
    Digest, Platform, Refusal,
    provenance::{BUILD_TYPE, LayerParameters, PROVENANCE, Provenance},
    statement::{Release, Statement},
};

use crate::{attest::BY_FILE, claim::refuse};

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
    let of_platforms = |what: &str| {
        let platforms = release.platforms.keys();
        let found = platforms.map(|p| anyhow::Ok((*p, named(&format!("{what} {p}"))?)));
        found.collect::<anyhow::Result<BTreeMap<_, _>>>()
    };
    let url = outside.source.uri.strip_prefix("git+").unwrap_or(&outside.source.uri);
    Ok(Recipe {
        url: (!url.starts_with("local:")).then(|| url.to_owned()),
        model: From::of(&outside.model),
        card: From::of(outside.card.as_ref().with_context(older)?),
        model_digest: named("model")?,
        card_digest: named("card")?,
        base: of_platforms("base")?,
        runtime: of_platforms("runtime")?,
        created: image.created.clone(),
        builder: statement.predicate.run_details.builder.id.clone(),
    })
}
