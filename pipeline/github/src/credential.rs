//! Who we are to GitHub: a token, or an App. Neither can be printed.

use std::{fmt, io::Read as _, path::Path};

use octocrab::{auth::EncodingKey, models::AppId};
use zeroize::Zeroizing;

/// Longest token (bytes); GitHub's are some 40 to 100, and it says that they may grow to 520.
const LONGEST_TOKEN: usize = 1024;
/// Largest private key file (bytes).
const LARGEST_KEY: u64 = 64 * 1024;

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// Others can read the file.
    #[error("{path}: others can read it (mode {mode:o}); chmod 600 it")]
    Open {
        /// Which file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// It is no token.
    #[error("{0}: no token: want one line of 1 to {LONGEST_TOKEN} visible ASCII characters")]
    Token(String),
    /// It is no RSA key.
    #[error("{0}: no RSA private key in PEM: take the file that GitHub made for the App")]
    Key(String),
}

/// A token of a person, a machine account, or a job.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn read(path: &Path, limit: u64) -> Result<Zeroizing<String>, CredentialError> {
    let shown = path.display().to_string();
    let wrong = |error: std::io::Error| CredentialError::File {
        path: shown.clone(),
        reason: error.to_string(),
    };
    let file = std::fs::File::open(path).map_err(wrong)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(wrong)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CredentialError::Open { path: shown, mode });
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(limit).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

impl Token {
    /// Takes a token; `from` says in errors where it came from.
    pub fn new(text: &str, from: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        let fits = (1..=LONGEST_TOKEN).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(Zeroizing::new(text.to_owned())));
        }
        Err(CredentialError::Token(from.to_owned()))
    }

    /// Reads a file that nobody else can read.
    pub fn from_file(path: &Path) -> Result<Self, CredentialError> {
        let text = read(path, LONGEST_TOKEN as u64 + 16)?;
        Self::new(&text, &path.display().to_string())
    }

    /// Reads an environment variable.
    pub fn from_env(name: &str) -> Result<Self, CredentialError> {
        let text = std::env::var(name).map_err(|_| CredentialError::Unset(name.to_owned()))?;
        Self::new(&Zeroizing::new(text), name)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is an installation's, as jobs get; only those may write check runs.
    pub(crate) fn is_installation(&self) -> bool {
        self.0.starts_with("ghs_")
    }
}

/// A GitHub App: its number, its private key, and perhaps which installation.
#[derive(Clone)]
pub struct App {
    id: u64,
    key: EncodingKey,
    installation: Option<u64>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "App({}, installation {:?})", self.id, self.installation)
    }
}

impl App {
    /// Takes an App's key in PEM; `from` says in errors where it came from. Without an
    /// `installation` it is looked up for each repository.
    pub fn new(
        id: u64,
        pem: &[u8],
        installation: Option<u64>,
        from: &str,
    ) -> Result<Self, CredentialError> {
        let key = EncodingKey::from_rsa_pem(pem);
        let key = key.map_err(|_| CredentialError::Key(from.to_owned()))?;
        let app = Self { id, key, installation };
        // A key that cannot sign is found here, not in the night.
        app.signed().map_err(|_| CredentialError::Key(from.to_owned()))?;
        Ok(app)
    }

    /// Reads the key from a file that nobody else can read.
    pub fn from_file(
        id: u64,
        path: &Path,
        installation: Option<u64>,
    ) -> Result<Self, CredentialError> {
        let pem = read(path, LARGEST_KEY)?;
        Self::new(id, pem.as_bytes(), installation, &path.display().to_string())
    }

    pub(crate) fn installation(&self) -> Option<u64> {
        self.installation
    }

    /// The App's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A token of the App itself, good for nine minutes.
    pub(crate) fn signed(&self) -> Result<Token, String> {
        let signed = octocrab::auth::create_jwt(AppId(self.id), &self.key);
        signed.map(|text| Token(Zeroizing::new(text))).map_err(|error| error.to_string())
    }
}

/// Who we are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// By a token that somebody made.
    Token(Token),
    /// As an App.
    App(App),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn tokens_are_read_and_never_shown() {
        let good = file("ghp_secret\n", 0o600);
        let token = Token::from_file(good.path()).unwrap();
        assert_eq!(token.reveal(), "ghp_secret");
        let shown = format!("{token:?} {:?}", Credentials::Token(token.clone()));
        assert!(!shown.contains("secret"), "{shown}");
        let open = Token::from_file(file("ghp_secret", 0o644).path()).unwrap_err().to_string();
        assert!(open.contains("chmod 600") && !open.contains("secret"), "{open}");
        for bad in ["", " \n", "two words", "two\nlines", "ü", &"x".repeat(LONGEST_TOKEN + 1)] {
            let said = Token::from_file(file(bad, 0o600).path()).unwrap_err().to_string();
            assert!(said.contains("no token"), "{bad}: {said}");
        }
        assert!(Token::from_file(Path::new("/nowhere")).is_err());
        assert_eq!(
            Token::from_env("PITLANE_NO_SUCH_TOKEN").unwrap_err().to_string(),
            "the environment variable PITLANE_NO_SUCH_TOKEN is not set"
        );
    }

    #[test]
    fn keys_that_are_none() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        for bad in ["", "secret", pem] {
            let said = App::from_file(1, file(bad, 0o600).path(), None).unwrap_err().to_string();
            assert!(said.contains("no RSA private key"), "{said}");
        }
    }
}
