//! `pitlane keys`: makes key pairs, takes over keys, prints public halves.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
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
            let pair = Pair::free(&out, &name)?;
            pair.write(&keyfile::generate(&password(password_file.as_deref())?)?)
        }
        Command::Import { key, key_password_file, out, name, password_file } => {
            let pair = Pair::free(&out, &name)?;
            let der = private_key::read(&key, key_password_file.as_deref())?;
            let signer = Signer::from_pkcs8(&der).with_context(|| key.display().to_string())?;
            signer.try_out()?;
            let private_pem = keyfile::encrypt(&der, &password(password_file.as_deref())?)?;
            let public_pem = signer.public_pem().context("it has no public half")?;
            pair.write(&keyfile::NewKey { private_pem, public_pem })
        }
        Command::Public { key, password_file } => {
            let signer = Signer::open(&key, password_file.as_deref())?;
            let public = signer.public_pem().context("it has no public half")?;
            Ok(write!(std::io::stdout(), "{public}")?)
        }
    }
}

/// Where a key's two halves go.
pub(super) struct Pair {
    private: PathBuf,
    public: PathBuf,
}

impl Pair {
    /// Both names in a folder, which is made, when neither is taken: half a pair helps nobody.
    pub(super) fn free(out: &Path, name: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        let (private, public) = (out.join(format!("{name}.key")), out.join(format!("{name}.pub")));
        for path in [&private, &public] {
            let taken = path.symlink_metadata().is_ok();
            ensure!(!taken, "{}: is there already, and keys are never replaced", path.display());
        }
        Ok(Self { private, public })
    }

    fn write(&self, key: &keyfile::NewKey) -> anyhow::Result<()> {
        self.write_quietly(key)?;
        super::print_json(&serde_json::json!({ "private": self.private, "public": self.public }))
    }

    /// Writes both, and says nothing.
    pub(super) fn write_quietly(&self, key: &keyfile::NewKey) -> anyhow::Result<()> {
        write_new(&self.private, 0o600, &key.private_pem)?;
        write_new(&self.public, 0o644, &key.public_pem)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        write_new(&out.join("password"), 0o600, "correct horse").unwrap();
        let secret = Some(out.join("password"));
        let generate = |name: &str| {
            let (out, name, password_file) = (out.to_owned(), name.to_owned(), secret.clone());
            run(Args { command: Command::Generate { out, name, password_file } })
        };
        generate("old").unwrap();
        let import = |name: &str| {
            let (out, name, password_file) = (out.to_owned(), name.to_owned(), secret.clone());
            let (key, key_password_file) = (out.join("old.key"), secret.clone());
            let command = Command::Import { key, key_password_file, out, name, password_file };
            run(Args { command })
        };
        std::fs::write(out.join("half.pub"), "another's").unwrap();
        for error in [generate("half").unwrap_err(), import("half").unwrap_err()] {
            assert!(error.to_string().contains("half.pub"), "{error}");
            assert!(!out.join("half.key").exists(), "a private key without its public half");
        }
        assert_eq!(std::fs::read_to_string(out.join("half.pub")).unwrap(), "another's");
        let error = generate("old").unwrap_err().to_string();
        assert!(error.contains("old.key"), "{error}");
        import("new").unwrap();
        assert!(out.join("new.key").exists() && out.join("new.pub").exists());
    }
}
