//! `pitlane hook`: connects a plain git server.

use std::{io::Write as _, path::PathBuf};

use clap::Subcommand;

use crate::service::hook::{self, Install, Post};

/// Connect a plain git server.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a post-receive hook that tells a service of pushed tags.
    #[command(after_help = "\
Example:
  pitlane hook install /srv/git/team/car.git --url http://127.0.0.1:9010/webhook \\
      --secret-file state/webhook-secret")]
    Install {
        /// The repository on the server.
        dir: PathBuf,
        /// The service's webhook.
        #[arg(long)]
        url: String,
        /// File with the webhook secret; the hook holds only its path.
        #[arg(long)]
        secret_file: PathBuf,
        /// OWNER/NAME; told from the path when absent.
        #[arg(long)]
        repository: Option<String>,
        /// Replace another program's hook, keeping a backup.
        #[arg(long)]
        force: bool,
    },
    /// Post the tags of a push; the hook calls this with git's lines on stdin.
    #[command(hide = true)]
    Post {
        #[arg(long)]
        url: String,
        #[arg(long)]
        secret_file: PathBuf,
        #[arg(long)]
        repository: String,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Install { dir, url, secret_file, repository, force } => {
            let program = std::env::current_exe()?;
            let want =
                Install { repository_dir: dir, url, secret_file, repository, force, program };
            let done = hook::install(&want)?;
            super::print_json(&serde_json::json!({
                "hook": done.hook, "backup": done.backup, "repository": done.repository,
            }))
        }
        Command::Post { url, secret_file, repository } => {
            let want = Post { url, secret_file, repository, repository_dir: None };
            // The pusher sees what a hook prints; a hook never fails the push, which is done.
            let mut stdout = std::io::stdout().lock();
            for told in hook::post(&want, std::io::stdin()).await {
                writeln!(stdout, "pitlane: {}", told.line)?;
            }
            Ok(())
        }
    }
}
