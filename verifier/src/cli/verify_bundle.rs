//! `pitlane-verifier verify-bundle`: the client protocol of the sigstore conformance suite.
//!
//! Source: `docs/cli_protocol.md` of sigstore-conformance. Offline in every case: without
//! `--trusted-root` the root of the public-good instance is the one compiled in.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, bail};
use pitlane_release::{
    Digest,
    admit::Check,
    bundle::MAX_BUNDLE,
    key::{MAX_PEM, PublicKey},
    sigstore::{
        BundleRefusal, BundleVerdict, Content, Expect, Identity, MAX_TRUST_ROOT, Signer, Subject,
        TrustRoot, VerifiedBundle, Witness, Workflow, verify,
    },
};
use serde::Serialize;
use sha2::Digest as _;

use super::Output;

/// Largest artifact that is read into memory (bytes). Of a larger one only the SHA-256 is known,
/// which all but Ed25519 and other hashes sign.
const MAX_IN_MEMORY: u64 = 32 * 1024 * 1024;
/// Largest artifact that is hashed (bytes): an image with a CUDA base is a quarter of it.
const MAX_ARTIFACT: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes read at once while hashing.
const CHUNK: usize = 64 * 1024;

/// Verify a sigstore bundle, offline.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("signer").required(true).args(["certificate_identity", "key"])),
    after_help = "\
Examples:
  pitlane-verifier verify-bundle --bundle pilot.onnx.sigstore.json \\
      --certificate-identity https://github.com/team/car/.github/workflows/train.yml@refs/heads/main \\
      --certificate-oidc-issuer https://token.actions.githubusercontent.com pilot.onnx
  pitlane-verifier verify-bundle --bundle b.json --key release.pub --allow-unlogged sha256:…"
)]
pub(super) struct Args {
    /// The bundle.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The signer in the certificate, exactly.
    #[arg(long, value_name = "ID", requires = "certificate_oidc_issuer", conflicts_with = "key")]
    certificate_identity: Option<String>,
    /// Who attested that identity, exactly.
    #[arg(long, value_name = "URL", conflicts_with = "key")]
    certificate_oidc_issuer: Option<String>,
    /// The signer's public key (PEM).
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Accept a key's bundle that no log has; entries it has must verify all the same.
    #[arg(long, requires = "key")]
    allow_unlogged: bool,
    /// The authorities and logs to trust; the public-good instance's when absent.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Trust Sigstore's staging instance: for tests.
    #[arg(long)]
    staging: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// What was signed: a file, or sha256: and 64 hexadecimal digits.
    #[arg(value_name = "FILE_OR_DIGEST")]
    artifact: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let bundle = read(&args.bundle, MAX_BUNDLE)?;
    let artifact = Artifact::open(&args.artifact)?;
    let verdict = match trust(args)? {
        Ok((expect, root)) => verify(&bundle, artifact.subject(), &expect, &root),
        Err(refusal) => refused(refusal),
    };
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let report = Report::new(&verdict, ms);
    match args.output {
        Output::Json => super::print_json(&report)?,
        Output::Text => std::io::stdout().lock().write_all(report.text().as_bytes())?,
    }
    Ok(if verdict.answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(10) })
}

/// Whom and what to trust. A file that cannot be read is an error; one that is read and is no
/// trusted root or key trusts nobody, which is a refusal.
fn trust(args: &Args) -> anyhow::Result<Result<(Expect, TrustRoot), BundleRefusal>> {
    let root = match &args.trusted_root {
        Some(file) => TrustRoot::parse(&read(file, MAX_TRUST_ROOT)?),
        None if args.staging => TrustRoot::staging(),
        None => TrustRoot::public_good(),
    };
    let expect = match (&args.key, &args.certificate_identity, &args.certificate_oidc_issuer) {
        (Some(file), None, None) => {
            let pem = read(file, MAX_PEM)?;
            let witness = if args.allow_unlogged { Witness::NONE } else { Witness::default() };
            PublicKey::from_pem(&String::from_utf8_lossy(&pem))
                .map(|key| Expect::Key { key, witness })
                .map_err(|error| BundleRefusal::UnusableKey(error.to_string()))
        }
        (None, Some(san), Some(issuer)) => Ok(Expect::identity(Identity::exact(san, issuer))),
        _ => bail!("say --key, or --certificate-identity with --certificate-oidc-issuer"),
    };
    Ok(expect.and_then(|expect| Ok((expect, root?))))
}

fn refused(refusal: BundleRefusal) -> BundleVerdict {
    let check = Check::failed(refusal.check(), refusal.to_string()).hinting(refusal.hint());
    BundleVerdict { answer: Err(refusal), checks: vec![check] }
}

/// Reads a whole file that must not be larger.
fn read(file: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(most + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{shown}: cannot be read"))?;
    if bytes.len() as u64 > most {
        bail!("{shown}: larger than {most} bytes");
    }
    Ok(bytes)
}

/// What was signed.
enum Artifact {
    Bytes(Vec<u8>),
    Digest(Digest),
}

impl Artifact {
    /// A file when there is one by this name, else a digest.
    fn open(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if !path.exists() {
            let lower = text.to_ascii_lowercase();
            return lower.parse().map(Self::Digest).map_err(|_| {
                anyhow::anyhow!("{text}: no such file, and no sha256: with 64 hexadecimal digits")
            });
        }
        let context = || format!("{text}: cannot be read");
        let mut file = File::open(path).with_context(context)?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_IN_MEMORY + 1).read_to_end(&mut bytes).with_context(context)?;
        if bytes.len() as u64 <= MAX_IN_MEMORY {
            return Ok(Self::Bytes(bytes));
        }
        let mut hasher = sha2::Sha256::new();
        hasher.update(&bytes);
        let mut total = bytes.len() as u64;
        bytes.truncate(CHUNK);
        loop {
            let read = file.read(&mut bytes).with_context(context)?;
            if read == 0 {
                return Ok(Self::Digest(Digest::from_bytes(hasher.finalize().into())));
            }
            total += read as u64;
            if total > MAX_ARTIFACT {
                bail!("{text}: larger than {MAX_ARTIFACT} bytes");
            }
            hasher.update(&bytes[..read]);
        }
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Bytes(bytes) => Subject::Bytes(bytes),
            Self::Digest(digest) => Subject::Digest(*digest),
        }
    }
}

/// A verdict as it is printed. Format `pitlane.dev/bundle-verdict/v1`; `docs/verify-bundle.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    version: u32,
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<&'a Signer>,
    /// What the certificate says of the CI run that signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a Workflow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a BundleRefusal>,
    checks: &'a [Check],
    ms: f64,
}

impl<'a> Report<'a> {
    fn new(verdict: &'a BundleVerdict, ms: f64) -> Self {
        let verified = verdict.answer.as_ref().ok();
        Self {
            version: 1,
            verified: verified.is_some(),
            artifact: verified.map(|verified| *verified.subject()),
            signer: verified.map(VerifiedBundle::signer),
            workflow: verified.and_then(VerifiedBundle::workflow),
            predicate_type: verified.and_then(|verified| match verified.content() {
                Content::Statement { predicate_type, .. } => Some(predicate_type.as_str()),
                Content::Message => None,
            }),
            times: verified.map(|v| v.times().iter().map(ToString::to_string).collect()),
            refusal: verdict.answer.as_ref().err(),
            checks: &verdict.checks,
            ms,
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for check in self.checks {
            let mark = if check.passed { "ok  " } else { "FAIL" };
            lines.push(format!("{mark} {:<11} {}", check.check, check.found));
        }
        match (self.refusal, self.artifact) {
            (Some(refusal), _) => {
                lines.push(format!("refused ({}): {refusal}", refusal.code()));
                lines.push(format!("hint: {}", refusal.hint()));
            }
            (None, Some(artifact)) => lines.push(format!("verified: {artifact}")),
            (None, None) => {}
        }
        lines.join("\n") + "\n"
    }
}
