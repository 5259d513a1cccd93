//! `KeySource`: where a signing key is, as pipeline files say it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::bail;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyless::Keyless;

/// Longest that a signer may take (seconds).
const MAX_SECONDS: u16 = 300;
/// What the program itself puts into a signer's environment begins so.
pub(super) const RESERVED: &str = "PITLANE_SIGN_";

/// Where a key is: in a file, with a program that signs by it, or with a signer process.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KeySource {
    /// Private key file: cosign's format, or PKCS#8 with or without a password; mode 0600.
    pub key: Option<PathBuf>,
    /// File with its password; mode 0600. Else the variable `COSIGN_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// A program that signs, with its arguments; instead of `key`.
    pub command: Option<Vec<String>>,
    /// The socket of a signer process (`pitlane signer`); instead of `key`.
    pub socket: Option<PathBuf>,
    /// The public half of the key that `command` or `socket` signs by, PEM.
    pub public_key: Option<PathBuf>,
    /// How `command` is called.
    pub command_options: CommandOptions,
    /// No key at all: a new one each time, certified for an identity; instead of `key`.
    pub keyless: Option<Keyless>,
}

/// How a signer's program is called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommandOptions {
    /// What it gets on stdin.
    pub input: Input,
    /// How long it may take (seconds, 1 to 300).
    pub timeout_seconds: u16,
    /// Variables of its environment, which is empty but for `PATH` otherwise.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are in files of mode 0600: a PIN, a token.
    pub secret_env: BTreeMap<String, PathBuf>,
    /// Variables that it gets from the environment of this program.
    pub inherit_env: Vec<String>,
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self {
            input: Input::Message,
            timeout_seconds: 30,
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            inherit_env: Vec::new(),
        }
    }
}

/// What a signer's program gets on stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The bytes to sign; it hashes them.
    Message,
    /// Their digest, raw.
    Digest,
}

/// A source, of one of its kinds.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A file and its password's file.
    File(&'a Path, Option<&'a Path>),
    /// Program and arguments, and the public key.
    Command(&'a [String], &'a Path),
    /// The socket of a signer process, and the public key.
    Socket(&'a Path, &'a Path),
    /// A key for each signature, certified.
    Keyless(&'a Keyless),
}

impl KeySource {
    /// The source as one of its kinds; refuses halves and mixtures.
    pub fn kind(&self) -> anyhow::Result<Kind<'_>> {
        if let Some(keyless) = &self.keyless {
            let without = Self { keyless: None, ..self.clone() };
            return match without.kind() {
                Err(_) if without.is_empty() => Ok(Kind::Keyless(keyless)),
                _ => bail!("`keyless` stands alone: there is no key, command or password then"),
            };
        }
        if let Some(socket) = &self.socket {
            let Some(public) = &self.public_key else {
                bail!("`socket` needs `publicKey`, which its answers are checked by");
            };
            let without = Self { socket: None, public_key: None, ..self.clone() };
            return match without.is_empty() {
                true => Ok(Kind::Socket(socket, public)),
                false => bail!("`socket` stands alone with `publicKey`: the signer has the rest"),
            };
        }
        match (&self.key, &self.command, &self.public_key) {
            (Some(key), None, None) => {
                if self.command_options != CommandOptions::default() {
                    bail!("`commandOptions` belongs to `command`, not to `key`");
                }
                Ok(Kind::File(key, self.password_file.as_deref()))
            }
            (None, Some(argv), Some(public)) => {
                if argv.first().is_none_or(String::is_empty) {
                    bail!("`command` is empty; want a program and its arguments");
                }
                if self.password_file.is_some() {
                    bail!("`passwordFile` belongs to `key`; secrets of `command` are `secretEnv`");
                }
                self.command_options.check()?;
                Ok(Kind::Command(argv, public))
            }
            (None, Some(_), None) => bail!("`command` needs `publicKey`, which it is checked by"),
            (Some(_), None, Some(_)) => bail!("`publicKey` belongs to `command`, not to `key`"),
            (Some(_), Some(_), _) => bail!("it has both `key` and `command`; want one"),
            (None, None, _) => bail!("it has neither `key` nor `command` nor `socket`; want one"),
        }
    }

    fn is_empty(&self) -> bool {
        let files = [&self.key, &self.password_file, &self.public_key, &self.socket];
        files.into_iter().all(Option::is_none)
            && self.command.is_none()
            && self.command_options == CommandOptions::default()
    }

    /// Makes its paths absolute: they are relative to `dir`. So is a program with a `/` in its
    /// name; others are looked up in `PATH`.
    pub(crate) fn rebase(&mut self, dir: &Path) {
        let join = |path: &mut PathBuf| *path = dir.join(&*path);
        self.key.iter_mut().for_each(join);
        self.password_file.iter_mut().for_each(join);
        self.public_key.iter_mut().for_each(join);
        self.socket.iter_mut().for_each(join);
        self.command_options.secret_env.values_mut().for_each(join);
        if let Some(keyless) = &mut self.keyless {
            let files = [&mut keyless.signing_config, &mut keyless.trusted_root];
            files.into_iter().chain([&mut keyless.token_file]).flatten().for_each(join);
        }
        if let Some(program) = self.command.as_mut().and_then(|argv| argv.first_mut())
            && program.contains('/')
        {
            *program = dir.join(&*program).to_string_lossy().into_owned();
        }
    }
}

impl CommandOptions {
    /// How long it may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=MAX_SECONDS).contains(&self.timeout_seconds) {
            bail!("`timeoutSeconds` is {}, want 1 to {MAX_SECONDS}", self.timeout_seconds);
        }
        let mut names: Vec<&String> = self.env.keys().chain(self.secret_env.keys()).collect();
        names.extend(&self.inherit_env);
        for name in &names {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let word = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
            if name.is_empty() || !word || name.starts_with(RESERVED) {
                bail!(
                    "`{name}` is no name for a variable of a signer (A-Z, 0-9, _; not {RESERVED}…)"
                );
            }
        }
        names.sort();
        if let Some([twice, ..]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("the variable `{twice}` is given twice");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_mixtures_are_refused() {
        for (text, want) in [
            ("{}", "neither"),
            ("{key: a, command: [b], publicKey: c}", "both"),
            ("{command: [b]}", "publicKey"),
            ("{command: [], publicKey: c}", "empty"),
            ("{key: a, publicKey: c}", "publicKey"),
            ("{key: a, commandOptions: {input: digest}}", "commandOptions"),
            ("{command: [b], publicKey: c, passwordFile: d}", "secretEnv"),
            ("{socket: a}", "publicKey"),
            ("{socket: a, publicKey: b, key: c}", "stands alone"),
            ("{socket: a, publicKey: b, command: [c]}", "stands alone"),
            ("{socket: a, publicKey: b, passwordFile: c}", "stands alone"),
            ("{socket: a, publicKey: b, commandOptions: {input: digest}}", "stands alone"),
            ("{socket: a, publicKey: b, keyless: {}}", "stands alone"),
            ("{keyless: {}, key: a}", "stands alone"),
            ("{keyless: {}, command: [b], publicKey: c}", "stands alone"),
            ("{keyless: {}, passwordFile: c}", "stands alone"),
            ("{command: [b], publicKey: c, commandOptions: {timeoutSeconds: 0}}", "timeoutSeconds"),
            ("{command: [b], publicKey: c, commandOptions: {timeoutSeconds: 301}}", "301"),
            ("{command: [b], publicKey: c, commandOptions: {env: {'A=B': x}}}", "A=B"),
            ("{command: [b], publicKey: c, commandOptions: {env: {PITLANE_SIGN_HASH: x}}}", "HASH"),
            (
                "{command: [b], publicKey: c, commandOptions: {env: {A: x}, inheritEnv: [A]}}",
                "twice",
            ),
        ] {
            let source: KeySource = pitlane_release::yaml::read(text, 4096).unwrap();
            let error = source.kind().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let unknown = pitlane_release::yaml::read::<KeySource>("{pin: 1234}", 4096);
        assert!(unknown.is_err(), "no secret has a place in the file itself");
    }

    #[test]
    fn programs_with_a_path_and_files_are_the_pipelines() {
        let text =
            "{command: [./sign.sh, a/b], publicKey: p, commandOptions: {secretEnv: {PIN: s}}}";
        let mut source: KeySource = pitlane_release::yaml::read(text, 4096).unwrap();
        source.rebase(Path::new("/etc/car"));
        assert_eq!(source.command.unwrap(), ["/etc/car/./sign.sh", "a/b"]);
        assert_eq!(source.public_key.unwrap(), Path::new("/etc/car/p"));
        assert_eq!(source.command_options.secret_env["PIN"], Path::new("/etc/car/s"));
        let mut source: KeySource =
            pitlane_release::yaml::read("{command: [openssl], publicKey: p}", 4096).unwrap();
        source.rebase(Path::new("/etc/car"));
        assert_eq!(source.command.unwrap(), ["openssl"]);
    }
}
