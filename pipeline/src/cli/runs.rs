//! `pitlane runs` and `pitlane rollback`: talk to a running service.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::Output;
use crate::service::{Client, Token, render, store::RunFilter};

/// Where the service's API is.
#[derive(Debug, clap::Args)]
struct Api {
    /// The service's API.
    #[arg(
        long = "api",
        global = true,
        env = "PITLANE_API",
        default_value = "http://127.0.0.1:9011"
    )]
    url: String,
    /// File with the API token; needed for what changes something.
    #[arg(
        long,
        global = true,
        env = "PITLANE_TOKEN_FILE",
        default_value = "pitlane-state/api-token"
    )]
    token_file: PathBuf,
    /// How to print.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
}

impl Api {
    fn client(&self, changes: bool) -> anyhow::Result<Client> {
        let token = match Token::from_file(&self.token_file) {
            Ok(token) => Some(token),
            Err(error) if changes => {
                return Err(error).context("the API token (--token-file) cannot be read");
            }
            Err(_) => None,
        };
        Ok(Client::new(&self.url, token)?)
    }

    fn print<T: serde::Serialize>(&self, value: &T, text: &str) -> anyhow::Result<()> {
        match self.output {
            Output::Json => super::print_json(value),
            Output::Text => Ok(std::io::stdout().lock().write_all(text.as_bytes())?),
        }
    }
}

/// Look at the runs of a service, and retry them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    api: Api,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The newest runs.
    List {
        /// Only those of this repository.
        #[arg(long)]
        repository: Option<String>,
        /// Only those of this tag.
        #[arg(long)]
        tag: Option<String>,
    },
    /// One run.
    Show {
        /// Its id.
        run: String,
    },
    /// The journal of a run: each step, how long, what it left or why it failed.
    Logs {
        /// Its id.
        run: String,
        /// Go on until the run ends: each step as it begins and ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// End a run that waits or is under way; nothing of it is released.
    Cancel {
        /// Its id.
        run: String,
    },
    /// Go on with a failed run at the step that failed.
    Retry {
        /// Its id.
        run: String,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let api = &args.api;
    match args.command {
        Command::List { repository, tag } => {
            let filter = RunFilter { repository, tag, ..RunFilter::default() };
            let runs = api.client(false)?.list(&filter).await?;
            api.print(&runs, &render::render_runs(&runs))
        }
        Command::Show { run } => {
            let run = api.client(false)?.show(&run).await?;
            api.print(&run, &render::render_run(&run))
        }
        Command::Logs { run, follow: true } => follow(api, &run).await,
        Command::Cancel { run } => {
            let run = api.client(true)?.cancel(&run).await?;
            api.print(&run, &render::render_run(&run))
        }
        Command::Logs { run, follow: false } => {
            let steps = api.client(false)?.steps(&run).await?;
            api.print(&steps, &render::render_steps(&steps))
        }
        Command::Retry { run } => {
            let run = api.client(true)?.retry(&run).await?;
            api.print(&run, &render::render_run(&run))
        }
    }
}

/// Prints what happens to a run as it happens; JSON is one object a line.
async fn follow(api: &Api, run: &str) -> anyhow::Result<()> {
    let mut failed = Ok(());
    let print = |name: &str, data: &str| {
        let text = match api.output {
            Output::Json => format!("{{\"event\":\"{name}\",\"data\":{data}}}\n"),
            Output::Text => render::render_event(name, data),
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if failed.is_ok() {
            failed = written;
        }
    };
    api.client(false)?.follow(run, print).await?;
    Ok(failed?)
}

/// Go back to an older release: a new statement over its image.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The old image gets a new release statement with a higher counter, so that cars take it, and the
GitOps repository names it again. Nothing is rebuilt.

Example:
  pitlane rollback v1.0.0 --repository team/donkeycar")]
pub(super) struct RollbackArgs {
    /// The tag to go back to.
    tag: String,
    /// OWNER/NAME; needed when the service has runs of several.
    #[arg(long)]
    repository: Option<String>,
    #[command(flatten)]
    api: Api,
}

pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let client = args.api.client(true)?;
    let repository = match args.repository {
        Some(repository) => repository,
        None => only_repository(&client, &args.tag).await?,
    };
    let run = client.rollback(&repository, &args.tag).await?;
    args.api.print(&run, &render::render_run(&run))
}

/// The one repository with a run of this tag.
async fn only_repository(client: &Client, tag: &str) -> anyhow::Result<String> {
    let filter = RunFilter { tag: Some(tag.to_owned()), ..RunFilter::default() };
    let mut names: Vec<String> =
        client.list(&filter).await?.into_iter().map(|run| run.repository).collect();
    names.sort();
    names.dedup();
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) if names.is_empty() => {
            anyhow::bail!("no run of tag {tag}; `pitlane runs list` shows them")
        }
        Err(names) => anyhow::bail!("several have it, add --repository: {names:?}"),
    }
}
