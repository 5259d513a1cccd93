//! What can go wrong in a build. Refusals of a repository's content name the place in it.

use std::path::PathBuf;

use crate::{ContextFault, DockerfileFault, HostError, SavedFault};

/// A build that gave no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The engine could not be reached.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The context is refused; nothing was sent.
    #[error(transparent)]
    Context(#[from] ContextFault),
    /// The Dockerfile is refused; nothing was sent.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileFault),
    /// The request asks for what the engine cannot do.
    #[error("{what}; {next}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// An image to start from is not on the host. It is never pulled by a build.
    #[error("image {name} is not on {host}; pull or load it there, a build does not")]
    BaseMissing {
        /// The image.
        name: String,
        /// The engine.
        host: String,
    },
    /// A step of the Dockerfile failed, by the engine's words.
    #[error("the build failed: {message}{hint}")]
    Failed {
        /// The engine's words, shortened and without control characters.
        message: String,
        /// What to do, where it is known; begins with `; `.
        hint: &'static str,
    },
    /// Time ran out; the build was stopped.
    #[error("the build was stopped after {seconds} s; raise limits.seconds if it needs more")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// What the engine gave back is refused.
    #[error(transparent)]
    Saved(#[from] SavedFault),
    /// The engine answered something unexpected.
    #[error("{host}: {doing}")]
    Engine {
        /// The engine.
        host: String,
        /// What was going on.
        doing: &'static str,
        /// Its answer.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// A file of this machine.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}
