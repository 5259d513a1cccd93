//! A field that is there must say something.
//!
//! `ctlog:` with nothing behind it is null, and an optional field that is null reads like one that
//! is absent: the demand would be gone without a word. So is an empty list where the absence of
//! the list means "anybody" or "nothing".

use serde::{Deserialize, Deserializer, de::Error as _};

const EMPTY: &str = "it is there without a value: write one (`{}` where the defaults are meant), or remove the line";

/// Reads an optional field that must have a value when it is there.
pub(super) fn value<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::<T>::deserialize(deserializer)? {
        Some(value) => Ok(Some(value)),
        None => Err(D::Error::custom(EMPTY)),
    }
}

/// Reads a list that must have an item when it is there.
pub(super) fn items<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::<Vec<T>>::deserialize(deserializer)? {
        Some(list) if !list.is_empty() => Ok(list),
        _ => Err(D::Error::custom("it is there without an item: write one, or remove the line")),
    }
}
