//! The signer as a process of its own: it holds the key, and signs what is on its list for the
//! users on its list.
//!
//! - [`wire`]: what is asked and answered, one JSON line each
//! - [`judge`]: what may be signed: statements of known types, and cosign's simple signing
//! - [`serve`]: the Unix socket, who may connect, and how much
//! - [`place`]: where the socket lies
//! - [`client`]: the service's side
//!
//! It never signs a digest or bytes that it did not understand: whoever has the service can have
//! statements signed while it runs, and nothing else. For people: `docs/keys.md`.

pub mod client;
pub mod judge;
pub mod place;
pub mod serve;
pub mod wire;

pub use judge::Allowed;
pub use serve::{Limits, Peers, serve};
