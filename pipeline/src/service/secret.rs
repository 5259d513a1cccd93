//! Shared secrets: of the webhook (HMAC-SHA256) and of the API (bearer token).
//!
//! They are read from a file or the environment, never from argv; they are compared in constant
//! time, wiped when dropped, and have no `Display`; `Debug` shows how many there are.

use std::{
    fmt,
    fs::OpenOptions,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use hmac::{Hmac, Mac as _};
use rand_core::{OsRng, RngCore as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Every delivery is tried with every secret, so their number bounds the work of an unsigned one.
const MAX_SECRETS: usize = 32;
/// A secret file holds a few lines; anything larger is the wrong file.
const MAX_SECRET_FILE: u64 = 16 * 1024;
/// The prefix of `X-Hub-Signature-256`.
const PREFIX: &str = "sha256=";

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("secret file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("secret file {path} has mode {mode:03o}: others may read it; run `chmod 600 {path}`")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("the secret's environment variable {0} is not set")]
    Env(String),
    /// Nothing in it.
    #[error("{0} holds no secret: it is empty")]
    Empty(String),
    /// The file is far larger than a secret.
    #[error("secret file {0} is larger than 16 KiB")]
    Large(PathBuf),
    /// Too many.
    #[error("{0} webhook secrets, at most {MAX_SECRETS} are allowed: drop those rotated out")]
    Many(usize),
}

/// Reads a secret file: a regular file that only its owner can read, at most 16 KiB.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let file_error = |source| SecretError::File { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(file_error)?;
    let meta = file.metadata().map_err(file_error)?;
    if !meta.is_file() {
        return Err(file_error(std::io::Error::other("not a regular file")));
    }
    if crate::config::open_to_others(&meta) {
        return Err(SecretError::Open { path: path.to_owned(), mode: meta.mode() & 0o777 });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    file.take(MAX_SECRET_FILE + 1).read_to_end(&mut bytes).map_err(file_error)?;
    if bytes.len() as u64 > MAX_SECRET_FILE {
        return Err(SecretError::Large(path.to_owned()));
    }
    Ok(bytes)
}

struct Secret {
    key: Zeroizing<Vec<u8>>,
    /// Lower-case `owner/name` it is for; none: every repository of the list.
    repository: Option<String>,
}

/// The webhook secrets in force: one for all or one per repository, several while rotating.
#[derive(Default)]
pub struct Secrets {
    all: Vec<Secret>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} kept)", self.all.len())
    }
}

/// Where a valid signature reaches: the repositories its secret is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    everywhere: bool,
    repositories: Vec<String>,
}

impl Signed {
    /// Whether the secret that signed is one for this repository.
    pub fn covers(&self, repository: &str) -> bool {
        self.everywhere || self.repositories.iter().any(|r| r.eq_ignore_ascii_case(repository))
    }
}

impl Secrets {
    /// None yet: every delivery is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the secrets of a file, one per line (several while rotating; blank lines are
    /// skipped), for one repository or for all.
    pub fn add_file(&mut self, path: &Path, repository: Option<&str>) -> Result<(), SecretError> {
        let bytes = read_private(path)?;
        self.add_lines(&bytes, repository, &format!("secret file {}", path.display()))
    }

    /// Adds the secrets of an environment variable, one per line.
    pub fn add_env(&mut self, name: &str, repository: Option<&str>) -> Result<(), SecretError> {
        let value = std::env::var_os(name).ok_or_else(|| SecretError::Env(name.to_owned()))?;
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        self.add_lines(&bytes, repository, &format!("environment variable {name}"))
    }

    /// Adds the secrets in `bytes`, one per line; `origin` names them in errors.
    pub fn add_lines(
        &mut self,
        bytes: &[u8],
        repository: Option<&str>,
        origin: &str,
    ) -> Result<(), SecretError> {
        let before = self.all.len();
        for line in bytes.split(|b| *b == b'\n') {
            let line = line.trim_ascii();
            if !line.is_empty() {
                let key = Zeroizing::new(line.to_vec());
                self.all.push(Secret { key, repository: repository.map(str::to_ascii_lowercase) });
            }
        }
        if self.all.len() == before {
            return Err(SecretError::Empty(origin.to_owned()));
        }
        if self.all.len() > MAX_SECRETS {
            return Err(SecretError::Many(self.all.len()));
        }
        Ok(())
    }

    /// Checks the value of `X-Hub-Signature-256` over the raw body. Every secret is tried, so
    /// the time does not tell which one matched. `None`: nobody we know signed this.
    pub fn verify(&self, signature: &Signature, body: &[u8]) -> Option<Signed> {
        let mut signed = Signed { everywhere: false, repositories: Vec::new() };
        for secret in &self.all {
            let mut mac = mac(&secret.key);
            mac.update(body);
            if mac.verify_slice(&signature.0).is_ok() {
                match &secret.repository {
                    Some(name) => signed.repositories.push(name.clone()),
                    None => signed.everywhere = true,
                }
            }
        }
        (signed.everywhere || !signed.repositories.is_empty()).then_some(signed)
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// A well-formed `X-Hub-Signature-256`: `sha256=` and 64 hexadecimal digits.
#[derive(Clone, Debug)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Parses the header's value; `None` for any other form, SHA-1 included.
    pub fn parse(header: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = header.strip_prefix(PREFIX)?;
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// The header's value for a body that we send ourselves.
pub fn sign(key: &[u8], body: &[u8]) -> String {
    let mut mac = mac(key);
    mac.update(body);
    format!("{PREFIX}{}", hex::encode(mac.finalize().into_bytes()))
}

/// The first secret of a file: what a sender signs with.
pub fn signing_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let bytes = read_private(path)?;
    let line = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    line.map(|line| Zeroizing::new(line.to_vec()))
        .ok_or_else(|| SecretError::Empty(format!("secret file {}", path.display())))
}

/// The API's bearer token.
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(kept)")
    }
}

impl Token {
    /// Reads the token: the first line of a private file.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let line = signing_secret(path)?;
        let text =
            std::str::from_utf8(&line).ok().filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
        let text = text.ok_or_else(|| SecretError::File {
            path: path.to_owned(),
            source: std::io::Error::other("a token is printable ASCII without spaces"),
        })?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Reads the token, or makes a random one (256 bits) in a new file of mode 0600.
    pub fn from_file_or_new(path: &Path) -> Result<Self, SecretError> {
        create_random(path)?;
        Self::from_file(path)
    }

    /// Whether the value of an `Authorization` header carries this token; constant time.
    pub fn admits(&self, authorization: &str) -> bool {
        let offered =
            authorization.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        offered.is_some_and(|(_, token)| token.trim().as_bytes().ct_eq(self.0.as_bytes()).into())
    }

    /// The value of an `Authorization` header.
    pub fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }
}

/// Makes a file of mode 0600 with 256 random bits in hexadecimal, unless it exists: a webhook
/// secret or an API token for embedded defaults. Returns whether it was made.
pub fn create_random(path: &Path) -> Result<bool, SecretError> {
    let file_error = |source| SecretError::File { path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(file_error(error)),
    };
    let mut random = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(random.as_mut_slice());
    let line = Zeroizing::new(format!("{}\n", hex::encode(random.as_slice())));
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The vector of GitHub's documentation.
    const KEY: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secrets(list: &[(&str, Option<&str>)]) -> Secrets {
        let mut secrets = Secrets::new();
        for (key, repository) in list {
            secrets.add_lines(key.as_bytes(), *repository, "test").unwrap();
        }
        secrets
    }

    #[test]
    fn githubs_vector_and_forgeries() {
        let kept = secrets(&[(KEY, None)]);
        let good = Signature::parse(SIGNATURE).unwrap();
        assert!(kept.verify(&good, BODY).unwrap().covers("any/repo"));
        assert_eq!(sign(KEY.as_bytes(), BODY), SIGNATURE);
        assert!(kept.verify(&good, b"Hello, World?").is_none());
        assert!(secrets(&[("other", None)]).verify(&good, BODY).is_none());
        assert!(Secrets::new().verify(&good, BODY).is_none());
        for digit in 7..SIGNATURE.len() {
            let mut forged = SIGNATURE.to_owned().into_bytes();
            forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
            let forged = Signature::parse(std::str::from_utf8(&forged).unwrap()).unwrap();
            assert!(kept.verify(&forged, BODY).is_none(), "digit {digit}");
        }
    }

    #[test]
    fn other_forms_of_the_header() {
        let digits = &SIGNATURE[7..];
        for bad in [
            String::new(),
            digits.to_owned(),
            format!("sha1={}", &digits[..40]),
            format!("SHA256={digits}"),
            format!("sha256={}", &digits[..62]),
            format!("sha256={digits}00"),
            format!("sha256= {digits}"),
            format!("sha256={}g", &digits[..63]),
            format!("{SIGNATURE},{SIGNATURE}"),
        ] {
            assert!(Signature::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn rotation_and_scopes() {
        let kept = secrets(&[("old\n\nnew\r\n", None), ("mine", Some("Octo/Car"))]);
        let check =
            |key: &str| kept.verify(&Signature::parse(&sign(key.as_bytes(), BODY)).unwrap(), BODY);
        assert!(check("old").unwrap().covers("a/b"));
        assert!(check("new").unwrap().covers("a/b"));
        assert!(check("gone").is_none());
        let mine = check("mine").unwrap();
        assert!(mine.covers("octo/car") && !mine.covers("a/b"));
        assert!(!format!("{kept:?}").contains("mine"));
    }

    #[test]
    fn files_others_can_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(create_random(&path).unwrap() && !create_random(&path).unwrap());
        assert_eq!(signing_secret(&path).unwrap().len(), 64);
        let token = Token::from_file(&path).unwrap();
        let header = token.header();
        assert!(token.admits(&header) && !token.admits(&header[..70]) && !token.admits("Bearer "));
        assert!(!token.admits(&header.replace("Bearer", "Basic")));
        for mode in [0o640, 0o604, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_private(&path), Err(SecretError::Open { .. })), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, " \n\n").unwrap();
        assert!(matches!(Secrets::new().add_file(&path, None), Err(SecretError::Empty(_))));
        std::fs::write(&path, vec![b'x'; 17 * 1024]).unwrap();
        assert!(matches!(read_private(&path), Err(SecretError::Large(_))));
        assert!(read_private(dir.path()).is_err(), "a directory");
        assert!(Secrets::new().add_env("PITLANE_TEST_NO_SUCH_SECRET", None).is_err());
    }
}
