//! Lists and texts of which no more is kept than will be looked at.
//!
//! Bounded while they are read, since what is counted afterwards has been built already. Both stay
//! answerable: the rest of a list is counted, and a text that is too long keeps its beginning and
//! its digest, so that it equals only itself and is no name.

use std::{fmt, marker::PhantomData};

use pitlane_release::Digest;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};

use super::{super::review::cut, PodError};

/// Longest text that is kept whole (bytes): a reference with tag and digest has at most 455.
pub(super) const MAX_TEXT: usize = 512;
/// What is kept of a longer one.
const BEGINNING: usize = 200;

/// The first `MOST` items of a list, and how many there are.
#[derive(Debug)]
pub(super) struct List<T, const MOST: usize> {
    /// The first ones.
    pub(super) kept: Vec<T>,
    all: usize,
}

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self { kept: Vec::new(), all: 0 }
    }
}

impl<T, const MOST: usize> List<T, MOST> {
    /// Whether all of it was kept.
    ///
    /// # Errors
    /// When there is more, which nobody will have looked at.
    pub(super) fn counted(&self, pointer: &str) -> Result<(), PodError> {
        if self.all <= MOST {
            return Ok(());
        }
        let why = format!("{pointer} has {} items, at most {MOST} are looked at", self.all);
        Err(PodError::Object(why))
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
    type Value = List<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = List::default();
        while list.all < MOST {
            let Some(item) = items.next_element()? else { return Ok(list) };
            list.kept.push(item);
            list.all += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            list.all += 1;
        }
        Ok(list)
    }
}

/// A text of at most [`MAX_TEXT`] bytes.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_str(Words)
    }
}

struct Words;

impl Visitor<'_> for Words {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(if text.len() <= MAX_TEXT {
            text.to_owned()
        } else {
            let (beginning, digest) = (cut(text, BEGINNING), Digest::of(text));
            format!("{beginning} ({} bytes, {digest})", text.len())
        }))
    }
}
