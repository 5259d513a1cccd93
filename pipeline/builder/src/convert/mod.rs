//! Models of other frameworks into ONNX, in a container that has nothing: no network, no rights, no
//! disk, bounded memory, processors, processes and time.
//!
//! A pickle is a program, so its reading is the attack. It happens there alone; what comes out is an
//! ONNX file of a stranger, which the step `model` inspects like any other, and a claim about how
//! near it is to the original, which is the converter's and could be forged by the model. What
//! counts are the laps.
//!
//! - [`Request`], [`Answer`]: the two documents, as `pipelines/converters/convert.py` has them
//! - [`Conversion`]: request, model file, code, image and bounds → [`Converted`] or [`ConvertError`]

mod answer;
mod container;
mod request;
mod run;

pub use answer::{Answer, Outcome};
pub use request::{ApiVersion, Framework, Input, Request, RequestFault, RequestKind, Samples};
pub use run::{Conversion, ConvertError, ConvertLimits, Converted};
