//! Names of one-shot runs.

/// A run's name: when it began, and something random.
pub(super) fn new() -> String {
    let random = rand_core::RngCore::next_u32(&mut rand_core::OsRng);
    format!("{}-{random:08x}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))
}
