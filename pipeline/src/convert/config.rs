//! `Convert`: how a model becomes ONNX, as pipeline files say it.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use pitlane_builder::convert as builder;
use pitlane_release::ModelCard;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::EngineAt;

const MIB: u64 = 1024 * 1024;

/// How a model of another framework becomes ONNX.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Convert {
    /// What the file is of.
    pub framework: Framework,
    /// The network's class, `module.Class`, of `pytorch`; else the card's `class`.
    #[serde(default)]
    pub class: Option<String>,
    /// The class's arguments by name.
    #[serde(default)]
    pub arguments: BTreeMap<String, serde_json::Value>,
    /// Python modules in the repository that the class needs; all that lie beside the model when
    /// absent.
    #[serde(default)]
    pub code: Option<Vec<PathBuf>>,
    /// The standard operator set, 13 to 17.
    #[serde(default = "opset")]
    pub opset: u32,
    /// What original and file are compared on.
    #[serde(default)]
    pub samples: Samples,
    /// Largest difference of any output on any of them.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// The converter's image, on the engine's host; `pitlane-converter:…` of the framework when
    /// absent.
    #[serde(default)]
    pub image: Option<String>,
    /// The engine; the local socket when absent.
    #[serde(default)]
    pub engine: EngineAt,
    /// Bounds of the container.
    #[serde(default)]
    pub limits: ConvertLimits,
}

const fn opset() -> u32 {
    17
}

const fn tolerance() -> f64 {
    1e-4
}

/// A framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framework {
    /// Weights of `PyTorch` without their network (`torch.save(model.state_dict())`).
    Pytorch,
    /// Network and weights (`torch.jit.save`).
    Torchscript,
    /// Keras, `.keras` or `.h5`.
    Keras,
    /// TensorFlow Lite.
    Tflite,
    /// scikit-learn, a pickle.
    Sklearn,
}

impl Framework {
    /// Its name, as pipeline files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pytorch => "pytorch",
            Self::Torchscript => "torchscript",
            Self::Keras => "keras",
            Self::Tflite => "tflite",
            Self::Sklearn => "sklearn",
        }
    }
}

/// Pictures that are made from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Samples {
    /// How many, 1 to 1000.
    pub count: u32,
    /// The seed.
    pub seed: u32,
}

impl Default for Samples {
    fn default() -> Self {
        Self { count: 20, seed: 7 }
    }
}

/// Bounds of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConvertLimits {
    /// Seconds until it is stopped; 10 to 3000.
    pub seconds: u64,
    /// Memory, scratch space included, MiB.
    pub memory_mib: u64,
    /// Scratch space, MiB.
    pub scratch_mib: u64,
    /// Thousandths of a processor.
    pub milli_cpus: u32,
    /// Processes and threads.
    pub processes: u32,
}

impl Default for ConvertLimits {
    fn default() -> Self {
        let Limits { seconds, memory, scratch, milli_cpus, processes, .. } = Limits::default();
        let (memory_mib, scratch_mib) = (memory / MIB, scratch / MIB);
        Self { seconds, memory_mib, scratch_mib, milli_cpus, processes }
    }
}

use builder::ConvertLimits as Limits;

impl ConvertLimits {
    /// As the builder has them; models are bounded by the contract.
    pub(super) fn of(&self, model_bytes: u64) -> Limits {
        Limits {
            seconds: self.seconds,
            memory: self.memory_mib * MIB,
            scratch: self.scratch_mib * MIB,
            milli_cpus: self.milli_cpus,
            processes: self.processes,
            model_bytes,
        }
    }
}

impl Convert {
    /// Makes its paths absolute, but for those in the repository.
    pub fn rebase(&mut self, dir: &Path) {
        self.engine.rebase(dir);
    }

    /// Refuses what cannot be converted, as far as that shows in the file.
    pub fn check(&self) -> anyhow::Result<()> {
        let pytorch = self.framework == Framework::Pytorch;
        let name = self.framework.name();
        ensure!(
            pytorch || (self.class.is_none() && self.arguments.is_empty() && self.code.is_none()),
            "fields `class`, `arguments` and `code` belong to `pytorch`: a file of `{name}` has its network"
        );
        for path in self.code.iter().flatten() {
            let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            let python = path.extension().is_some_and(|end| end == "py");
            ensure!(
                inside && python,
                "field `code`: `{}` must be a plain path of a .py file in the repository",
                path.display()
            );
        }
        let ConvertLimits { seconds, memory_mib, scratch_mib, milli_cpus, processes } = self.limits;
        for (field, value, low, high) in [
            ("opset", u64::from(self.opset), 13, 17),
            ("samples.count", u64::from(self.samples.count), 1, 1000),
            ("limits.seconds", seconds, 10, 3000),
            ("limits.memoryMib", memory_mib, 64, 1 << 20),
            ("limits.scratchMib", scratch_mib, 1, 1 << 20),
            ("limits.milliCpus", u64::from(milli_cpus), 10, 1_000_000),
            ("limits.processes", u64::from(processes), 8, 100_000),
        ] {
            ensure!(
                (low..=high).contains(&value),
                "field `{field}`: {value} is not in {low} to {high}"
            );
        }
        ensure!(
            self.tolerance.is_finite() && self.tolerance >= 0.0,
            "field `tolerance`: {} is no distance",
            self.tolerance
        );
        self.engine.host().context("field `engine`")?;
        Ok(())
    }

    /// The class of the network: the operator's word, else the card's.
    pub fn class<'a>(&'a self, card: &'a ModelCard) -> Option<&'a str> {
        self.class.as_deref().or(card.class.as_deref())
    }

    /// The converter's image.
    pub fn image(&self) -> String {
        let own = match self.framework {
            Framework::Pytorch | Framework::Torchscript => "pytorch",
            Framework::Keras | Framework::Tflite => "tensorflow",
            Framework::Sklearn => "sklearn",
        };
        self.image.clone().unwrap_or_else(|| format!("pitlane-converter:{own}"))
    }
}
