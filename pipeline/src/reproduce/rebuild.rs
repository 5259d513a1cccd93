//! The files, the build, and the comparison.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use pitlane_release::{
    Digest, Platform,
    oci::{self, ImageManifest},
    provenance::{PROVENANCE, Provenance},
};
use sha2::Digest as _;

use super::{
    NOT_LOOKED_AT, Report, Row,
    recipe::{From, Recipe, recipe},
};
use crate::{
    assemble::{self, Assembled, Blob, Inputs, base, image::EPOCH},
    checkout::{self, Wanted},
    claim::Claim,
};

/// Largest model that is built again (bytes): far above any contract's `maxBytes`.
const MAX_MODEL: u64 = 4 * 1024 * 1024 * 1024;
/// Largest runtime that is hashed (bytes).
const MAX_RUNTIME: u64 = 256 * 1024 * 1024;

/// The files that a release is built from again, wherever they lie.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The base's OCI layout.
    pub base: &'a Path,
    /// Platform → runtime binary.
    pub runtime: &'a BTreeMap<Platform, PathBuf>,
    /// The car repository; when absent, the provenance's own, if something of it is needed.
    pub repo: Option<&'a str>,
    /// The model, instead of the commit's.
    pub model: Option<&'a Path>,
    /// The card, instead of the commit's.
    pub card: Option<&'a Path>,
    /// Where things may be written; empty.
    pub work: &'a Path,
}

/// Builds a release again and compares.
///
/// # Errors
/// A refusal when statement or provenance do not count; any other error when something that is
/// needed cannot be had, so that nothing is known.
pub async fn reproduce(claim: &Claim<'_>, files: &Files<'_>) -> anyhow::Result<Report> {
    let release = &claim.release;
    let provenance = claim.evidence::<Provenance>(PROVENANCE, "provenance").await?;
    let statements: Vec<_> = provenance.into_iter().map(|(_, statement)| statement).collect();
    let recipe = recipe(release, &statements)?;
    for platform in recipe.runtime.keys() {
        if !files.runtime.contains_key(platform) {
            bail!("no runtime for {platform}: give it with --runtime {platform}=FILE");
        }
    }
    let taken = take(claim, &recipe, files).await?;
    let mut inputs = taken.rows;
    inputs.push(Row::new("model", &recipe.model_digest, &hash_file(&taken.model, MAX_MODEL)?));
    inputs.push(Row::new("card", &recipe.card_digest, &Digest::of(&taken.card)));
    for (platform, want) in &recipe.base {
        inputs.extend(base_rows(files.base, *platform, want)?);
    }
    for (platform, want) in &recipe.runtime {
        let got = hash_file(&files.runtime[platform], MAX_RUNTIME)?;
        inputs.push(Row::new(format!("runtime {platform}"), want, &got));
    }

    let source = &release.source;
    let notes = assemble::image::notes(
        &source.repository,
        &source.commit,
        source.tag.as_str(),
        &release.car_kind,
    );
    let platforms: Vec<Platform> = release.platforms.keys().copied().collect();
    let built = assemble::assemble(&Inputs {
        base: files.base,
        runtime: files.runtime,
        platforms: &platforms,
        model: &taken.model,
        card: taken.card.as_bytes(),
        annotations: &notes,
        created: Some(&recipe.created),
        // Nothing that was packed before is trusted.
        cache: &files.work.join("cache"),
    })?;
    let outputs = outputs(claim, &built).await?;
    let same = inputs.iter().chain(&outputs).all(|row| row.same);
    Ok(Report {
        image: claim.image.clone(),
        counter: release.counter,
        source: source.repository.clone(),
        tag: source.tag.clone(),
        commit: source.commit.clone(),
        builder: recipe.builder,
        same,
        inputs,
        outputs,
    })
}

/// Model and card as they lie here.
struct Taken {
    model: PathBuf,
    card: String,
    rows: Vec<Row>,
}

async fn take(claim: &Claim<'_>, recipe: &Recipe, files: &Files<'_>) -> anyhow::Result<Taken> {
    check_given(files.model, &recipe.model, "--model")?;
    check_given(files.card, &recipe.card, "--card")?;
    let (in_model, in_card) = (recipe.model.in_commit(), recipe.card.in_commit());
    // The commit's time is in the images, unless nobody asked for it.
    let timed = recipe.created != EPOCH;
    let said = in_model.is_some() || in_card.is_some() || timed;
    let needed = files.model.is_none() || files.card.is_none();
    let source = &claim.release.source;
    let mut rows = Vec::new();
    let mut found = None;
    if needed || (said && files.repo.is_some()) {
        let url = files
            .repo
            .or(recipe.url.as_deref())
            .context("its repository is on the pipeline's machine: name a clone with --repo")?;
        let (commit, tag) = (&source.commit, &source.tag);
        let wanted = Wanted { commit, tag, model: in_model, card: in_card };
        let at = checkout::at_commit(url, &wanted, MAX_MODEL, files.work).await?;
        rows.push(Row::new("commit", commit, &at.commit));
        if timed {
            rows.push(Row::new("commit time", &recipe.created, &at.committed_at));
        }
        // What is given instead shows nothing of what the provenance says of the commit.
        if let (Some(_), Some(model)) = (files.model, &at.model) {
            let got = hash_file(model, MAX_MODEL)?;
            rows.push(Row::new("commit model", &recipe.model_digest, &got));
        }
        if let (Some(_), Some(card)) = (files.card, &at.card) {
            rows.push(Row::new("commit card", &recipe.card_digest, &Digest::of(card)));
        }
        found = Some(at);
    } else if said {
        rows.push(Row::new("commit", &source.commit, &NOT_LOOKED_AT));
    }
    let (from_model, from_card) = found.map_or((None, None), |at| (at.model, at.card));
    let model = files.model.map(Path::to_owned).or(from_model).context("no model")?;
    let card = match (files.card, from_card) {
        (Some(file), _) => checkout::card(file)?,
        (None, card) => card.context("no card")?,
    };
    Ok(Taken { model, card, rows })
}

/// What was released from a file can only be had as one.
fn check_given(given: Option<&Path>, from: &From, option: &str) -> anyhow::Result<()> {
    if let (None, From::File(name)) = (given, from) {
        bail!("it was released from a file `{name}`, not from the commit: give it with {option}");
    }
    Ok(())
}

/// The base, and every layer of it whose bytes are not those that its manifest names.
fn base_rows(layout: &Path, platform: Platform, want: &Digest) -> anyhow::Result<Vec<Row>> {
    let base = base::read(layout, platform)?;
    let mut rows = vec![Row::new(format!("base {platform}"), want, &base.digest)];
    for (number, layer) in (1..).zip(&base.layers) {
        let (want, got) = (layer.descriptor.digest, hash(layer)?);
        if want != got {
            rows.push(Row::new(format!("base {platform} layer {number}"), &want, &got));
        }
    }
    Ok(rows)
}

async fn outputs(claim: &Claim<'_>, built: &Assembled) -> anyhow::Result<Vec<Row>> {
    let release = &claim.release;
    let mut rows = vec![Row::new("model layer", &release.model.layer, &built.model_layer)];
    for (platform, digest) in &release.platforms {
        let theirs = oci::parse_manifest(&claim.manifest(digest).await?)?;
        let image = &built.images[platform];
        rows.extend(layer_rows(*platform, &theirs, &image.layers));
        let config = image.config.descriptor.digest;
        rows.push(Row::new(format!("{platform} config"), &theirs.config.digest, &config));
        let manifest = image.manifest.descriptor.digest;
        rows.push(Row::new(format!("{platform} manifest"), digest, &manifest));
    }
    rows.push(Row::new("index", &release.index, &built.index.descriptor.digest));
    Ok(rows)
}

/// The layers below the model's, which was compared already.
fn layer_rows(platform: Platform, theirs: &ImageManifest, ours: &[Blob]) -> Vec<Row> {
    let none = || "none".to_owned();
    let want = |n: usize| theirs.layers.get(n).map_or_else(none, |layer| layer.digest.to_string());
    let got = |n: usize| ours.get(n).map_or_else(none, |blob| blob.descriptor.digest.to_string());
    let count = theirs.layers.len().max(ours.len());
    let runtime = ours.len().saturating_sub(2);
    (0..count.saturating_sub(1))
        .map(|n| {
            let what = if n == runtime { "runtime".into() } else { format!("base {}", n + 1) };
            Row::new(format!("{platform} layer: {what}"), &want(n), &got(n))
        })
        .collect()
}

fn hash(blob: &Blob) -> anyhow::Result<Digest> {
    hash_reader(blob.open()?)
}

fn hash_file(path: &Path, max: u64) -> anyhow::Result<Digest> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown}: cannot be read"))?;
    let size = file.metadata()?.len();
    anyhow::ensure!(size <= max, "{shown}: {size} bytes, at most {max} are read");
    hash_reader(file.take(max))
}

fn hash_reader(mut reader: impl std::io::Read) -> anyhow::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}
