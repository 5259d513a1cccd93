//! `pitlane-verifier check`: judges an image by a policy.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, bail};
use pitlane_fetch::{Credentials, Layout, Names, Registry, RegistryOptions, Source, gather};
use pitlane_release::{
    Check, Digest, Floor, ImageRef, Platform, Question, Refusal, Verdict, Verified, admit,
    vsa::{self, Judged},
};
use sha2::Digest as _;

use super::Output;
use crate::report::{Report, Took};

/// `verifier.id` of summaries that this program writes.
const VERIFIER: &str = "https://pitlane.dev/verifier";

/// Judge an image by a policy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pitlane-verifier check 127.0.0.1:5000/team/donkeycar:v1.0.0 --policy policies/donkeycar.yaml \\
      --key keys/release.pub
  pitlane-verifier check r.example/team/car@sha256:… --policy p.yaml --key lab=lab.pub --output json
  pitlane-verifier check r.example/team/car:v1 --policy p.yaml --layout /media/usb --offline
  pitlane-verifier check r.example/team/car:v1 --policy policies/keyless.yaml --trusted-root root.json")]
pub(super) struct Args {
    /// REGISTRY/NAME with a tag or a digest.
    image: ImageRef,
    /// The policy.
    #[arg(long)]
    policy: PathBuf,
    /// A public key that the policy only names: FILE, or NAME=FILE; may be repeated.
    #[arg(long)]
    key: Vec<String>,
    /// A trusted root that the policy names, or for one that names none: FILE, or NAME=FILE.
    /// Keyless signatures are verified by it; the public-good instance's is built in.
    #[arg(long, value_name = "FILE")]
    trusted_root: Vec<String>,
    /// The platform; this machine's when absent.
    #[arg(long)]
    platform: Option<Platform>,
    /// Read from an OCI image layout instead of the registry.
    #[arg(long)]
    layout: Option<PathBuf>,
    /// Open no connection; needs --layout.
    #[arg(long, requires = "layout")]
    offline: bool,
    /// The lowest counter to admit, as a car that confirmed it would.
    #[arg(long, default_value_t = 0)]
    floor: u64,
    /// Fetch and hash the layers as well.
    #[arg(long)]
    layers: bool,
    /// A registry (HOST:PORT) to speak plain HTTP to; those on loopback always are.
    #[arg(long)]
    plain_http: Vec<String>,
    /// User name for the registry; the password comes from `PITLANE_REGISTRY_PASSWORD`.
    #[arg(long)]
    user: Option<String>,
    /// Write the verdict as a SLSA verification summary (an unsigned in-toto statement).
    #[arg(long, value_name = "FILE")]
    vsa: Option<PathBuf>,
    /// Decide so often, for benches: `decideMs` is the median.
    #[arg(long, hide = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// How to print the verdict.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // One thread: the work is a handful of small requests, one after another. Without a network
    // there is nothing to wait for, and no socket is opened, not even the runtime's own.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if args.layout.is_none() {
        runtime.enable_all();
    }
    let runtime = runtime.build()?;
    runtime.block_on(check(args))
}

async fn check(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut names = Names::default();
    args.key.iter().for_each(|key| names.add_key(key));
    args.trusted_root.iter().for_each(|root| names.add_root(root));
    let (policy, text) = names.policy(&args.policy)?;
    let Some(platform) = args.platform.or_else(Platform::host) else {
        bail!("say which --platform: releases are made for linux/amd64 and linux/arm64");
    };
    let source = source(args)?;
    let evidence = gather(&source, &policy, &args.image, platform)
        .await
        .with_context(|| format!("{}: could not decide", args.image))?;
    let now = now();
    let question = Question { image: &args.image, platform, floor: Floor(args.floor), now };
    let (mut verdict, decide_ms) = decide(args.rounds, || admit(&policy, &question, &evidence));
    if args.layers
        && let Ok(verified) = &verdict.answer
        && let Some(refusal) = altered_layer(&source, verified).await?
    {
        verdict = refused(verdict, refusal);
    }
    if let Some(file) = &args.vsa {
        let name = args.policy.file_name().unwrap_or_default().to_string_lossy();
        let digest = evidence.requested.digest;
        let judged = Judged {
            image: &args.image,
            digest,
            policy: &name,
            policy_text: &text,
            verifier: VERIFIER,
            now,
        };
        let bytes = serde_json::to_vec(&vsa::summary(&judged, &verdict))?;
        std::fs::write(file, bytes).with_context(|| format!("{}: not written", file.display()))?;
    }
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let image = args.image.to_string();
    let report = Report::new(&image, platform, &policy.name, &verdict, Took { ms, decide_ms });
    match args.output {
        Output::Json => super::print_json(&report)?,
        Output::Text => std::io::stdout().lock().write_all(report.text().as_bytes())?,
    }
    Ok(if verdict.allowed() { ExitCode::SUCCESS } else { ExitCode::from(10) })
}

/// The verdict, and how long the decision alone took: the median of the rounds, in milliseconds.
fn decide(rounds: u32, judge: impl Fn() -> Verdict) -> (Verdict, f64) {
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        let verdict = judge();
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        if times.len() >= rounds as usize {
            times.sort_by(f64::total_cmp);
            return (verdict, times[times.len() / 2]);
        }
    }
}

fn source(args: &Args) -> anyhow::Result<Source> {
    if let Some(layout) = &args.layout {
        return Ok(Source::Layout(Layout::open(layout)?));
    }
    let credentials = args.user.as_ref().map(|user| Credentials {
        user: user.clone(),
        password: std::env::var("PITLANE_REGISTRY_PASSWORD").unwrap_or_default(),
    });
    let options = RegistryOptions { plain_http: args.plain_http.clone(), credentials };
    Ok(Source::Registry(Registry::new(options)?))
}

/// The first layer that is not what the manifest says.
async fn altered_layer(source: &Source, verified: &Verified) -> anyhow::Result<Option<Refusal>> {
    for layer in &verified.manifest().layers {
        let mut hasher = sha2::Sha256::new();
        let mut sink = |bytes: &[u8]| {
            hasher.update(bytes);
            Ok(())
        };
        let streamed = source.stream(&verified.image().repository, layer, 0, &mut sink).await;
        let longer = matches!(streamed, Err(pitlane_fetch::FetchError::TooLarge { .. }));
        if !longer {
            streamed.with_context(|| format!("layer {}", layer.digest))?;
        }
        if longer || Digest::from_bytes(hasher.finalize().into()) != layer.digest {
            return Ok(Some(Refusal::Altered { what: "layer", want: layer.digest }));
        }
    }
    Ok(None)
}

fn refused(mut verdict: Verdict, refusal: Refusal) -> Verdict {
    let failed = Check::failed("layers", refusal.to_string()).hinting(refusal.hint());
    verdict.checks.push(failed.wanting("the layers that the manifest names"));
    verdict.answer = Err(refusal);
    verdict
}

/// The clock, in one place.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
