//! What is said: framing and typed messages of the Donkey simulator's protocol.
//!
//! The simulator ends each of its messages with a newline. Clients do not: they send bare JSON
//! objects, joined and split at will, so the way in is a stream that has to be cut.

pub mod framing;
pub mod inbound;
pub mod outbound;
