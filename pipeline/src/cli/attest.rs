//! `pitlane attest`: signs a statement and attaches it to an image.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use pitlane_release::{
    Digest, PinnedImage, Refusal,
    oci::{self, Descriptor},
};
use serde_json::{Value, json};

use crate::{
    claim::refuse,
    config::{Pipeline, Registry},
    push::Pusher,
    sign::Signer,
};

/// Largest statement read (bytes).
const MAX_STATEMENT: u64 = 1024 * 1024;

/// Sign a statement and attach it to an image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Either a whole in-toto statement (--statement), which must name the image as a subject, or a
predicate with its type.
The password of the key comes from --password-file, else from COSIGN_PASSWORD. With --pipeline the
pipeline's own key or signer is used.

Example:
  pitlane attest 127.0.0.1:5000/team/car@sha256:… --type https://example.org/review/v1 \\
      --predicate review.json --key keys/release.key")]
pub(super) struct Args {
    /// The image, by digest.
    image: PinnedImage,
    /// A JSON file with a whole in-toto statement.
    #[arg(long, conflicts_with_all = ["predicate", "kind"], required_unless_present = "predicate")]
    statement: Option<PathBuf>,
    /// A JSON file with a predicate.
    #[arg(long, requires = "kind")]
    predicate: Option<PathBuf>,
    /// The predicate's type, a URI.
    #[arg(long = "type")]
    kind: Option<String>,
    /// Private key file: cosign's format or PKCS#8.
    #[arg(long, conflicts_with = "pipeline", required_unless_present = "pipeline")]
    key: Option<PathBuf>,
    /// A pipeline file whose key or signer signs.
    #[arg(long)]
    pipeline: Option<PathBuf>,
    /// File with the key's password; mode 0600.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// File with the registry's password or token; mode 0600.
    #[arg(long)]
    registry_password_file: Option<PathBuf>,
    /// A tag for the attestation besides its digest.
    #[arg(long)]
    tag: Option<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let statement = match (&args.statement, &args.predicate, &args.kind) {
        (Some(file), _, _) => read(file)?,
        (None, Some(file), Some(kind)) => json!({
            "_type": pitlane_release::statement::STATEMENT_V1,
            "subject": [{
                "name": args.image.repository, "digest": {"sha256": args.image.digest.hex()},
            }],
            "predicateType": kind,
            "predicate": read(file)?,
        }),
        _ => unreachable!("the command line asks for one of them"),
    };
    if let Some(file) = &args.statement {
        check_subject(&statement, &args.image).with_context(|| file.display().to_string())?;
    }
    let kind = statement["predicateType"].as_str().context("it has no `predicateType`")?.to_owned();
    let pusher = Pusher::new(&Registry {
        repository: args.image.repository.clone(),
        plain_http: false,
        user: None,
        password_file: args.registry_password_file,
    })
    .await?;
    let digest = args.image.digest.to_string();
    let manifest = pusher.source.manifest(&args.image.repository, &digest).await?;
    let subject = described(&manifest, &args.image.digest)?;
    let signer = match (&args.key, &args.pipeline) {
        (Some(key), _) => Signer::open(key, args.password_file.as_deref())?,
        (None, Some(file)) => {
            let pipeline = Pipeline::load(file)?;
            Signer::of(&pipeline.spec.sign.source(), pipeline.dir())?
        }
        (None, None) => unreachable!("the command line asks for one of them"),
    };
    let bundle = signer.seal(&statement)?;
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?;
    pusher.attach(&bundle, &kind, &subject, now, args.tag.as_deref().as_slice()).await?;
    super::print_json(&json!({
        "image": args.image, "predicateType": kind,
        "bundle": Digest::of(&bundle),
    }))
}

/// What a statement is attached to must be among what it speaks of.
fn check_subject(statement: &Value, image: &PinnedImage) -> anyhow::Result<()> {
    let hex = image.digest.hex();
    let mut subjects = statement["subject"].as_array().into_iter().flatten();
    let named = subjects.any(|subject| subject["digest"]["sha256"].as_str() == Some(&hex));
    ensure!(named, "no `subject` has the digest of {image}; attach it to the image it speaks of");
    Ok(())
}

/// The manifest as a subject, when it is the one that was asked for.
fn described(manifest: &[u8], want: &Digest) -> anyhow::Result<Descriptor> {
    if Digest::of(manifest) != *want {
        return Err(refuse(&Refusal::Altered { what: "manifest", want: *want }));
    }
    let media_type = if oci::parse_index(manifest).is_ok() { oci::INDEX } else { oci::MANIFEST };
    Ok(Descriptor::of(media_type, manifest))
}

fn read(path: &std::path::Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{shown}: cannot be read"))?.len();
    anyhow::ensure!(size <= MAX_STATEMENT, "{shown}: {size} bytes, at most {MAX_STATEMENT}");
    serde_json::from_slice(&std::fs::read(path)?).with_context(|| format!("{shown}: not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::StepError;

    #[test]
    fn a_statement_is_about_the_image_it_is_attached_to() {
        let digest = Digest::of("manifest");
        let image: PinnedImage = format!("r.example/team/car@{digest}").parse().unwrap();
        let about = |subject: Value| check_subject(&json!({ "subject": subject }), &image);
        let one = |hex: &str| json!({ "name": "car", "digest": { "sha256": hex } });
        about(json!([one(&digest.hex())])).unwrap();
        about(json!([one(&Digest::of("other").hex()), one(&digest.hex())])).unwrap();
        for wrong in [
            json!([]),
            Value::Null,
            json!([one(&Digest::of("other").hex())]),
            json!([{ "name": digest.hex(), "digest": { "sha512": digest.hex() } }]),
        ] {
            let error = about(wrong.clone()).unwrap_err().to_string();
            assert!(error.contains("no `subject`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn another_manifest_than_the_one_asked_for_is_refused() {
        let subject = described(b"manifest", &Digest::of("manifest")).unwrap();
        assert_eq!(subject.digest, Digest::of("manifest"));
        let error = described(b"manifest of somebody", &Digest::of("manifest")).unwrap_err();
        assert_eq!(error.downcast::<StepError>().unwrap().code, "altered-manifest");
    }
}
