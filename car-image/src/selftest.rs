//! Fixed frames in, answers out: the same model gives the same answers on every hardware, or it
//! does not drive there.
//!
//! Kernels differ between processors in the last bits, so answers are compared within a
//! tolerance and never bit by bit.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::cli::{GoldenArgs, SelftestArgs};
use crate::files::{read_capped, write_whole};
use crate::model::Model;
use crate::quiet::Quiet;

/// Largest difference between an answer and the golden one.
const TOLERANCE: f64 = 1e-4;
/// Largest golden file: three frames of a few numbers, with much room.
const MAX_GOLDEN: u64 = 1 << 20;

/// The golden file. Format `pitlane.dev/v1`, kind `GoldenFrames`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Golden {
    api_version: String,
    kind: String,
    /// Digest of the model that answered.
    model: String,
    frames: Vec<Frame>,
}

/// One frame and what the model said to it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Frame {
    /// Which of the fixed frames.
    name: String,
    /// In the card's order.
    outputs: Vec<Output>,
}

/// One output tensor, flat. A number that is not finite is written as null.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Output {
    name: String,
    values: Vec<Option<f32>>,
}

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
    let digest = model.digest.to_string();
    let golden = golden.map(|golden| {
        let max_difference = difference(&golden.frames, &frames);
        let same_model = golden.model == digest;
        let ok = same_model && max_difference.is_some_and(|d| d <= TOLERANCE);
        Comparison { same_model, max_difference, tolerance: TOLERANCE, ok }
    });
    let passed = finite && golden.as_ref().is_none_or(|g| g.ok);
    let answer = Answer {
        version: 1,
        model: digest,
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
    let golden = Golden {
        api_version: "pitlane.dev/v1".into(),
        kind: "GoldenFrames".into(),
        model: model.digest.to_string(),
        frames,
    };
    let mut text = serde_json::to_vec_pretty(&golden)?;
    text.push(b'\n');
    write_whole(&args.out, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn read_golden(path: &Path) -> anyhow::Result<Golden> {
    let bytes = read_capped(path, MAX_GOLDEN)?;
    let golden: Golden = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: not a golden file", path.display()))?;
    ensure!(
        golden.api_version == "pitlane.dev/v1" && golden.kind == "GoldenFrames",
        "{}: want pitlane.dev/v1 GoldenFrames, got {} {}",
        path.display(),
        golden.api_version,
        golden.kind
    );
    Ok(golden)
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

/// The largest difference; none when the two do not speak of the same frames and outputs.
fn difference(golden: &[Frame], got: &[Frame]) -> Option<f64> {
    if golden.len() != got.len() {
        return None;
    }
    let mut most = 0.0_f64;
    for (golden, got) in golden.iter().zip(got) {
        if golden.name != got.name || golden.outputs.len() != got.outputs.len() {
            return None;
        }
        for (golden, got) in golden.outputs.iter().zip(&got.outputs) {
            if golden.name != got.name || golden.values.len() != got.values.len() {
                return None;
            }
            for (a, b) in golden.values.iter().zip(&got.values) {
                most = most.max((f64::from((*a)?) - f64::from((*b)?)).abs());
            }
        }
    }
    Some(most)
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

    fn frames(value: Option<f32>) -> Vec<Frame> {
        vec![Frame {
            name: "black".into(),
            outputs: vec![Output { name: "a".into(), values: vec![Some(1.0), value] }],
        }]
    }

    #[test]
    fn differences() {
        let most = difference(&frames(Some(0.5)), &frames(Some(0.25)));
        assert!(most.is_some_and(|d| (d - 0.25).abs() < 1e-9), "{most:?}");
        assert_eq!(difference(&frames(Some(0.5)), &frames(None)), None);
        assert_eq!(difference(&frames(Some(0.5)), &[]), None);
        assert!(!all_finite(&frames(None)));
    }

    #[test]
    fn the_noise_is_the_same_for_ever() {
        assert_eq!(noise(8), [220, 100, 123, 48, 44, 151, 154, 217]);
    }
}
