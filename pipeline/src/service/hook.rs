//! For a plain git server: a post-receive hook that tells the service of pushed tags, in the
//! shape and with the signature of GitHub's push event.

mod install;
mod post;

pub use install::{HookError, Install, Installed, install};
pub use post::{Post, Told, post};
