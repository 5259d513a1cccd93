//! The command line of `pitlane-twin`.

use crate::drive::{Judge, Scenario};
use crate::fault::{Fault, Faults};
use crate::run::address::Address;
use crate::run::files::Outputs;
use crate::run::host::{self, Way};
use crate::run::session::Plan;
use crate::view::camera::Camera;
use crate::view::encode::Encoding;
use crate::view::light::LightName;
use crate::view::render::Renderer;
use crate::world::catalogue;
use crate::world::geometry::{Pose, Vec2};
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of a judged run that failed.
const REFUSED: u8 = 10;
/// Longest judged run in simulated seconds: its trace is kept in memory.
const MAX_SECONDS: f64 = 3_600.0;
/// Simulated seconds per lap when no limit is given: four times what a slow car takes.
const SECONDS_PER_LAP: f64 = 180.0;

/// A headless driving simulator that speaks the Donkey simulator's protocol.
#[derive(Debug, Parser)]
#[command(
    name = "pitlane-twin",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Lights: day, overcast, dusk, glare, lamps, and random (drawn from --seed).
Exit codes: 0 done or passed, 1 error, 2 usage, 10 the judged car failed.

Examples:
  pitlane-twin                                           for any Donkey client, on 127.0.0.1:9091
  pitlane-twin --listen unix:/run/twin.sock --track mountain_track --laps 3 --lock-step \\
      --report laps.json --plot laps.svg                 judge one client and stop
  pitlane-twin --dial 127.0.0.1:9091                     for clients that listen themselves
  pitlane-twin --fault drop=0.1 --fault freeze-at=20     make the car's day worse"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    drive: DriveArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tracks.
    Tracks {
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Write one picture from the car's camera.
    Snapshot(SnapshotArgs),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Args, Debug)]
struct Place {
    /// The track: fixed for a judged run, otherwise the client chooses.
    #[arg(long, value_parser = PossibleValuesParser::new(catalogue::NAMES), default_value = "generated_track")]
    track: String,
    /// Seed of textures, noise, the random light and dropped frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The light.
    #[arg(long, default_value = "day", value_name = "NAME")]
    light: LightName,
    /// Where on the lap the car starts, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = fraction, value_name = "FRACTION")]
    start: f64,
}

#[derive(Args, Debug)]
struct DriveArgs {
    /// Wait for clients here: HOST:PORT (0 takes any port) or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:9091", value_name = "ADDRESS", conflicts_with = "dial")]
    listen: Address,
    /// Connect to a client that listens: HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    dial: Option<Address>,
    #[command(flatten)]
    place: Place,
    /// One control, one frame: simulated time stands still until the client answers.
    #[arg(long)]
    lock_step: bool,
    /// Judge one client over this many laps, then stop.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    laps: Option<u32>,
    /// Simulated seconds the laps may take together [default: 180 per lap, at most 3600].
    #[arg(long, value_name = "SECONDS", requires = "laps", value_parser = seconds)]
    max_seconds: Option<f64>,
    /// How long to wait for the connection.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    connect_timeout: f64,
    /// How long to wait for each control in lock step.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    reply_timeout: f64,
    /// Stop the car when no control came for this many simulated seconds [default: never].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    watchdog: Option<f64>,
    /// Clients that may drive at the same time, each with a car and a world of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    max_clients: u8,
    /// Write the lap report (JSON).
    #[arg(long, value_name = "FILE", requires = "laps")]
    report: Option<PathBuf>,
    /// Write one line of JSON per frame.
    #[arg(long, value_name = "FILE", requires = "laps")]
    trace: Option<PathBuf>,
    /// Draw the laps (SVG).
    #[arg(long, value_name = "FILE", requires = "laps")]
    plot: Option<PathBuf>,
    /// Something that goes wrong: freeze-at=S, blackout-at=S, stall-at=S, close-at=S, drop=P, delay-ms=N.
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    fault: Vec<Fault>,
}

#[derive(Args, Debug)]
struct SnapshotArgs {
    #[command(flatten)]
    place: Place,
    /// Metres to the right of the centreline.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    offset: f64,
    /// Degrees turned to the right.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    turn: f64,
    /// The file; its ending (jpg, png or tga) chooses the format.
    file: PathBuf,
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("not between 0 and 1".into()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= MAX_SECONDS {
        Ok(value)
    } else {
        Err(format!("not above 0 and at most {MAX_SECONDS}"))
    }
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            None => self.drive.run(),
            Some(Command::Tracks { output }) => tracks(output),
            Some(Command::Snapshot(args)) => args.run(),
            Some(Command::Completions { shell }) => {
                clap_complete::generate(
                    shell,
                    &mut Self::command(),
                    "pitlane-twin",
                    &mut std::io::stdout(),
                );
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl DriveArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let patience = Duration::from_secs_f64(self.connect_timeout);
        let judge = self.laps.map(|laps| Judge {
            laps,
            max_seconds: self
                .max_seconds
                .unwrap_or_else(|| (SECONDS_PER_LAP * f64::from(laps)).min(MAX_SECONDS)),
        });
        let plan = Plan {
            track: catalogue::track(&self.place.track).context("no such track")?,
            scenario: Scenario {
                light: self.place.light,
                seed: self.place.seed,
                start: self.place.start,
                faults: Faults::of(&self.fault),
                watchdog: self.watchdog,
                judge,
            },
            lock_step: self.lock_step,
            reply_timeout: Duration::from_secs_f64(self.reply_timeout),
        };
        let way = self.dial.map_or(Way::Listen(self.listen), Way::Dial);
        if judge.is_none() {
            host::host(&way, &plan, patience, self.max_clients.into())?;
            return Ok(ExitCode::SUCCESS);
        }
        let outputs = Outputs { report: self.report, trace: self.trace, plot: self.plot };
        let passed = host::judge(&way, &plan, patience, &outputs)?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }
}

impl SnapshotArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let encoding = match self.file.extension().and_then(|ending| ending.to_str()) {
            Some("jpg" | "jpeg") => Encoding::Jpeg,
            Some("png") => Encoding::Png,
            Some("tga") => Encoding::Tga,
            _ => anyhow::bail!("{}: end the name in jpg, png or tga", self.file.display()),
        };
        let Place { track, seed, light, start } = self.place;
        let track = catalogue::track(&track).context("no such track")?;
        let on = track.pose_at(start);
        let at = on.at + Vec2::right_of(on.yaw) * self.offset;
        let pose = Pose { at, yaw: on.yaw + self.turn.to_radians() };
        let picture =
            Renderer::new(&track, light.light(seed), seed).draw(&Camera::default(), pose, 0);
        std::fs::write(&self.file, picture.encode(encoding)?)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tracks(output: Output) -> anyhow::Result<ExitCode> {
    let tracks: Vec<_> =
        catalogue::NAMES.iter().filter_map(|name| catalogue::track(name)).collect();
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let rows: Vec<_> = tracks
                .iter()
                .map(|track| {
                    serde_json::json!({
                        "name": track.name,
                        "about": track.about,
                        "lengthM": (track.length() * 1e3).round() / 1e3,
                        "roadHalfWidthM": track.half_width,
                        "tightestBendM": (catalogue::tightest(track) * 1e3).round() / 1e3,
                        "nodes": track.nodes(),
                        "trackDigest": track.digest(),
                    })
                })
                .collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        }
        Output::Text => {
            for track in &tracks {
                writeln!(out, "{:16} {:5.1} m  {}", track.name, track.length(), track.about)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let refused = |args: &[&str]| {
            let all = std::iter::once("pitlane-twin").chain(args.iter().copied());
            Cli::try_parse_from(all).is_err()
        };
        for args in [
            &["--track", "moon"][..],
            &["--light", "noon"],
            &["--start", "1.5"],
            &["--start", "nan"],
            &["--laps", "0"],
            &["--report", "x.json"],
            &["--fault", "melt-at=1"],
            &["--listen", "here"],
            &["--listen", "127.0.0.1:1", "--dial", "127.0.0.1:2"],
            &["--laps", "1", "--max-seconds", "1e9"],
        ] {
            assert!(refused(args), "{args:?}");
        }
        assert!(!refused(&["--laps", "3", "--fault", "drop=0.1,delay-ms=100", "--lock-step"]));
    }
}
