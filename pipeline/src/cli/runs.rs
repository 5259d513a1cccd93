//! `pitlane runs` and `pitlane rollback`: talk to a running service.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use pitlane_release::{CarKind, Digest};

use super::Output;
use crate::service::{Client, Token, render, secret::create_random, store::RunFilter};

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
    /// How a run's release stands in each environment.
    Places {
        /// Its id.
        run: String,
    },
    /// Let a release into an environment that asks for a person's word.
    Approve {
        /// Its run's id.
        run: String,
        /// The environment, as the pipeline file names it.
        #[arg(long)]
        environment: CarKind,
        /// Who says so.
        #[arg(long, env = "USER")]
        by: String,
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
        Command::Places { run } => {
            let places = api.client(false)?.places(&run).await?;
            api.print(&places, &render::render_places(&places))
        }
        Command::Approve { run, environment, by } => {
            let approved = api.client(true)?.approve(&run, &environment, &by).await?;
            let text = format!(
                "release {} may go to {environment}, says {}\n",
                approved.counter, approved.by
            );
            api.print(&approved, &text)
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

/// Cars that tell how releases stand on them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitlane cars list
  pitlane cars token --pipeline donkeycar --environment sim s1 >> cars")]
pub(super) struct CarsArgs {
    #[command(flatten)]
    api: Api,
    #[command(subcommand)]
    command: CarsCommand,
}

#[derive(Debug, Subcommand)]
enum CarsCommand {
    /// What each car said last.
    List,
    /// Make a token for a car: the line for the service's `carTokens` on stdout, the token in a
    /// file of mode 0600 for the car.
    Token {
        /// The car's name.
        car: CarKind,
        /// The pipeline whose releases it drives.
        #[arg(long)]
        pipeline: CarKind,
        /// Its environment.
        #[arg(long)]
        environment: CarKind,
        /// Where the token is written; CAR.token when absent. Never over another file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

pub(super) async fn cars(args: CarsArgs) -> anyhow::Result<()> {
    let api = &args.api;
    match args.command {
        CarsCommand::List => {
            let cars = api.client(false)?.cars().await?;
            api.print(&cars, &render::render_cars(&cars))
        }
        CarsCommand::Token { car, pipeline, environment, out } => {
            let out = out.unwrap_or_else(|| format!("{car}.token").into());
            anyhow::ensure!(!out.exists(), "{}: is there already; name another", out.display());
            create_random(&out)?;
            let token = crate::config::read_secret(&out)?;
            let digest = Digest::of(token.as_bytes());
            writeln!(std::io::stdout(), "{pipeline} {environment} {car} {digest}")?;
            tracing::info!("the car's token is in {}", out.display());
            Ok(())
        }
    }
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
