//! What needs a container engine: images built from a repository's Dockerfile, and models of other
//! frameworks turned into ONNX. Both run code of strangers, so both are treated as attacks.
//!
//! # Modules
//! - where: [`Host`] (a socket, TLS, or a tunnel of ssh) → [`Builder::connect`]
//! - what goes in: [`BuildRequest`]; `context` (what is packed, and refused), `ignore`
//!   (`.dockerignore`), `dockerfile` (what a Dockerfile may reach)
//! - what happens: [`Event`], bounded
//! - what comes out: [`Built`]: config and layers on disk, hashed by us; `saved` (the engine's archive)
//! - [`convert`]: [`Conversion`](convert::Conversion) → [`Converted`](convert::Converted)
//!
//! No credential is ever given to the engine: images that a Dockerfile starts from must be there.
//! For people: `docs/builders.md`.

mod build;
mod buildkit;
mod context;
pub mod convert;
mod dockerfile;
mod error;
mod event;
mod host;
mod ignore;
mod image;
mod request;
mod saved;
mod stream;
mod tunnel;

pub use build::Builder;
pub use context::{ContextFault, Packed};
pub use dockerfile::{DockerfileFault, Fault};
pub use error::BuildError;
pub use event::Event;
pub use host::{EngineFacts, Host, HostError, Tls};
pub use image::{Built, Document, Layer};
pub use request::{BuildRequest, Engine, Limits, Network};
pub use saved::SavedFault;
