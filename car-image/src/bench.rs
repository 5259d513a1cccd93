//! What a frame costs: the model, and everything around it, on pictures made here.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType, Encoder};
use serde::Serialize;

use crate::camera::Camera;
use crate::cli::{BenchArgs, Output};
use crate::cpu;
use crate::gate::{Limits, SafetyGate};
use crate::lines::Lines;
use crate::model::Model;
use crate::protocol;
use crate::quiet::Quiet;
use crate::stats::Times;

/// Different pictures, used in turn: one alone would sit in the cache.
const PICTURES: u32 = 16;
/// Quality of the pictures, as simulators send them.
const QUALITY: u8 = 75;
/// Frames before the measurement starts.
const WARM_UP: u32 = 20;

#[derive(Debug, Serialize)]
struct Answer {
    version: u32,
    model: String,
    frames: u64,
    inference_ms: Spread,
    /// Processor time of the model, per frame.
    inference_cpu_ms: f64,
    /// Processor time around it, per frame: line, JSON, base64, JPEG, tensor, gate, message.
    overhead_cpu_ms: f64,
    overhead_ms: Spread,
    jpeg_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
}

impl Spread {
    fn of(times: &Times) -> Self {
        Self { p50: times.quantile_ms(0.5), p99: times.quantile_ms(0.99) }
    }
}

/// `pitlane-car bench`
pub(crate) fn run(args: &BenchArgs, quiet: &Quiet) -> anyhow::Result<ExitCode> {
    let mut model = Model::load(&args.model, quiet)?;
    let (width, height) = (model.card.input.width(), model.card.input.height());
    let pictures = (0..PICTURES)
        .map(|seed| telemetry(width, height, seed))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut camera = Camera::new(width, height);
    let limits =
        Limits { max_throttle: 0.5, reverse: false, throttle_rate: None, steering_rate: None };
    let mut gate = SafetyGate::new(limits);
    let mut lines = Lines::default();
    let mut out = Vec::new();
    let (mut inference, mut overhead) = (Times::default(), Times::default());
    let (mut inference_cpu, mut overhead_cpu) = (Duration::ZERO, Duration::ZERO);
    for frame in 0..args.frames.saturating_add(WARM_UP) {
        let at = Duration::from_millis(50) * frame;
        let (start, start_cpu) = (Instant::now(), cpu::of_thread());
        let mut source = pictures[(frame % PICTURES) as usize].0.as_bytes();
        lines.fill(&mut source)?;
        while !source.is_empty() {
            lines.fill(&mut source)?;
        }
        let Some(line) = lines.line() else { continue };
        let message = protocol::parse(line)?;
        model.show(camera.decode(message.picture())?);
        gate.picture(at, u64::from(frame), message.speed);
        let (asked, asked_cpu) = (Instant::now(), cpu::of_thread());
        let answer = model.ask()?;
        let (answered, answered_cpu) = (Instant::now(), cpu::of_thread());
        protocol::control(&mut out, gate.decide(at, answer));
        let (end, end_cpu) = (Instant::now(), cpu::of_thread());
        if frame >= WARM_UP {
            inference.add(answered - asked);
            inference_cpu += answered_cpu.saturating_sub(asked_cpu);
            overhead.add((asked - start) + (end - answered));
            overhead_cpu +=
                asked_cpu.saturating_sub(start_cpu) + end_cpu.saturating_sub(answered_cpu);
        }
    }
    let per_frame = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(args.frames);
    let answer = Answer {
        version: 1,
        model: model.digest.to_string(),
        frames: inference.count(),
        inference_ms: Spread::of(&inference),
        inference_cpu_ms: per_frame(inference_cpu),
        overhead_cpu_ms: per_frame(overhead_cpu),
        overhead_ms: Spread::of(&overhead),
        jpeg_bytes: pictures.iter().map(|p| p.1).sum::<usize>() / pictures.len(),
    };
    let mut stdout = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(stdout, "{}", serde_json::to_string(&answer)?)?,
        Output::Text => writeln!(
            stdout,
            "inference  median {:.3} ms, p99 {:.3} ms, CPU {:.3} ms a frame\n\
             around it  median {:.3} ms, p99 {:.3} ms, CPU {:.3} ms a frame",
            answer.inference_ms.p50,
            answer.inference_ms.p99,
            answer.inference_cpu_ms,
            answer.overhead_ms.p50,
            answer.overhead_ms.p99,
            answer.overhead_cpu_ms
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A telemetry line as the simulator sends it, and the size of its JPEG: a road narrowing
/// towards a horizon, on rough ground.
fn telemetry(width: u32, height: u32, seed: u32) -> anyhow::Result<(String, usize)> {
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    let mut grain = 0x2545_f491_u32.wrapping_mul(seed + 1) | 1;
    for y in 0..height {
        for x in 0..width {
            grain ^= grain << 13;
            grain ^= grain >> 17;
            grain ^= grain << 5;
            let rough = (grain >> 27) as u8;
            let centre = width / 2 + seed;
            let on_road = y > height / 3 && x.abs_diff(centre) < y * width / height / 2;
            rgb.extend(match (y > height / 3, on_road) {
                (false, _) => [110, 160, 220],
                (true, true) => [90 + rough / 4, 90 + rough / 4, 95],
                (true, false) => [60 + rough, 110 + rough, 50],
            });
        }
    }
    let mut jpeg = Vec::new();
    let (w, h) = (u16::try_from(width)?, u16::try_from(height)?);
    Encoder::new(&mut jpeg, QUALITY).encode(&rgb, w, h, ColorType::Rgb)?;
    let image = STANDARD.encode(&jpeg);
    let line = format!(
        "{{\"msg_type\":\"telemetry\",\"steering_angle\":0.1,\"throttle\":0.2,\"speed\":1.5,\
         \"image\":\"{image}\",\"hit\":\"none\",\"time\":{seed},\"accel_x\":0.1,\"accel_y\":0.0,\
         \"accel_z\":0.2,\"gyro_x\":0.0,\"gyro_y\":0.0,\"gyro_z\":0.1,\"activeNode\":4,\
         \"totalNodes\":100,\"pos_x\":1.0,\"pos_y\":0.5,\"pos_z\":2.0,\"cte\":0.25}}\n"
    );
    Ok((line, jpeg.len()))
}
