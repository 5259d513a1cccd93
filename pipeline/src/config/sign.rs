//! `spec.sign` of a pipeline file: who signs a release, and what is said of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sign::{CommandOptions, KeySource, keyless::Keyless};

/// Who signs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sign {
    /// Private key file: cosign's format, or PKCS#8 with or without a password; mode 0600.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// File with its password; mode 0600. Else the variable `COSIGN_PASSWORD`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A program that signs, with its arguments; instead of `key`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The socket of a signer process (`pitlane signer`); instead of `key`.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The public half of the key that `command` or `socket` signs by, PEM.
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// How `command` is called.
    #[serde(default)]
    pub command_options: CommandOptions,
    /// No key at all: a new one for each signature, certified for an identity; instead of `key`.
    #[serde(default)]
    pub keyless: Option<Keyless>,
    /// Another key for laps; the same when absent.
    #[serde(default)]
    pub laps: Option<KeySource>,
    /// Whether cosign's `.sig` tags are written besides bundles, for readers that know no bundles.
    #[serde(default)]
    pub sig_tags: bool,
    /// `builder.id` in the provenance: a URI that stands for this instance and its key.
    #[serde(default = "default_builder")]
    pub builder: String,
    /// Days after which releases expire; never when absent.
    #[serde(default)]
    pub expire_days: Option<u32>,
    /// What is attested besides the signatures and the release statement: everything that there
    /// is when absent, nothing for `[]`.
    #[serde(default = "Attest::all")]
    pub attest: Vec<Attest>,
}

impl Sign {
    /// Where the release key is.
    pub fn source(&self) -> KeySource {
        KeySource {
            key: self.key.clone(),
            password_file: self.password_file.clone(),
            command: self.command.clone(),
            socket: self.socket.clone(),
            public_key: self.public_key.clone(),
            command_options: self.command_options.clone(),
            keyless: self.keyless.clone(),
        }
    }

    /// Puts another release key in its place.
    pub fn set_source(&mut self, source: KeySource) {
        let KeySource { key, password_file, command, socket, public_key, command_options, keyless } =
            source;
        (self.key, self.password_file, self.command) = (key, password_file, command);
        (self.socket, self.public_key, self.command_options) =
            (socket, public_key, command_options);
        self.keyless = keyless;
    }
}

/// Something that a release can be attested by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Attest {
    /// SLSA provenance: what it was built from, and by whom.
    Provenance,
    /// The laps of the step `prove`.
    Laps,
    /// A CycloneDX SBOM of each platform's image.
    Sbom,
    /// An OpenSSF model signature of the model and its card.
    ModelSignature,
    /// What the step `model` found, and the card: for policies with a contract of their own.
    Model,
    /// The candidate's answers to fixed frames, which cars reproduce; answered in the step `prove`.
    Golden,
    /// What gates said, and their reports.
    Gates,
}

impl Attest {
    fn all() -> Vec<Self> {
        vec![
            Self::Provenance,
            Self::Laps,
            Self::Sbom,
            Self::ModelSignature,
            Self::Model,
            Self::Golden,
            Self::Gates,
        ]
    }
}

fn default_builder() -> String {
    "https://pitlane.dev/builder/local".into()
}
