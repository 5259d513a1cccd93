//! Secrets: read from files that nobody else may read, shown by nothing.

use std::{
    fmt, fs,
    io::Read as _,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use reqwest::Url;
use zeroize::Zeroizing;

/// Longest file with a secret (bytes): a certificate chain or a key are shorter.
const MAX_FILE: u64 = 64 * 1024;
/// Shortest part of an address that may be a token (bytes); shorter ones are words.
const MIN_TOKEN: usize = 8;
/// What stands for a secret.
const HIDDEN: &str = "***";

/// Why a secret, or a file beside it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{}: cannot be read", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error(
        "{}: others may read this secret (mode {mode:o}); run chmod 600 {}", file.display(), file.display()
    )]
    Mode { file: PathBuf, mode: u32 },
    #[error("{}: more than {MAX_FILE} bytes, or no text", file.display())]
    Content { file: PathBuf },
    #[error("{}: empty; write the secret into it", file.display())]
    Empty { file: PathBuf },
    #[error("the address of the webhook {why}")]
    Url { why: String },
}

/// Reads a secret from a file that only its owner may read; line ends at its end go.
pub(crate) fn read_secret(file: &Path) -> Result<Zeroizing<String>, SecretError> {
    read(file, true)
}

/// Reads a file that is no secret, with the same bound.
pub(crate) fn read_public(file: &Path) -> Result<Zeroizing<String>, SecretError> {
    read(file, false)
}

fn read(file: &Path, secret: bool) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |source| SecretError::Read { file: file.to_owned(), source };
    let open = fs::File::open(file).map_err(unreadable)?;
    let mode = open.metadata().map_err(unreadable)?.mode();
    if secret && mode & 0o077 != 0 {
        return Err(SecretError::Mode { file: file.to_owned(), mode: mode & 0o777 });
    }
    let mut text = Zeroizing::new(String::new());
    let read = open.take(MAX_FILE + 1).read_to_string(&mut text);
    if read.is_err() || text.len() as u64 > MAX_FILE {
        return Err(SecretError::Content { file: file.to_owned() });
    }
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    if text.is_empty() {
        return Err(SecretError::Empty { file: file.to_owned() });
    }
    Ok(text)
}

/// An address that may hold a token. What shows it shows where it leads, and no more.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl(Url);

impl SecretUrl {
    /// `https`, or `http` to this machine; `http` to others only where `plain` says so.
    pub(crate) fn parse(text: &str, plain: bool) -> Result<Self, SecretError> {
        let wrong = |why: &str| Err(SecretError::Url { why: why.to_owned() });
        // The library's own text would repeat the address.
        let Ok(url) = Url::parse(text.trim()) else { return wrong("is none") };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("has a user name in it; put tokens into its path or query");
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if plain || is_loopback(&url) => Ok(Self(url)),
            "http" => wrong("is plain http to another machine; use https, or allowPlainHttp: true"),
            _ => wrong("is neither https nor http"),
        }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is plain http, which no proxy gets to see.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// A text of somebody who was told the address: on one line, without the parts that may be
    /// tokens.
    pub(crate) fn redact(&self, text: &str, more: &[&str]) -> String {
        let path = self.0.path_segments().into_iter().flatten().map(str::to_owned);
        let query = self.0.query_pairs().flat_map(|(name, value)| [name.into(), value.into()]);
        let raw = self.0.query().map(str::to_owned).into_iter();
        let mut tokens: Vec<String> = path.chain(query).chain(raw).collect();
        tokens.extend(more.iter().map(|&token| token.to_owned()));
        tokens.retain(|token| token.len() >= MIN_TOKEN);
        // Longer ones first: one may begin with another.
        tokens.sort_by_key(|token| std::cmp::Reverse(token.len()));
        let mut text = text.to_owned();
        for token in tokens {
            text = text.replace(&token, HIDDEN);
        }
        text
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{HIDDEN}", self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn addresses_that_are_used() {
        for (text, plain, good) in [
            ("https://hooks.example/services/T0/B0/abcdefgh", false, true),
            ("http://127.0.0.1:9/x", false, true),
            ("http://127.8.9.1/x", false, true),
            ("http://[::1]:9/x", false, true),
            ("http://localhost/x", false, true),
            ("http://localhost.evil.example/x", false, false),
            ("http://127.0.0.1.evil.example/x", false, false),
            ("http://10.0.0.1/x", false, false),
            ("http://10.0.0.1/x", true, true),
            ("http://[::ffff:10.0.0.1]/x", false, false),
            ("http://0.0.0.0/x", false, false),
            ("http://169.254.169.254/latest", false, false),
            ("ftp://127.0.0.1/x", true, false),
            ("file:///etc/passwd", true, false),
            ("https://user:password@hooks.example/x", false, false),
            ("hooks.example/x", false, false),
        ] {
            let parsed = SecretUrl::parse(text, plain);
            assert_eq!(parsed.is_ok(), good, "{text}: {parsed:?}");
            if let Err(error) = parsed {
                assert!(!error.to_string().contains("password@"), "{error}");
            }
        }
    }

    #[test]
    fn tokens_are_shown_by_nothing() {
        let text = "https://hooks.example/services/T024BE7LH/xoxToken1234?key=abcdefghij&n=1";
        let url = SecretUrl::parse(text, false).unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://hooks.example/*** https://hooks.example/***");
        let said = "no team T024BE7LH for services/xoxToken1234, key=abcdefghij, SECRETSECRET";
        let shown = url.redact(said, &["SECRETSECRET"]);
        assert_eq!(shown, "no team *** for ***/***, key=***, ***");
    }

    #[test]
    fn files_that_others_may_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "abc\n").unwrap();
        let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            set(mode);
            let read = read_secret(&file);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
        set(0o600);
        assert_eq!(*read_secret(&file).unwrap(), "abc");
        fs::write(&file, "\n").unwrap();
        assert!(matches!(read_secret(&file), Err(SecretError::Empty { .. })));
        fs::write(&file, vec![b'a'; 70_000]).unwrap();
        assert!(matches!(read_public(&file), Err(SecretError::Content { .. })));
        assert!(read_secret(&folder.path().join("none")).is_err());
    }
}
