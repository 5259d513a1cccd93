//! The whole lane, tag to wheels, by the programs as people get them, with real peers.
//!
//! One binary; `cargo nextest run --release -p pitlane-tests -E 'test(peers)'` runs one part. What
//! a machine lacks is skipped with a line that says `SKIP`, and is a failure where `CI=true`.

#[cfg(test)]
mod actions;
#[cfg(test)]
mod admission;
#[cfg(test)]
mod admission_files;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod arm64;
#[cfg(test)]
mod builds;
#[cfg(test)]
mod builds_examples;
#[cfg(test)]
mod builds_hostile;
#[cfg(test)]
mod burst;
#[cfg(test)]
mod common;
#[cfg(test)]
mod conversions;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod fronts;
#[cfg(test)]
mod gated;
#[cfg(test)]
mod github;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod keyless;
#[cfg(test)]
mod keyless_lane;
#[cfg(test)]
mod kubernetes_service;
#[cfg(test)]
mod peers_attest;
#[cfg(test)]
mod peers_cosign;
#[cfg(test)]
mod peers_docker;
#[cfg(test)]
mod peers_git;
#[cfg(test)]
mod peers_git_lfs;
#[cfg(test)]
mod peers_gym;
#[cfg(test)]
mod peers_interop;
#[cfg(test)]
mod peers_keyless;
#[cfg(test)]
mod peers_python;
#[cfg(test)]
mod peers_registry;
#[cfg(test)]
mod peers_sig_tags;
#[cfg(test)]
mod peers_signer;
#[cfg(test)]
mod peers_sigtag;
#[cfg(test)]
mod prove_real;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod reproduce;
#[cfg(test)]
mod reproducible;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod service_api;
#[cfg(test)]
mod signer_process;
#[cfg(test)]
mod store_copies;
#[cfg(test)]
mod told;
#[cfg(test)]
mod traces;
