//! The model: read once, bounded, run by ONNX Runtime on one thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session};
use ort::value::{Outlet, TensorRef};
use pitlane_release::model::{CardError, MAX_CARD, Meaning};
use pitlane_release::{Digest, ModelCard};

use crate::cli::ModelArgs;
use crate::files::{FileError, read_capped};
use crate::gate::Answer;
use crate::preprocess::{Preprocess, TooManyPixels};
use crate::quiet::Quiet;

/// Largest model read (bytes): twenty times a usual pilot, and a quarter of the memory of the
/// smallest car.
const MAX_MODEL: u64 = 64 << 20;
/// Most numbers in one output; a linear pilot has one.
const MAX_OUTPUT: usize = 1024;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The card is not one.
    #[error("{0}: {1}")]
    Card(PathBuf, CardError),
    /// The card asks for too much.
    #[error("{0}: {1}")]
    Pixels(PathBuf, TooManyPixels),
    /// The library's path would be searched for in places that anyone can name.
    #[error("--ort-lib {0}: want an absolute path")]
    Relative(PathBuf),
    /// ONNX Runtime is not there, too old, or refuses the model.
    #[error("{0}: {1}")]
    Runtime(PathBuf, String),
    /// Card and model contradict each other.
    #[error("{0}: {1}; the card must describe this model")]
    Contradiction(PathBuf, String),
    /// An answer is not what a pilot answers.
    #[error("output `{0}`: {1}")]
    Output(String, String),
}

/// A model ready to be asked.
pub(crate) struct Model {
    /// SHA-256 of the bytes that were loaded.
    pub(crate) digest: Digest,
    /// The card.
    pub(crate) card: ModelCard,
    /// How frames become tensors.
    pub(crate) preprocess: Preprocess,
    session: Session,
    options: Arc<RunOptions>,
    shape: Vec<i64>,
    tensor: Vec<f32>,
    /// The model's names of the card's outputs, in the card's order.
    names: Vec<String>,
    steering: usize,
    throttle: usize,
    // The library forgets its environment when nobody holds it.
    _environment: Environment,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} {})", self.card.name, self.digest)
    }
}

/// Stops an inference from another thread.
#[derive(Clone)]
pub(crate) struct Abort(Arc<RunOptions>);

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Abort")
    }
}

impl Abort {
    /// Makes the inference in progress, and all later ones, fail soon.
    pub(crate) fn now(&self) {
        // It fails only without an API; then there is no inference to stop either.
        let _ = self.0.terminate();
    }
}

impl Model {
    /// Reads card and model, loads the library, and prepares everything.
    pub(crate) fn load(args: &ModelArgs, _quiet: &Quiet) -> Result<Self, ModelError> {
        let card_path = args.card.clone().unwrap_or_else(|| args.model.with_extension("yaml"));
        let card = read_card(&card_path)?;
        let preprocess = Preprocess::new(&card.input)
            .map_err(|error| ModelError::Pixels(card_path.clone(), error))?;
        let bytes = read_capped(&args.model, MAX_MODEL)?;
        // Hashed and loaded from the same buffer: what is reported is what runs, and a model in
        // memory has no directory to draw further files from.
        let digest = Digest::of(&bytes);
        let environment = load_library(&args.ort_lib)?;
        let session = commit(&environment, &bytes)
            .map_err(|error| ModelError::Runtime(args.model.clone(), error.to_string()))?;
        let options = RunOptions::new()
            .map_err(|error| ModelError::Runtime(args.ort_lib.clone(), error.to_string()))?;
        let contradiction = |why| ModelError::Contradiction(args.model.clone(), why);
        let shape: Vec<i64> = card.input.shape.iter().map(|n| i64::from(*n)).collect();
        check_input(session.inputs(), &shape).map_err(contradiction)?;
        let names = find_outputs(&card, session.outputs()).map_err(contradiction)?;
        let index = |meaning| {
            card.output(meaning).ok_or_else(|| contradiction(format!("no output for {meaning:?}")))
        };
        Ok(Self {
            steering: index(Meaning::Steering)?,
            throttle: index(Meaning::Throttle)?,
            tensor: vec![0.0; preprocess.len()],
            options: Arc::new(options),
            digest,
            card,
            preprocess,
            session,
            shape,
            names,
            _environment: environment,
        })
    }

    /// A handle to stop an inference from elsewhere.
    pub(crate) fn abort(&self) -> Abort {
        Abort(Arc::clone(&self.options))
    }

    /// Turns a picture into the input of the next [`Self::ask`].
    pub(crate) fn show(&mut self, rgb: &[u8]) {
        self.preprocess.fill(rgb, &mut self.tensor);
    }

    /// Runs the model on what was shown.
    pub(crate) fn ask(&mut self) -> Result<Answer, ModelError> {
        let (steering, throttle) = (self.steering, self.throttle);
        let mut answer = Answer { steering: f32::NAN, throttle: f32::NAN };
        self.each_output(|index, name, values| {
            let &[value] = values else {
                let why = format!("{} numbers, a linear pilot gives one", values.len());
                return Err(ModelError::Output(name.into(), why));
            };
            if index == steering {
                answer.steering = value;
            } else if index == throttle {
                answer.throttle = value;
            }
            Ok(())
        })?;
        Ok(answer)
    }

    /// Runs the model and gives all its outputs, by the card's names.
    pub(crate) fn ask_all(&mut self) -> Result<Vec<(String, Vec<f32>)>, ModelError> {
        let names: Vec<String> = self.card.outputs.iter().map(|o| o.name.clone()).collect();
        let mut all = Vec::with_capacity(names.len());
        self.each_output(|index, _, values| {
            all.push((names[index].clone(), values.to_vec()));
            Ok(())
        })?;
        Ok(all)
    }

    fn each_output(
        &mut self,
        mut each: impl FnMut(usize, &str, &[f32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let failed = |error: ort::Error| ModelError::Output("all".into(), error.to_string());
        let input =
            TensorRef::from_array_view((self.shape.as_slice(), &*self.tensor)).map_err(failed)?;
        let outputs =
            self.session.run_with_options(ort::inputs![input], &*self.options).map_err(failed)?;
        for (index, name) in self.names.iter().enumerate() {
            let bad = |why: String| ModelError::Output(name.clone(), why);
            let value = outputs.get(name).ok_or_else(|| bad("not given".into()))?;
            let (_, values) =
                value.try_extract_tensor::<f32>().map_err(|error| bad(error.to_string()))?;
            if values.len() > MAX_OUTPUT {
                return Err(bad(format!("{} numbers, at most {MAX_OUTPUT}", values.len())));
            }
            each(index, name, values)?;
        }
        Ok(())
    }
}

fn read_card(path: &Path) -> Result<ModelCard, ModelError> {
    let bytes = read_capped(path, MAX_CARD as u64)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| ModelError::Card(path.into(), CardError::Format("not UTF-8".into())))?;
    ModelCard::parse(&text).map_err(|error| ModelError::Card(path.into(), error))
}

/// Loads exactly this library. `ORT_DYLIB_PATH` is only read where no path was given, so naming
/// one takes the choice of code away from the environment.
fn load_library(path: &Path) -> Result<Environment, ModelError> {
    if !path.is_absolute() {
        return Err(ModelError::Relative(path.into()));
    }
    let failed = |why: String| ModelError::Runtime(path.into(), why);
    let builder = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
    builder
        .with_name("pitlane-car")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// One thread and no spinning: small cars have few cores, and the loop needs one of them.
fn commit(environment: &Environment, bytes: &[u8]) -> ort::Result<Session> {
    Session::builder(environment)?
        // `All` and not a number: the numbered levels differ between versions of the library.
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .commit_from_memory(bytes)
}

fn check_input(inputs: &[Outlet], want: &[i64]) -> Result<(), String> {
    let [input] = inputs else {
        return Err(format!("the model has {} inputs, a pilot has one", inputs.len()));
    };
    let name = input.name();
    let Some(shape) = input.dtype().tensor_shape() else {
        return Err(format!("input `{name}` is not a tensor"));
    };
    if input.dtype().tensor_type() != Some(ort::value::TensorElementType::Float32) {
        return Err(format!("input `{name}` is {}, want float32", input.dtype()));
    }
    // -1 is a dimension without a number, usually the batch.
    let fits = shape.len() == want.len()
        && shape.iter().zip(want).all(|(model, card)| *model == -1 || model == card);
    if !fits {
        return Err(format!("input `{name}` has shape {shape:?}, the card says {want:?}"));
    }
    Ok(())
}

/// The model's name of each of the card's outputs; converters like to add `:0`.
fn find_outputs(card: &ModelCard, outputs: &[Outlet]) -> Result<Vec<String>, String> {
    let bare = |name: &str| name.trim_end_matches(":0").to_owned();
    let names: Vec<&str> = outputs.iter().map(Outlet::name).collect();
    card.outputs
        .iter()
        .map(|wanted| {
            names
                .iter()
                .find(|name| **name == wanted.name)
                .or_else(|| names.iter().find(|name| bare(name) == bare(&wanted.name)))
                .map(|name| (*name).to_owned())
                .ok_or_else(|| {
                    format!("no output `{}`; the model has: {}", wanted.name, names.join(", "))
                })
        })
        .collect()
}
