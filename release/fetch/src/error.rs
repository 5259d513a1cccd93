//! Why evidence could not be gathered: no answer, and therefore never a permission.

use pitlane_release::{Digest, oci::OciError};

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry answers, and does not have it.
    #[error("{what} is not at {place}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where.
        place: String,
    },
    /// Nobody answers.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        place: String,
        /// What the network said.
        why: String,
    },
    /// The registry wants other credentials.
    #[error("{place} refuses to show {what} ({status}); log in or check the credentials")]
    Denied {
        /// Where.
        place: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that no registry should give.
    #[error("{place} answered {status} for {what}")]
    Status {
        /// Where.
        place: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// More bytes than such a thing may have.
    #[error("{what} is larger than {cap} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The cap.
        cap: u64,
    },
    /// The blob that came is not the one asked for.
    #[error("{what} came with the digest {found}")]
    Mismatch {
        /// What was asked for.
        what: String,
        /// What came.
        found: Digest,
    },
    /// A file could not be read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// A document on the way is unusable.
    #[error(transparent)]
    Document(#[from] OciError),
}
