//! `pitlane store`: copies of the service's store, and its versions.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::serve::{Place, ServiceFile};
use crate::service::store::{backup, migrate};

/// Copy the service's store, put a copy back, change its version.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy the store to a file, while the service runs or not.
    #[command(after_help = "\
The copy is one moment of the store. A store on a PostgreSQL server is copied by pg_dump.

Example:
  pitlane store backup --config pitlane.yaml --to /backup/pitlane-$(date +%F).sqlite")]
    Backup {
        #[command(flatten)]
        of: Of,
        /// The file that is made; it must not be there.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a copy in the place of the store. The service must not run.
    #[command(after_help = "\
Example:
  pitlane store restore --config pitlane.yaml --from /backup/pitlane-2026-11-21.sqlite --replace")]
    Restore {
        #[command(flatten)]
        of: Of,
        /// The copy.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Whether a store that is there gives way; it is kept as *.replaced.
        #[arg(long)]
        replace: bool,
    },
    /// Take the tables to another version, forward or back. The service must not run.
    #[command(after_help = "\
A service goes forward by itself when it starts. Go back before an older program is started, while \
no run is open.

Example:
  pitlane store migrate --config pitlane.yaml --to 2")]
    Migrate {
        #[command(flatten)]
        of: Of,
        /// The version; the newest that this program knows when it is not named.
        #[arg(long, value_name = "VERSION")]
        to: Option<i64>,
    },
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The service's configuration (docs/service.md).
    #[arg(long, env = "PITLANE_CONFIG")]
    config: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    // All of it waits for a disk or a server, whose client has a runtime of its own.
    tokio::task::spawn_blocking(move || act(args.command)).await?
}

fn act(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Backup { of, to } => {
            super::print_json(&backup::backup(&of.file("pg_dump")?, &to)?)
        }
        Command::Restore { of, from, replace } => {
            let path = of.file("pg_restore")?;
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            super::print_json(&backup::restore(&from, &path, replace)?)
        }
        Command::Migrate { of, to } => super::print_json(&match of.place()? {
            Place::File(path) => migrate::file(&path, to)?,
            Place::Server(url) => migrate::server(&url, to)?,
        }),
    }
}

impl Of {
    fn place(&self) -> anyhow::Result<Place> {
        ServiceFile::load(Some(&self.config))?.place()
    }

    /// The store's file; a server has tools of its own.
    fn file(&self, tool: &str) -> anyhow::Result<PathBuf> {
        match self.place()? {
            Place::File(path) => Ok(path),
            Place::Server(_) => {
                let shown = self.config.display();
                bail!("{shown}: the store is on a PostgreSQL server; use {tool} (docs/service.md)")
            }
        }
    }
}
