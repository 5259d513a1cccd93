//! The command line: what can be asked of the car.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where the image of a car keeps ONNX Runtime.
const ORT_LIB: &str = "/usr/lib/libonnxruntime.so.1";

/// Drives a car by an ONNX model, behind a safety gate.
#[derive(Debug, Parser)]
#[command(
    name = "pitlane-car",
    version,
    after_help = "Exit status: 0 done, 1 could not decide, 2 usage, 10 refused \
                  (drive: the gate stopped the car for good, or golden frames differ; selftest: an answer \
                  is wrong)."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Drive in a simulator that speaks the Donkey protocol
    Drive(DriveArgs),
    /// Load the model, run fixed frames, print the answers
    Selftest(SelftestArgs),
    /// Write the answers to the fixed frames, for other hardware to reproduce
    Golden(GoldenArgs),
    /// Measure inference and everything around it
    Bench(BenchArgs),
    /// Print a shell's completion script
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The model, its card and the library that runs it.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The ONNX model
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    /// Its card [default: beside the model, with the extension .yaml]
    #[arg(long, value_name = "FILE")]
    pub(crate) card: Option<PathBuf>,
    /// ONNX Runtime, an absolute path (environment variables are not asked)
    #[arg(long, value_name = "FILE", default_value = ORT_LIB)]
    pub(crate) ort_lib: PathBuf,
}

/// `drive`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pitlane-car drive --model models/pilot.onnx --sim 127.0.0.1:9091
  pitlane-car drive --model models/pilot.onnx --sim unix:/run/twin.sock --lock-step \\
      --frames 400 --report drive.json
  pitlane-car drive --model /models/pilot.onnx --sim sim:9091 --max-throttle 0.3 \\
      --reconnect-seconds 60 --status /run/car/status.json

The gate sits between model and wheels. It takes the throttle away when frames are older than
200 ms and stops for good at 500 ms, on frozen pictures, and on answers that are no numbers;
it cuts the throttle at --max-throttle and forbids reverse unless --allow-reverse is given.
When the program ends, for whatever reason it can notice, the last words are: neutral, brake.")]
pub(crate) struct DriveArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The simulator: HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDR")]
    pub(crate) sim: SimAddr,
    /// The simulator waits for each answer: time is its time, every frame is answered once
    #[arg(long)]
    pub(crate) lock_step: bool,
    /// Frames a second expected; faster ones are skipped (not in lock step)
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub(crate) hz: f64,
    /// The scene to load [default: the usual `generated_track`, or the first on offer]
    #[arg(long, value_name = "NAME")]
    pub(crate) scene: Option<String>,
    /// Most throttle ever passed on, 0..1
    #[arg(long, value_name = "X", default_value_t = 0.5, value_parser = unit)]
    pub(crate) max_throttle: f32,
    /// Let the model drive backwards, too
    #[arg(long)]
    pub(crate) allow_reverse: bool,
    /// Most change of throttle a second [default: no limit]
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub(crate) throttle_rate: Option<f32>,
    /// Most change of steering a second [default: no limit]
    #[arg(long, value_name = "X", value_parser = positive_f32)]
    pub(crate) steering_rate: Option<f32>,
    /// End after so many answered frames
    #[arg(long, value_name = "N")]
    pub(crate) frames: Option<u64>,
    /// How long to try for the first connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) connect_timeout: u64,
    /// How long to try for another one when it was lost; 0 ends instead
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) reconnect_seconds: u64,
    /// JSON rewritten about once a second, for the agent that watches the car
    #[arg(long, value_name = "FILE")]
    pub(crate) status: Option<PathBuf>,
    /// JSON written at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Answers that this machine must reproduce before it drives (exit status 10 if it does not)
    #[arg(long, value_name = "FILE")]
    pub(crate) golden: Option<PathBuf>,
}

/// `selftest`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pitlane-car selftest --model models/pilot.onnx
  pitlane-car selftest --model models/pilot.onnx --golden golden.json

Prints one JSON object on stdout. Exit status 10: an answer is not finite, or differs from the
golden file by more than its tolerance.")]
pub(crate) struct SelftestArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Answers to reproduce, made by `pitlane-car golden`
    #[arg(long, value_name = "FILE")]
    pub(crate) golden: Option<PathBuf>,
}

/// `golden`
#[derive(Debug, Args)]
pub(crate) struct GoldenArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Where to write them
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How far answers on other hardware may be from these
    #[arg(long, value_name = "X", default_value_t = 1e-4, value_parser = tolerance)]
    pub(crate) tolerance: f64,
}

/// `bench`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  pitlane-car bench --model models/pilot.onnx --frames 2000 --output json

Each frame is a telemetry message with a JPEG picture, read and answered as when driving,
without the socket.")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// How many frames
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) frames: u32,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A few lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// Where the simulator listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SimAddr {
    /// Host and port, as the resolver takes them.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for SimAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: wants a path after the colon".into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {
                Ok(Self::Tcp(text.into()))
            }
            _ => Err("want HOST:PORT or unix:PATH".into()),
        }
    }
}

impl std::fmt::Display for SimAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn unit(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or("want a number in 0..1".into())
}

fn positive_f32(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x: &f32| x.is_finite() && *x > 0.0).ok_or("want more than 0".into())
}

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| *x > 0.0 && *x <= 1.0).ok_or("want more than 0 and up to 1".into())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|x| (0.1..=1000.0).contains(x))
        .ok_or("want a number in 0.1..1000".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses() {
        assert_eq!("h:9091".parse(), Ok(SimAddr::Tcp("h:9091".into())));
        assert_eq!("[::1]:9".parse(), Ok(SimAddr::Tcp("[::1]:9".into())));
        assert_eq!("unix:/a:b".parse(), Ok(SimAddr::Unix("/a:b".into())));
        for bad in ["", "h", "h:", ":1", "h:0", "h:70000", "unix:"] {
            assert!(bad.parse::<SimAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_numbers_in_range() {
        let parse = |flag: &str, value: &str| {
            Cli::try_parse_from([
                "pitlane-car",
                "drive",
                "--model",
                "m",
                "--sim",
                "h:1",
                flag,
                value,
            ])
            .is_ok()
        };
        assert!(parse("--max-throttle", "0.3"));
        for (flag, value) in [
            ("--max-throttle", "1.1"),
            ("--max-throttle", "nan"),
            ("--max-throttle", "-0.1"),
            ("--hz", "0"),
            ("--hz", "inf"),
            ("--throttle-rate", "0"),
            ("--steering-rate", "nan"),
        ] {
            assert!(!parse(flag, value), "{flag} {value}");
        }
    }
}
