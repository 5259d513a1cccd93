//! Good bundles of others, changed in one place each: every change must be refused, by name.

mod bases;
mod edit;
mod mutations;
mod signers;
mod sweep;
