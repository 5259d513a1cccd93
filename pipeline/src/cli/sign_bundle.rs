//! `pitlane sign-bundle`: the client protocol of the sigstore conformance suite, its other half
//! being `pitlane-verifier verify-bundle`.
//!
//! Source: `docs/cli_protocol.md` of sigstore-conformance.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use pitlane_release::{
    Digest,
    sigstore::{MAX_TRUST_ROOT, TrustRoot},
};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::{
    lane::StepError,
    sign::Signer,
    sign::keyless::{
        KeylessError, KeylessSigner, MAX_SIGNING_CONFIG, MAX_STATEMENT, PATIENCE, Services,
        TokenSource, read, subject,
    },
};

/// Largest artifact that is hashed (bytes), as in `verify-bundle`.
const MAX_ARTIFACT: u64 = 64 * 1024 * 1024 * 1024;
/// Largest artifact that a key signs (bytes); it is held in memory.
const MAX_MESSAGE: u64 = 512 * 1024 * 1024;
/// Bytes read at once while hashing.
const CHUNK: usize = 64 * 1024;

/// Sign a file keylessly, into a sigstore bundle.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The signer is whoever the identity token names. It comes from --token-file, else from \
--identity-token, else from SIGSTORE_ID_TOKEN, else from GitHub Actions (a job with \
`permissions: id-token: write`). Others can read a command line: prefer a file or the environment.

Without --signing-config and --trusted-root the public-good instance signs, and its log is public. \
With --key nobody is asked: the key signs, without a certificate, a log or a time.

Examples:
  pitlane sign-bundle --bundle pilot.onnx.sigstore.json pilot.onnx
  pitlane sign-bundle --in-toto --token-file token --signing-config signing_config.json \\
      --trusted-root trusted_root.json --bundle review.sigstore.json review.json
  pitlane sign-bundle --key release.key --password-file password \
      --bundle pilot.onnx.sigstore.json pilot.onnx")]
pub(super) struct Args {
    /// Sign with Sigstore's staging instance: for tests.
    #[arg(long)]
    staging: bool,
    /// FILE is an in-toto statement, which is signed in an envelope.
    #[arg(long)]
    in_toto: bool,
    /// The identity token, or a file that holds it.
    #[arg(long, value_name = "TOKEN_OR_FILE")]
    identity_token: Option<Token>,
    /// A file that holds the identity token.
    #[arg(long, value_name = "FILE", conflicts_with = "identity_token")]
    token_file: Option<PathBuf>,
    /// Sign with this private key instead.
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["staging", "identity_token", "token_file", "trusted_root", "signing_config"])]
    key: Option<PathBuf>,
    /// A file with the key's password, else the variable `COSIGN_PASSWORD`.
    #[arg(long, value_name = "FILE", requires = "key")]
    password_file: Option<PathBuf>,
    /// Where the bundle is written.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// What the finished bundle must verify against; the instance's own when absent.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// The services to sign with; the instance's own when absent.
    #[arg(long, value_name = "FILE")]
    signing_config: Option<PathBuf>,
    /// Longest time for one request to a service (seconds).
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// What to sign.
    file: PathBuf,
}

/// A token on the command line, which is not shown again.
#[derive(Clone)]
struct Token(Zeroizing<String>);

impl std::str::FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(key) = &args.key {
        return by_key(&args, key);
    }
    let signer = signer(&args)?;
    let sealed = if args.in_toto {
        signer.seal(&read(&args.file, MAX_STATEMENT)?).await
    } else {
        signer.sign_digest(digest(&args.file)?).await
    };
    let sealed = sealed.map_err(explained)?;
    write(&args.bundle, &sealed.bytes)?;
    super::print_json(&serde_json::json!({
        "bundle": args.bundle,
        "subject": sealed.subject,
        "identity": sealed.san,
        "issuer": sealed.issuer,
        "logIndexes": sealed.log_indexes,
    }))
}

/// Signs with a key file. What it signs is read whole: not every kind of key signs a digest.
fn by_key(args: &Args, key: &Path) -> anyhow::Result<()> {
    let signer = Signer::open(key, args.password_file.as_deref())?;
    let public = signer.public().context("the key has no public half")?;
    let (bytes, subject) = if args.in_toto {
        let payload = read(&args.file, MAX_STATEMENT)?;
        let shown = args.file.display().to_string();
        let subject = subject(&payload).map_err(explained).context(shown)?;
        let seal = |pae: &[u8]| signer.sign(pae);
        (pitlane_release::bundle::seal(&payload, &public.hint(), seal)?, subject)
    } else {
        let message = read(&args.file, MAX_MESSAGE)?;
        let (signature, subject) = (signer.sign(&message)?, Digest::of(&message));
        let hint = public.hint();
        (pitlane_release::bundle::seal_message(subject, &signature, &hint), subject)
    };
    write(&args.bundle, &bytes)?;
    super::print_json(&serde_json::json!({
        "bundle": args.bundle,
        "subject": subject,
        "key": public.id(),
    }))
}

fn signer(args: &Args) -> anyhow::Result<KeylessSigner> {
    let services = match &args.signing_config {
        Some(file) => Services::parse(&read(file, MAX_SIGNING_CONFIG)?),
        None if args.staging => Services::staging(),
        None => Services::public_good(),
    };
    let root = match &args.trusted_root {
        Some(file) => TrustRoot::parse(&read(file, MAX_TRUST_ROOT)?),
        None if args.staging => TrustRoot::staging(),
        None => TrustRoot::public_good(),
    };
    let tokens = match (&args.identity_token, &args.token_file) {
        (_, Some(file)) => Ok(TokenSource::File(file.clone())),
        (Some(Token(text)), None) if Path::new(text.as_str()).is_file() => {
            Ok(TokenSource::File(text.as_str().into()))
        }
        (Some(Token(text)), None) => Ok(TokenSource::Text(text.clone())),
        (None, None) => TokenSource::from_environment(),
    };
    let patience = Duration::from_secs(args.timeout);
    let signer = KeylessSigner::new(
        services.map_err(explained)?,
        root?,
        tokens.map_err(explained)?,
        patience,
    );
    signer.map_err(explained)
}

/// An error with its hint, as the program prints them.
fn explained(error: KeylessError) -> anyhow::Error {
    let hint = error.hint();
    StepError::new("keyless", error, hint).into()
}

/// SHA-256 of a file, which need not fit into memory.
fn digest(path: &Path) -> anyhow::Result<Digest> {
    let shown = path.display();
    let context = || format!("{shown}: cannot be read");
    let mut file = File::open(path).with_context(context)?.take(MAX_ARTIFACT + 1);
    let mut hasher = sha2::Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).with_context(context)?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
    }
    if file.limit() == 0 {
        bail!("{shown}: larger than {MAX_ARTIFACT} bytes");
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Writes the bundle whole, or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let context = || format!("{}: cannot be written", path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}
