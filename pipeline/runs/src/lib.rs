//! Runs: what the lane does for a tag, and the durable store that keeps it.
//!
//! # Modules
//! - [`lane`]: the steps, their order, what they leave, and the seam to who executes them
//! - [`push`]: a tag that now names a commit; [`route`]: which pipeline it starts
//! - [`store`]: deliveries, tags, counters, runs and their journal, in `SQLite` or `PostgreSQL`
//! - [`told`]: what a refused request is told

pub mod lane;
pub mod push;
pub mod route;
pub mod store;
pub mod told;

pub use push::TagPush;
pub use store::Store;
pub use told::Told;
