//! Fixed frames in, answers out: the same model gives the same answers on every hardware, or it
//! does not drive there.
//!
//! Kernels differ between processors in the last bits, so answers are compared within a
//! tolerance and never bit by bit.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use pitlane_release::Digest;
use pitlane_release::golden::{Answer as Output, Frame, GoldenFrames, MAX_GOLDEN};
use serde::Serialize;

use crate::cli::{GoldenArgs, SelftestArgs};
use crate::files::{read_capped, write_whole};
use crate::model::Model;
use crate::quiet::Quiet;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    version: u32,
    model: String,
    name: String,
    arch: &'static str,
    runtime: &'static str,
    frames: Vec<Frame>,
    finite: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    golden: Option<Comparison>,
    quiet: Surroundings,
    passed: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    same_model: bool,
    max_difference: Option<f64>,
    tolerance: f64,
    ok: bool,
}

impl Comparison {
    fn of(golden: &GoldenFrames, model: &Digest, frames: &[Frame]) -> Self {
        Self {
            same_model: golden.model == *model,
            max_difference: golden.difference(frames),
            tolerance: golden.tolerance,
            ok: golden.reproduced(model, frames),
        }
    }
}

/// What the library did to this process; null where /proc is not there to tell.
#[derive(Debug, Serialize)]
struct Surroundings {
    threads: Option<usize>,
    sockets: Option<usize>,
}

/// `pitlane-car selftest`
pub(crate) fn run(args: &SelftestArgs, quiet: &Quiet) -> anyhow::Result<ExitCode> {
    let golden = args.golden.as_deref().map(read_golden).transpose()?;
    let mut model = Model::load(&args.model, quiet)?;
    let frames = answers(&mut model)?;
    let finite = all_finite(&frames);
    let golden = golden.map(|golden| Comparison::of(&golden, &model.digest, &frames));
    let passed = finite && golden.as_ref().is_none_or(|g| g.ok);
    let answer = Answer {
        version: 1,
        model: model.digest.to_string(),
        name: model.card.name.clone(),
        arch: std::env::consts::ARCH,
        runtime: ort::info(),
        frames,
        finite,
        golden,
        quiet: surroundings(),
        passed,
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    writeln!(out)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(10) })
}

/// `pitlane-car golden`
pub(crate) fn write_golden(args: &GoldenArgs, quiet: &Quiet) -> anyhow::Result<ExitCode> {
    let mut model = Model::load(&args.model, quiet)?;
    let frames = answers(&mut model)?;
    if !all_finite(&frames) {
        crate::drive::talk("the model answers with numbers that are not finite: no golden file");
        return Ok(ExitCode::from(10));
    }
    let golden = GoldenFrames::new(model.digest, args.tolerance, frames);
    let mut text = serde_json::to_vec_pretty(&golden)?;
    text.push(b'\n');
    write_whole(&args.out, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// Before the wheel is taken: the model on this machine answers as it did where it was released.
/// Gives what to tell people, or why it must not drive.
pub(crate) fn reproduces(model: &mut Model, file: &Path) -> anyhow::Result<Result<String, String>> {
    let golden = read_golden(file)?;
    let frames = answers(model)?;
    let found = Comparison::of(&golden, &model.digest, &frames);
    let far = found.max_difference.map_or_else(|| "not comparable".into(), |d| format!("{d:.2e}"));
    if found.ok {
        let frames = frames.len();
        return Ok(Ok(format!("{frames} golden frames reproduced, furthest off {far}")));
    }
    let why = match found.same_model {
        true => format!("the answers differ by {far}, at most {} is allowed", found.tolerance),
        false => format!("the golden frames are of model {}", golden.model),
    };
    Ok(Err(format!("this machine does not reproduce the golden frames: {why}")))
}

fn read_golden(path: &Path) -> anyhow::Result<GoldenFrames> {
    let bytes = read_capped(path, MAX_GOLDEN)?;
    GoldenFrames::read(&bytes).with_context(|| path.display().to_string())
}

/// The fixed frames: black, white, and noise that every machine makes the same.
fn answers(model: &mut Model) -> anyhow::Result<Vec<Frame>> {
    let length = model.preprocess.rgb_len();
    let pictures =
        [("black", vec![0; length]), ("white", vec![255; length]), ("noise", noise(length))];
    pictures
        .into_iter()
        .map(|(name, rgb)| {
            model.show(&rgb);
            let outputs = model.ask_all().with_context(|| format!("frame `{name}`"))?;
            let outputs = outputs.into_iter().map(|(name, values)| Output {
                name,
                values: values.into_iter().map(|v| v.is_finite().then_some(v)).collect(),
            });
            Ok(Frame { name: name.into(), outputs: outputs.collect() })
        })
        .collect()
}

/// Pseudo-random bytes: Marsaglia's xorshift64 from a fixed start, the top byte of each step.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

fn all_finite(frames: &[Frame]) -> bool {
    let mut values = frames.iter().flat_map(|f| &f.outputs).flat_map(|o| &o.values);
    values.all(Option::is_some)
}

fn surroundings() -> Surroundings {
    let count = |path: &str| std::fs::read_dir(path).ok().map(Iterator::flatten);
    let is_socket = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    Surroundings {
        threads: count("/proc/self/task").map(Iterator::count),
        sockets: count("/proc/self/fd").map(|dir| dir.filter(|e| is_socket(e.path())).count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_the_same_for_ever() {
        assert_eq!(noise(8), [220, 100, 123, 48, 44, 151, 154, 217]);
    }
}
