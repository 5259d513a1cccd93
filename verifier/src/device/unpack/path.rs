//! Names in a layer: from raw bytes to a path that can only point down from the root.

use super::Rule;

/// Longest name of one component (`NAME_MAX` of every file system we unpack to).
pub(super) const MAX_NAME: usize = 255;
/// Longest path (`PATH_MAX` with its NUL).
pub(super) const MAX_PATH: usize = 4095;
/// Deepest path. Real images stay below 20; the bound keeps recursion and open files small.
pub(super) const MAX_DEPTH: usize = 64;
/// What whiteout names begin with (OCI image spec, layer).
const WHITEOUT: &[u8] = b".wh.";

/// A checked path below the root: components joined by `/`, none of them empty, `.` or `..`.
/// The root itself is the empty path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(Vec<u8>);

/// What the last component of a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// An entry of that name.
    Entry(EntryPath),
    /// Removal of that path from the layers below.
    Whiteout(EntryPath),
    /// Removal of all that the layers below have in that directory.
    Opaque(EntryPath),
}

impl EntryPath {
    /// Checks a name as a tar header spells it. `./a`, `a//b` and `a/` are ways to write `a`.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, Rule> {
        if raw.is_empty() {
            return Err(Rule::Name("empty"));
        }
        if raw[0] == b'/' {
            return Err(Rule::Absolute);
        }
        if raw.contains(&0) {
            return Err(Rule::Name("it contains a NUL byte"));
        }
        let (mut path, mut depth) = (Vec::with_capacity(raw.len()), 0);
        for part in raw.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            if part == b".." {
                return Err(Rule::ParentDir);
            }
            if part.len() > MAX_NAME {
                return Err(Rule::Name("a component is longer than 255 bytes"));
            }
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Rule::Name("deeper than 64 directories"));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        if path.len() > MAX_PATH {
            return Err(Rule::Name("longer than 4095 bytes"));
        }
        Ok(Self(path))
    }

    /// Splits whiteouts from entries.
    pub(super) fn meaning(self) -> Result<Meaning, Rule> {
        let (parent, name) = self.split();
        let reserved = |part: &[u8]| part.starts_with(WHITEOUT);
        if parent.split(|b| *b == b'/').any(reserved) {
            return Err(Rule::Whiteout("a directory has a whiteout's name"));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Meaning::Entry(self)) };
        match hidden {
            b".wh..opq" => Ok(Meaning::Opaque(Self(parent.to_vec()))),
            b"" | b"." | b".." => Err(Rule::Whiteout("it names no file")),
            _ if reserved(hidden) => Err(Rule::Whiteout("an unknown kind of whiteout")),
            _ => {
                let mut path = parent.to_vec();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(hidden);
                Ok(Meaning::Whiteout(Self(path)))
            }
        }
    }

    /// Parent and last component; both empty for the root.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        }
    }

    /// Whether it is the root.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The joined bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A child of this directory; the name comes from the directory itself.
    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ok(raw: &str) -> String {
        String::from_utf8(EntryPath::parse(raw.as_bytes()).unwrap().0).unwrap()
    }

    #[test]
    fn one_path_has_one_spelling() {
        for (raw, path) in [
            ("a", "a"),
            ("./a", "a"),
            ("a//b/./c/", "a/b/c"),
            ("./", ""),
            ("a..", "a.."),
            ("...", "..."),
        ] {
            assert_eq!(ok(raw), path);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let (long, deep) = ("x".repeat(256), "a/".repeat(65));
        let far = format!("{}/", "y".repeat(200)).repeat(21);
        for bad in
            ["", "/", "/a", "..", "../a", "a/../b", "a/..", "./..", "a\0b", &long, &deep, &far]
        {
            assert!(EntryPath::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn whiteouts_name_one_file_of_their_own_directory() {
        let meaning = |raw: &str| EntryPath::parse(raw.as_bytes()).unwrap().meaning();
        let path = |raw: &str| EntryPath(raw.as_bytes().to_vec());
        assert_eq!(meaning("a/.wh.b"), Ok(Meaning::Whiteout(path("a/b"))));
        assert_eq!(meaning(".wh.b"), Ok(Meaning::Whiteout(path("b"))));
        assert_eq!(meaning("a/.wh..wh..opq"), Ok(Meaning::Opaque(path("a"))));
        assert_eq!(meaning("a/.whb"), Ok(Meaning::Entry(path("a/.whb"))));
        for bad in ["a/.wh.", "a/.wh..", "a/.wh...", "a/.wh..wh.plnk", ".wh.a/b", ".wh..wh..opq/x"]
        {
            assert!(meaning(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Whatever the bytes, an accepted path stays below the root and is its own normal form.
        #[test]
        fn accepted_paths_point_down(
            raw in proptest::collection::vec(
                prop_oneof![Just(b'/'), Just(b'.'), Just(b'w'), Just(b'h'), Just(0), any::<u8>()], 0..60),
        ) {
            if let Ok(path) = EntryPath::parse(&raw) {
                prop_assert!(!path.0.starts_with(b"/") && !path.0.contains(&0));
                let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
                prop_assert!(path.is_root() || path.0.split(|b| *b == b'/').all(plain));
                let again = EntryPath::parse(if path.is_root() { b"." } else { &path.0 });
                prop_assert_eq!(again.as_ref(), Ok(&path));
                // The kernel, asked lexically, agrees that it stays inside.
                let inside = std::path::Path::new("/root-of-image").join(
                    <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path.0));
                prop_assert!(inside.starts_with("/root-of-image"));
                if let Ok(Meaning::Whiteout(p) | Meaning::Opaque(p) | Meaning::Entry(p)) = path.meaning() {
                    prop_assert!(p.is_root() || p.0.split(|b| *b == b'/').all(plain));
                }
            }
        }
    }
}
