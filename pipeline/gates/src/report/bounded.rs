//! Lists and texts in JSON that have an end: refused while they are read, not afterwards.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::finding::{MAX_FINDINGS, MAX_TEXT};

/// A list of at most [`MAX_FINDINGS`]; `null` is an empty one, as Go programs write it.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    if items.len() == MAX_FINDINGS {
                        return Err(A::Error::custom(format!(
                            "more than {MAX_FINDINGS} in a list"
                        )));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }

        from.deserialize_any(Items(PhantomData))
    }
}

/// A text, cut to one short line while it is read; `null` is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Short(pub(super) String);

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(from)?;
        Ok(Self(crate::text::line(&text.unwrap_or_default(), MAX_TEXT)))
    }
}

impl Short {
    /// The text, or another if it is empty.
    pub(super) fn or(self, other: &str) -> String {
        if self.0.is_empty() { other.to_owned() } else { self.0 }
    }
}
