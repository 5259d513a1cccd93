//! `.dockerignore`: which files of a context stay at home. The rules are those of Docker's command
//! line (moby/patternmatcher): the last pattern that fits a path or a folder above it decides.

/// Most bytes and patterns of such a file.
pub(crate) const MAX_FILE: u64 = 64 * 1024;
const MAX_PATTERNS: usize = 1000;
/// Longest pattern, in bytes: matching costs its length times the path's.
const MAX_PATTERN: usize = 1024;

/// The patterns of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    keep: bool,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any part of a name.
    Part,
    /// `**`: anything.
    Any,
    /// `**/`: folders, or none.
    Folders,
    /// `[a-z]`: one of these, or (true) none of these.
    Class(bool, Vec<(char, char)>),
}

impl Ignore {
    /// Reads the file's text; the error says what is wrong with which line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.len() > MAX_PATTERN {
                return Err(wrong("the pattern is longer than 1024 bytes"));
            }
            if patterns.len() == MAX_PATTERNS {
                return Err(wrong("more than 1000 patterns"));
            }
            let pattern = cleaned(pattern);
            if pattern.is_empty() {
                return Err(wrong("the pattern is empty"));
            }
            let tokens =
                tokens(&pattern).ok_or_else(|| wrong("a bracket or backslash has no end"))?;
            patterns.push(Pattern { keep, tokens });
        }
        Ok(Self { patterns })
    }

    /// Whether a path (relative, with `/`) stays at home.
    pub(crate) fn ignores(&self, path: &str) -> bool {
        let prefixes: Vec<Vec<char>> = path
            .char_indices()
            .filter(|(_, c)| *c == '/')
            .map(|(at, _)| at)
            .chain([path.len()])
            .map(|end| path[..end].chars().collect())
            .collect();
        let fits = |p: &Pattern| prefixes.iter().any(|prefix| fits(&p.tokens, prefix));
        self.patterns.iter().rfind(|p| fits(p)).is_some_and(|p| !p.keep)
    }

    /// Whether nothing below an ignored folder can come back.
    pub(crate) fn is_final(&self) -> bool {
        !self.patterns.iter().any(|p| p.keep)
    }
}

/// Go's `filepath.Clean` for what stands in such files, without the root.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                while rest.next_if_eq(&'*').is_some() {}
                if rest.next_if_eq(&'/').is_some() { Token::Folders } else { Token::Any }
            }
            '*' => Token::Part,
            '?' => Token::One,
            '\\' => Token::Literal(rest.next()?),
            '[' => {
                let not = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut one = || match rest.next()? {
                        '\\' => rest.next().map(|c| (c, false)),
                        c => Some((c, c == ']')),
                    };
                    let (from, end) = one()?;
                    if end && !ranges.is_empty() {
                        break;
                    }
                    let to = if rest.next_if_eq(&'-').is_some() { rest.next()? } else { from };
                    ranges.push((from, to));
                }
                Token::Class(not, ranges)
            }
            c => Token::Literal(c),
        });
    }
    Some(out)
}

/// Whether the tokens fit all of a path. Time is their number times the path's length.
fn fits(tokens: &[Token], path: &[char]) -> bool {
    // here[i]: the tokens so far fit the first i characters.
    let mut here = vec![false; path.len() + 1];
    here[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        // `*` and `**` can go on from any earlier place.
        let (mut part, mut any) = (false, false);
        for at in 0..=path.len() {
            let before = at.checked_sub(1).map(|i| (path[i], here[i]));
            part = (part && before.is_some_and(|(c, _)| c != '/')) || here[at];
            any |= here[at];
            next[at] = match token {
                Token::Literal(want) => before.is_some_and(|(c, fit)| fit && c == *want),
                Token::One => before.is_some_and(|(c, fit)| fit && c != '/'),
                Token::Part => part,
                Token::Any => any,
                Token::Folders => here[at] || (any && before.is_some_and(|(c, _)| c == '/')),
                Token::Class(not, ranges) => before.is_some_and(|(c, fit)| {
                    fit && c != '/' && ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *not
                }),
            };
        }
        here = next;
    }
    here[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_fits_decides() {
        for (file, ignored, sent) in [
            ("*.md\n!README.md", &["a.md"][..], &["README.md", "docs/a.md"][..]),
            ("**/*.md", &["a.md", "x/y/a.md"], &["a.mdx"]),
            ("/target/", &["target", "target/x/y"], &["x/target"]),
            ("**/node_modules", &["node_modules", "a/node_modules/b"], &["node_modules2"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b"]),
            ("a/**/z", &["a/z", "a/b/c/z"], &["a/b", "az"]),
            ("*/temp*", &["x/temporary", "x/temp/y"], &["temp", "x/y/temp"]),
            ("temp?", &["tempa"], &["temp", "tempab"]),
            ("*\n!src", &["x", "src2"], &["src", "src/a"]),
            ("src\n!src/keep", &["src/a"], &["src/keep", "src/keep/b"]),
            ("!a\na", &["a"], &[]),
            ("[a-c]x\n[^y]z", &["ax", "xz"], &["dx", "yz"]),
            ("a/../b\n./c//d", &["b", "c/d"], &["a"]),
            ("# comment\n\n  .git  ", &[".git", ".git/config"], &["# comment"]),
            ("\\*", &["*"], &["x"]),
        ] {
            let rules = Ignore::parse(file).unwrap();
            for path in ignored {
                assert!(rules.ignores(path), "{file:?} must ignore {path}");
            }
            for path in sent {
                assert!(!rules.ignores(path), "{file:?} must send {path}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for file in ["[a", "x\\", "!", ".", "..", &"x".repeat(1025), &"x\n".repeat(1001)] {
            assert!(Ignore::parse(file).is_err(), "{file:.20}");
        }
    }

    /// A pattern of many stars takes no longer than its length times the path's.
    #[test]
    fn hostile_patterns_end() {
        let rules = Ignore::parse(&format!("{}b", "**a*".repeat(250))).unwrap();
        assert!(!rules.ignores(&"a".repeat(4000)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(file in ".{0,80}", path in "[a-z/.*]{1,40}") {
            if let Ok(rules) = Ignore::parse(&file) {
                rules.ignores(&path);
            }
        }
    }
}
