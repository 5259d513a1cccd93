//! Reading YAML from outside: bounded, strict, and in one place, so that the library is one choice.

use serde::de::DeserializeOwned;

/// Why a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// More bytes than such a file ever needs.
    #[error("{len} bytes, at most {max} are read")]
    TooLarge {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not YAML, or not of the wanted shape; the text names line and column.
    #[error("{0}")]
    Invalid(String),
}

/// Reads one document. The reader's own budget bounds depth, nodes and alias expansion;
/// duplicate keys are errors, since two readers could choose differently.
pub fn read<T: DeserializeOwned>(text: &str, max: usize) -> Result<T, YamlError> {
    if text.len() > max {
        return Err(YamlError::TooLarge { len: text.len(), max });
    }
    serde_saphyr::from_str(text).map_err(|error| YamlError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, fmt::Write as _};

    #[test]
    fn bombs_and_duplicates_are_refused() {
        type Map = BTreeMap<String, serde_json::Value>;
        assert!(read::<Map>("a: 1\na: 2\n", 100).is_err());
        assert!(read::<Map>("a: 1", 3).is_err());
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 9].join(",");
            let _ = writeln!(bomb, "a{i}: &a{i} [{refs}]");
        }
        assert!(read::<Map>(&bomb, 10_000).is_err());
        let deep = format!("a: {}{}", "[".repeat(4000), "]".repeat(4000));
        assert!(read::<Map>(&deep, 10_000).is_err());
    }
}
