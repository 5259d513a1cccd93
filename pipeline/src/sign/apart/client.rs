//! The service's side: asks a signer process, and believes nothing but the public key.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::{key::PublicKey, simple::SimpleSigning, statement::PAYLOAD_TYPE};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::wire::{self, Answer, Ask, MAX_ANSWER, MAX_PAYLOAD, Request};
use crate::sign::read_public;

/// Longest wait for the next byte of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long a signer that is starting, or that has too much to do, is asked again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A signer process, and the key it must sign by.
pub(in crate::sign) struct Socket {
    path: PathBuf,
    public: PublicKey,
}

impl Socket {
    /// Reads the public key; the signer is asked later.
    pub(in crate::sign) fn open(path: &Path, public: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), public: read_public(public)? })
    }

    /// The public half, as the pipeline file names it.
    pub(in crate::sign) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Has a message signed that is the encoding of an envelope around a statement, or cosign's
    /// document for a `.sig` tag; a signer process signs nothing else.
    pub(in crate::sign) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let request = match payload(message) {
            Some(payload) => Request::sign(Ask::Statement, payload),
            None if SimpleSigning::parse(message).is_ok() => {
                Request::sign(Ask::SimpleSigning, message)
            }
            None => bail!("a signer process signs statements alone"),
        };
        let Answer::Signature(text) = self.ask(&request)? else {
            bail!("{}: the signer answered something else than a signature", self.shown());
        };
        let signature = STANDARD.decode(text).context("the signer's answer is not base64")?;
        if !self.public.verifies(message, &signature) {
            let (shown, key) = (self.shown(), self.public.id());
            bail!("{shown}: the answer is no signature by `publicKey` ({key}): is it another key?");
        }
        Ok(signature)
    }

    /// Asks which key it has, and compares.
    pub(in crate::sign) fn try_out(&self) -> anyhow::Result<()> {
        let request = Request { ask: Ask::PublicKey, payload: String::new() };
        let Answer::PublicKey(pem) = self.ask(&request)? else {
            bail!("{}: the signer answered something else than its key", self.shown());
        };
        let theirs = PublicKey::from_pem(&pem).context("the signer's public key")?;
        if theirs.id() != self.public.id() {
            let (shown, theirs, ours) = (self.shown(), theirs.id(), self.public.id());
            bail!("{shown}: the signer has the key {theirs}, and `publicKey` is {ours}");
        }
        Ok(())
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// One answer; a signer that is restarted or has much to do is asked again for a while.
    fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        let line = wire::line(request);
        apart(|| {
            let end = Instant::now() + PATIENCE;
            loop {
                let later = match self.once(&line) {
                    Ok(Answer::Refused(refusal)) if refusal.code.passes() => refusal.into(),
                    Ok(Answer::Refused(refusal)) => {
                        return Err(refusal).with_context(|| format!("{}: refused", self.shown()));
                    }
                    Ok(answer) => return Ok(answer),
                    Err(error) if absent(&error) => anyhow::Error::new(error),
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("{}: no answer of the signer", self.shown()));
                    }
                };
                if Instant::now() > end {
                    return Err(later.context(format!(
                        "{}: no signer answers; is `pitlane signer` running, and this user on its \
                         list?",
                        self.shown()
                    )));
                }
                std::thread::sleep(PAUSE);
            }
        })
    }

    fn once(&self, line: &[u8]) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        // Who is refused before it has said all finds the reason in the answer.
        let said = stream.write_all(line);
        let mut answer = Vec::new();
        let read = stream.take(MAX_ANSWER as u64 + 1).read_to_end(&mut answer);
        if let (Err(error), true) = (said.and(read.map(drop)), answer.is_empty()) {
            return Err(error);
        }
        if answer.len() > MAX_ANSWER {
            return Err(std::io::Error::other(format!(
                "an answer of more than {MAX_ANSWER} bytes"
            )));
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Whether nobody is there, which a restart mends.
fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// The payload of a pre-authentication encoding of an in-toto statement.
fn payload(message: &[u8]) -> Option<&[u8]> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} ", PAYLOAD_TYPE.len());
    let rest = message.strip_prefix(head.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let payload = &rest[end + 1..];
    (payload.len() == length && length <= MAX_PAYLOAD).then_some(payload)
}

/// Blocks; the other threads of a runtime go on meanwhile.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
