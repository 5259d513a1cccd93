//! What is asked of a signer process and what it answers: one JSON line each, one of each per
//! connection.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Largest payload that is signed (bytes): with base64 it fills the largest bundle that cars read.
pub const MAX_PAYLOAD: usize = 3 * 1024 * 1024;
/// Largest request (bytes): that payload in base64, and the words around it.
pub const MAX_REQUEST: usize = MAX_PAYLOAD / 3 * 4 + 1024;
/// Largest answer (bytes): a public key, or a signature of RSA-8192.
pub const MAX_ANSWER: usize = 16 * 1024;
/// Longest text of a refusal (characters).
const MAX_TEXT: usize = 400;

/// A request.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is wanted.
    pub ask: Ask,
    /// What is to be signed, base64; empty for the public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub payload: String,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// The public half of the key.
    PublicKey,
    /// A signature of the DSSE envelope around an in-toto statement: the payload is the statement,
    /// and the signer makes the encoding that is signed.
    Statement,
    /// A signature for a `.sig` tag: the payload is cosign's simple signing document.
    SimpleSigning,
}

/// An answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Answer {
    /// The public half, PEM.
    PublicKey(String),
    /// The signature, base64: DER for ECDSA, plain bytes for the others.
    Signature(String),
    /// Nothing was signed.
    Refused(Refusal),
}

/// Why nothing was signed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message} ({code})", code = .code.name())]
pub struct Refusal {
    /// Which rule.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// The rules by which a signer process refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The caller's user is not on the list.
    Peer,
    /// Too many callers at once.
    Busy,
    /// Too many requests a minute.
    Rate,
    /// The request did not come in time.
    Slow,
    /// The request is too large.
    TooLarge,
    /// Not a request.
    Request,
    /// Not an in-toto statement of the shape that is signed.
    Statement,
    /// A statement of a type that is not on the list.
    Predicate,
    /// Not cosign's document.
    SimpleSigning,
    /// The key did not sign.
    Failed,
}

impl Code {
    /// The word in answers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Busy => "busy",
            Self::Rate => "rate",
            Self::Slow => "slow",
            Self::TooLarge => "too-large",
            Self::Request => "request",
            Self::Statement => "statement",
            Self::Predicate => "predicate",
            Self::SimpleSigning => "simple-signing",
            Self::Failed => "failed",
        }
    }

    /// Whether the same request may be answered a moment later.
    pub const fn passes(self) -> bool {
        matches!(self, Self::Busy | Self::Rate)
    }
}

impl Refusal {
    /// A refusal; the text is cut, since it may quote the caller.
    pub fn new(code: Code, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().escape_debug().take(MAX_TEXT).collect();
        Self { code, message }
    }
}

impl Request {
    /// A request to sign.
    pub fn sign(ask: Ask, payload: &[u8]) -> Self {
        Self { ask, payload: STANDARD.encode(payload) }
    }

    /// Reads a line.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(line).map_err(|error| Refusal::new(Code::Request, error.to_string()))
    }

    /// The bytes to be signed, within their bound.
    pub fn bytes(&self) -> Result<Vec<u8>, Refusal> {
        let bytes = STANDARD.decode(&self.payload);
        let bytes = bytes.map_err(|_| Refusal::new(Code::Request, "`payload` is not base64"))?;
        match bytes.len() {
            0 => Err(Refusal::new(Code::Request, "`payload` is empty")),
            1..=MAX_PAYLOAD => Ok(bytes),
            long => Err(Refusal::new(
                Code::TooLarge,
                format!("{long} bytes to sign, at most {MAX_PAYLOAD}"),
            )),
        }
    }
}

/// A value as its line.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain data");
    line.push(b'\n');
    line
}
