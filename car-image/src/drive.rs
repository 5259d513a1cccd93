//! `drive`: sets the threads up, lets the loop drive, and reports.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::cli::DriveArgs;
use crate::driver::Driver;
use crate::gate::{Limits, StopReason};
use crate::model::Model;
use crate::quiet::Quiet;
use crate::watch::{GateStatus, Shared};
use crate::wheels::Brake;
use crate::{files, selftest, signals, watch};

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// As many frames as asked for.
    Frames,
    /// The simulator closed the connection.
    Closed,
    /// A signal came.
    Signal,
}

/// The report file.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    outcome: Outcome,
    model: String,
    frames: u64,
    skipped: u64,
    bad_frames: u64,
    reconnects: u64,
    seconds: f64,
    loop_hz: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    inference_p50_ms: f64,
    /// Processor time of the whole process less that of the model, per frame.
    overhead_cpu_ms: f64,
    gate: GateStatus,
}

/// `pitlane-car drive`
pub(crate) fn run(args: &DriveArgs, quiet: &Quiet) -> anyhow::Result<ExitCode> {
    let limits = Limits {
        max_throttle: args.max_throttle,
        reverse: args.allow_reverse,
        throttle_rate: args.throttle_rate,
        steering_rate: args.steering_rate,
    };
    // Before anything can start a thread.
    let blocked = signals::block().context("signals cannot be blocked")?;
    let shared = Arc::new(Shared::new(limits));
    let tell = |state: &'static str| {
        if let Some(path) = &args.status {
            watch::tell(&shared, path, Some(state), None);
        }
    };
    tell("starting");
    blocked.listen(Arc::clone(&shared))?;
    let result = drive(args, quiet, &shared);
    shared.end();
    tell("stopped");
    let report = match result? {
        Ok(report) => report,
        Err(why) => {
            talk(&why);
            return Ok(ExitCode::from(10));
        }
    };
    if let Some(path) = &args.report {
        let mut text = serde_json::to_vec_pretty(&report)?;
        text.push(b'\n');
        files::write_whole(path, &text)?;
    }
    talk(&format!(
        "{} frames, {} Hz, latency p99 {} ms, overhead {} ms CPU a frame",
        report.frames, report.loop_hz, report.latency_p99_ms, report.overhead_cpu_ms
    ));
    match report.gate.latched {
        None | Some(StopReason::Lost) => Ok(ExitCode::SUCCESS),
        Some(reason) => {
            talk(&format!("the gate stopped the car: {reason:?}"));
            Ok(ExitCode::from(10))
        }
    }
}

/// Drives; or says why this machine must not.
fn drive(
    args: &DriveArgs,
    quiet: &Quiet,
    shared: &Shared,
) -> anyhow::Result<Result<Report, String>> {
    let mut model = Model::load(&args.model, quiet)?;
    talk(&format!("model {} ({})", model.card.name, model.digest));
    if let Some(file) = &args.golden {
        match selftest::reproduces(&mut model, file)? {
            Ok(told) => talk(&told),
            Err(why) => return Ok(Err(why)),
        }
    }
    shared.watch_model(model.abort());
    let name = model.digest.to_string();
    let mut driver = Driver::new(args, shared, model);
    let outcome = std::thread::scope(|scope| {
        // Dropped before the scope waits for the watchdog, also by a panic.
        let _end = EndOnDrop(shared);
        let _brake = Brake(&shared.wheels);
        std::thread::Builder::new().name("watchdog".into()).spawn_scoped(scope, || {
            watch::run(shared, args.lock_step, args.status.as_deref());
        })?;
        driver.run()
    })?;
    Ok(Ok(report(shared, outcome, name, driver.process_cpu())))
}

/// Lets the watchdog finish, by whatever way the loop is left.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn report(shared: &Shared, outcome: Outcome, model: String, process_cpu: Duration) -> Report {
    let tally = shared.tally().clone();
    let time = tally.time();
    let around = process_cpu.saturating_sub(tally.inference_cpu);
    let per_frame = around.checked_div(u32::try_from(tally.frames).unwrap_or(u32::MAX));
    Report {
        version: 1,
        outcome,
        model,
        frames: tally.frames,
        skipped: tally.skipped,
        bad_frames: tally.bad_frames,
        reconnects: tally.reconnects,
        seconds: micros(time) / 1e6,
        loop_hz: watch::rate(tally.frames, time),
        latency_p50_ms: tally.latency.quantile_ms(0.5),
        latency_p99_ms: tally.latency.quantile_ms(0.99),
        inference_p50_ms: tally.inference.quantile_ms(0.5),
        overhead_cpu_ms: micros(per_frame.unwrap_or_default()) / 1000.0,
        gate: shared.gate_status(),
    }
}

/// Whole microseconds: more digits would say nothing.
fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round()
}

/// Tells people on stderr.
pub(crate) fn talk(text: &str) {
    // Nobody may be listening, and the car drives on.
    let _ = writeln!(io::stderr(), "pitlane-car: {text}");
}
