//! `pitlane model export`: the model folder of a release with its OpenSSF signature.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use pitlane_fetch::FetchError;
use pitlane_release::{
    Digest, ImageRef, Refusal,
    oci::{self, Descriptor},
};
use serde_json::json;
use sha2::Digest as _;

use super::trust::{From, Trust};
use crate::{
    claim::{Claim, refuse},
    model_signing::{self, CARD_FILE, MODEL_FILE, MODEL_SIGNATURE, ModelSignature, SIGNATURE_FILE},
};

/// Largest model layer fetched (bytes): sixteen times the default of `maxBytes`.
const MAX_LAYER: u64 = 1024 * 1024 * 1024;

/// Work with the models of releases.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a release's model, its card and their OpenSSF signature into a folder.
    Export(Export),
}

/// `export`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The folder can be verified by anybody with the public tool:
  model_signing verify key --signature DIR/model.sig --public_key keys/release.pub DIR

Example:
  pitlane model export 127.0.0.1:5000/team/car:v1.0.0 --out pilot --key keys/release.pub")]
struct Export {
    /// REGISTRY/NAME with a tag or a digest.
    image: ImageRef,
    /// The folder; it must not exist, or be empty.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    from: From,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Command::Export(args) = args.command;
    let (policy, source) = (args.trust.policy()?, args.from.open()?);
    let claim = Claim::of(&source, &policy, &args.image).await?;
    let found = claim.evidence::<ModelSignature>(MODEL_SIGNATURE, "model signature").await?;
    let layer = layer(&claim).await?;
    let mut file = fetch(&claim, &source, &layer).await?;
    let files = unpack(&mut file)?;
    let digests = files.iter().map(|(name, bytes)| (*name, Digest::of(bytes))).collect();
    if files.get(MODEL_FILE).map(Digest::of) != Some(claim.release.model.digest) {
        return Err(refuse(&Refusal::ModelMismatch));
    }
    let signs = |(_, statement): &&(Vec<u8>, _)| model_signing::signs(statement, &digests);
    let Some((signature, _)) = found.iter().find(signs) else {
        let why = "the model signature is of other files".to_owned();
        return Err(refuse(&Refusal::AlteredStatement(why)));
    };
    write(&args.out, &files, signature)?;
    super::print_json(&json!({
        "image": claim.image, "model": claim.release.model.digest, "folder": args.out,
        "signedBy": claim.authority, "signature": args.out.join(SIGNATURE_FILE),
    }))
}

/// The model layer's descriptor; all platforms have the same.
async fn layer(claim: &Claim<'_>) -> anyhow::Result<Descriptor> {
    let digest = claim.release.platforms.values().next().context("it has no platform")?;
    let manifest = oci::parse_manifest(&claim.manifest(digest).await?)?;
    let wanted = claim.release.model.layer;
    let layer = manifest.layers.into_iter().find(|layer| layer.digest == wanted);
    let layer = layer.ok_or_else(|| refuse(&Refusal::ModelMismatch))?;
    let size = layer.size;
    ensure!(size <= MAX_LAYER, "the model layer has {size} bytes, at most {MAX_LAYER} are fetched");
    Ok(layer)
}

/// The layer in a temporary file, its digest checked.
async fn fetch(
    claim: &Claim<'_>,
    source: &pitlane_fetch::Source,
    layer: &Descriptor,
) -> anyhow::Result<fs::File> {
    let mut file = tempfile::tempfile()?;
    let mut hasher = sha2::Sha256::new();
    let mut sink = |bytes: &[u8]| {
        hasher.update(bytes);
        io::Write::write_all(&mut file, bytes)
    };
    let streamed = source.stream(&claim.image.repository, layer, 0, &mut sink).await;
    let longer = matches!(streamed, Err(FetchError::TooLarge { .. }));
    if !longer {
        streamed.context("the model layer")?;
    }
    if longer || Digest::from_bytes(hasher.finalize().into()) != layer.digest {
        return Err(refuse(&Refusal::Altered { what: "layer", want: layer.digest }));
    }
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// The two files of the folder. Names decide nothing about where something is written.
fn unpack(file: &mut fs::File) -> anyhow::Result<BTreeMap<&'static str, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let names = [MODEL_FILE, CARD_FILE];
        let name = names.into_iter().find(|name| path == std::path::Path::new("models").join(name));
        match (entry.header().entry_type(), name) {
            (tar::EntryType::Directory, _) => {}
            (tar::EntryType::Regular, Some(name)) => {
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes)?;
                ensure!(files.insert(name, bytes).is_none(), "{name} is there twice");
            }
            _ => bail!("the model layer holds {}, which no model folder has", path.display()),
        }
    }
    Ok(files)
}

fn write(
    out: &std::path::Path,
    files: &BTreeMap<&'static str, Vec<u8>>,
    signature: &[u8],
) -> anyhow::Result<()> {
    let shown = out.display();
    fs::create_dir_all(out).with_context(|| format!("{shown}: cannot be made"))?;
    // Others' files beside the model would not be signed, and the tool says so.
    ensure!(fs::read_dir(out)?.next().is_none(), "{shown}: is not empty; name another --out");
    for (name, bytes) in files {
        fs::write(out.join(name), bytes)?;
    }
    fs::write(out.join(SIGNATURE_FILE), signature)?;
    Ok(())
}
