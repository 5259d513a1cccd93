//! The GitOps repository without a work tree: a bare, shallow copy whose objects are read and
//! written by their names.
//!
//! Nothing is checked out, so no link, filter, attribute or submodule of the repository means
//! anything here, and a file's bytes are its bytes.

mod copy;
mod read;
mod run;
mod write;

pub(crate) use copy::Copy;
pub use run::GitFailure;
pub(crate) use run::{Git, Ran};
pub(crate) use write::{NewCommit, Pushed};
