//! The registry against the clients that people use, with tokens that have few rights: Docker,
//! podman, crane, skopeo old and new, oras, cosign. Each test shows also what must be refused.
//!
//! The clients are those of `scripts/peers.sh`; what is missing is skipped with a line that says
//! so, and is a failure where `CI=true`.

#[cfg(test)]
mod artifacts;
#[cfg(test)]
mod engines;
#[cfg(test)]
mod images;
#[cfg(test)]
mod world;
