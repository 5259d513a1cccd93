//! The car's side of a release: keep its content, unpack it, start it, remember what drove.
//!
//! No daemon and no path is trusted between checking and running: bytes are hashed while they are
//! unpacked, the runtime's configuration is made from verified data and the operator's profile
//! alone, and which release may start is decided by a small state file that survives power cuts.
//!
//! # Modules
//! - content: [`store`] (by digest), [`unpack`] (layers to a root file system)
//! - start: [`profile`] (what the operator grants), [`bundle`] (the runtime's configuration),
//!   [`engine`] (crun or runc), [`launch`], then [`running`] and its [`health`]
//! - memory: [`slots`] (which release drives), [`state_file`] over [`fs`] (so that it survives)

pub mod bundle;
pub mod engine;
pub mod fs;
pub mod health;
pub mod launch;
mod log;
mod machine;
pub mod profile;
pub mod running;
mod seccomp;
pub mod slots;
pub mod state_file;
pub mod store;
pub mod unpack;
