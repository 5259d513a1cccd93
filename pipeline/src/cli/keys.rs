//! `pitlane keys`: makes key pairs, takes over keys, prints public halves.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;

use crate::sign::{
    Signer, keyfile,
    private_key::{self, password},
};

/// Make keys, take over keys, print public halves.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key pair in cosign's format: NAME.key (private, encrypted) and NAME.pub.
    #[command(after_help = "\
The password comes from --password-file, else from COSIGN_PASSWORD. cosign, and everything that \
reads its keys, can use the pair.

Examples:
  COSIGN_PASSWORD=… pitlane keys generate --out keys
  pitlane keys generate --out keys --name lap --password-file keys/password")]
    Generate {
        /// Directory for the two files.
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Their name.
        #[arg(long, default_value = "release")]
        name: String,
        /// File with the password; mode 0600.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Take over a PKCS#8 key that another program made: encrypts it into cosign's format.
    #[command(after_help = "\
Takes ECDSA P-256 and P-384, Ed25519 and RSA keys. The new file's password comes from \
--password-file, else from COSIGN_PASSWORD; the old file's, if it has one, from --key-password-file.

Examples:
  pitlane keys import --key old.pem --out keys --name release --password-file keys/password")]
    Import {
        /// The private key: PKCS#8, PEM, with or without a password; mode 0600.
        #[arg(long)]
        key: PathBuf,
        /// File with its password; mode 0600.
        #[arg(long)]
        key_password_file: Option<PathBuf>,
        /// Directory for the two files.
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Their name.
        #[arg(long, default_value = "release")]
        name: String,
        /// File with the new password; mode 0600.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Print the public half of a private key file, PEM.
    #[command(after_help = "\
Example:
  pitlane keys public --key keys/release.key --password-file keys/password > release.pub")]
    Public {
        /// The private key: cosign's format or PKCS#8; mode 0600.
        #[arg(long)]
        key: PathBuf,
        /// File with its password; mode 0600. Else `COSIGN_PASSWORD`, if it has one.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Generate { out, name, password_file } => {
            let key = keyfile::generate(&password(password_file.as_deref())?)?;
            write_pair(&out, &name, &key)
        }
        Command::Import { key, key_password_file, out, name, password_file } => {
            let der = private_key::read(&key, key_password_file.as_deref())?;
            let signer = Signer::from_pkcs8(&der).with_context(|| key.display().to_string())?;
            signer.try_out()?;
            let private_pem = keyfile::encrypt(&der, &password(password_file.as_deref())?)?;
            let public_pem = signer.public_pem().context("it has no public half")?;
            write_pair(&out, &name, &keyfile::NewKey { private_pem, public_pem })
        }
        Command::Public { key, password_file } => {
            let signer = Signer::open(&key, password_file.as_deref())?;
            let public = signer.public_pem().context("it has no public half")?;
            Ok(write!(std::io::stdout(), "{public}")?)
        }
    }
}

fn write_pair(out: &Path, name: &str, key: &keyfile::NewKey) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let (private, public) = (out.join(format!("{name}.key")), out.join(format!("{name}.pub")));
    write_new(&private, 0o600, &key.private_pem)?;
    write_new(&public, 0o644, &key.public_pem)?;
    super::print_json(&serde_json::json!({ "private": private, "public": public }))
}

/// Writes a file that must not be there yet: a key is never overwritten.
pub(super) fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(
            || format!("{}: not written (keys are never replaced)", path.display()),
        )?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
