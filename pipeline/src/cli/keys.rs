//! `pitlane keys generate`.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;

use crate::{config::read_secret, sign::keyfile};

/// Make keys.
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
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Command::Generate { out, name, password_file } = args.command;
    let password = match password_file {
        Some(file) => read_secret(&file)?,
        None => std::env::var("COSIGN_PASSWORD")
            .map(zeroize::Zeroizing::new)
            .context("no password: use --password-file, or set COSIGN_PASSWORD")?,
    };
    let key = keyfile::generate(&password)?;
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
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
