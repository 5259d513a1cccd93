//! Image patterns with policy-controller's meaning: `*` within one path part, `**` across parts.

use std::{fmt, str::FromStr};

/// A pattern of image names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_:/*.@".contains(&b);
        if text.is_empty() || text.len() > 300 || !text.bytes().all(ok) {
            return Err(format!("`{text}`: want letters, digits and - _ : / . @ * **"));
        }
        // The short forms stand for the registry that container tools default to.
        Ok(Self(match text {
            "*" => "index.docker.io/library/*".into(),
            "*/*" => "index.docker.io/*/*".into(),
            _ => text.into(),
        }))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Glob {
    /// Whether the whole name matches. Linear in pattern × name, so no name can stall it.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        // reach[i]: the pattern read so far can match name[..i].
        let mut reach = vec![false; name.len() + 1];
        reach[0] = true;
        let mut rest = self.0.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte == b'*' {
                let deep = rest.first() == Some(&b'*');
                if deep {
                    rest = &rest[1..];
                }
                for i in 0..name.len() {
                    if reach[i] && (deep || name[i] != b'/') {
                        reach[i + 1] = true;
                    }
                }
            } else {
                for i in (0..name.len()).rev() {
                    reach[i + 1] = reach[i] && name[i] == byte;
                }
                reach[0] = false;
            }
        }
        reach[name.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_their_part() {
        for (glob, name, want) in [
            ("r.example/team/*", "r.example/team/car", true),
            ("r.example/team/*", "r.example/team/car:v1", true),
            ("r.example/team/*", "r.example/team/a/b", false),
            ("r.example/team/**", "r.example/team/a/b@sha256:00", true),
            ("r.example/team/**", "r.example/team", false),
            ("r.example/team/**", "evil.example/r.example/team/a", false),
            ("r.example/*/car", "r.example/a/car", true),
            ("r.example/*/car", "r.example/a/b/car", false),
            ("rXexample/**", "r.example/a", false),
            ("*", "index.docker.io/library/a", true),
            ("*", "r.example/a", false),
            ("**", "anything/at:all", true),
        ] {
            assert_eq!(glob.parse::<Glob>().unwrap().matches(name), want, "{glob} {name}");
        }
        assert!("a b".parse::<Glob>().is_err());
        assert!("".parse::<Glob>().is_err());
    }
}
