//! Tables of files as people keep them, what may change in them, and what must be refused.

mod accepted;
mod law;
mod refused;
mod renders;

use super::*;

/// The repository that the files name.
pub(super) fn repository() -> Repository {
    "r.example:5000/team/car".parse().unwrap()
}

pub(super) fn pin() -> Pin {
    Pin { digest: Digest::from_bytes([0x22; 32]), tag: "v2.0.0".into() }
}

/// Sixty-four times this digit, as a digest.
pub(super) fn digest(of: char) -> String {
    format!("sha256:{}", of.to_string().repeat(64))
}

/// A file of the tables: `OLD` stands for the digest before.
pub(super) fn file(text: &str) -> String {
    text.replace("OLD", &digest('1')).replace("OTHER", &digest('3'))
}

pub(super) fn target(yaml: &str) -> Target {
    let target: Target = pitlane_release::yaml::read(yaml, 1000).unwrap();
    target.check().unwrap();
    target
}

/// The lines of `after` that `before` does not have in that place.
pub(super) fn changed(before: &str, after: &str) -> Vec<(String, String)> {
    let (old, new): (Vec<_>, Vec<_>) = (before.split('\n').collect(), after.split('\n').collect());
    assert_eq!(old.len(), new.len(), "no line comes or goes");
    let pairs = old.into_iter().zip(new).filter(|(old, new)| old != new);
    pairs.map(|(old, new)| (old.to_owned(), new.to_owned())).collect()
}
