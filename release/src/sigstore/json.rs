//! JSON in which every reader must find the same: no key twice, and not deep.
//!
//! Parsers disagree on which of two equal keys wins, and a verifier must not read another
//! document than the tool behind it (RFC 8259, section 4). What is parsed into structs refuses
//! repeated fields by itself; this walk covers maps, and what nobody looks into.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Deepest nesting. A bundle has 7 levels, a provenance with build parameters about 12.
const MAX_DEPTH: usize = 64;

/// Checks one JSON document: well formed, no key twice, [`MAX_DEPTH`], nothing behind it.
pub(super) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Walk(MAX_DEPTH).deserialize(&mut reader)?;
    reader.end()
}

/// A walk through a value, with the levels left.
struct Walk(usize);

impl Walk {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        self.0
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Self(left))?;
            if let Some(twice) = seen.replace(key) {
                let shown: String = twice.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("the key `{shown}` is there twice")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        while seq.next_element_seed(Self(left))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_could_disagree_on_is_refused() {
        for good in [r#"{"a":1,"b":[{"a":null},{"a":-1.5}],"c":"x"}"#, "[]", "true"] {
            check(good.as_bytes()).unwrap();
        }
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        check(deep(MAX_DEPTH).as_bytes()).unwrap();
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":[{"c":{"d":1,"\u0064":2}}]}"#,
            r#"{"a":1} {"#,
            r#"{"a":1"#,
            "",
            &deep(MAX_DEPTH + 1),
            &deep(20_000),
            &"[".repeat(1_000_000),
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad:.60}");
        }
    }
}
