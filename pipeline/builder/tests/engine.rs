//! Builds and conversions on real engines: `cargo nextest run --release -p pitlane-builder --test engine`.
//!
//! Docker comes from `scripts/dockerd.sh`, base images are made here of a static busybox, converters by
//! `scripts/converters.sh`. What is missing is said, and is a failure with `CI=true`; the converters' images
//! with `PITLANE_CONVERTERS=1`.

#[cfg(test)]
#[path = "engine/building.rs"]
mod building;
#[cfg(test)]
#[path = "engine/converting.rs"]
mod converting;
#[cfg(test)]
#[path = "engine/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "engine/hosts.rs"]
mod hosts;
#[cfg(test)]
#[path = "engine/support.rs"]
mod support;
