//! `External`: a program that signs, so that the key need not be in this process.
//!
//! It gets the message or its digest on stdin and gives the signature on stdout. Nothing it
//! answers is believed: an answer counts when it verifies by the public key that the pipeline
//! file names. The protocol for people is in `docs/keys.md`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use pitlane_release::key::{MAX_PEM, PublicKey};
use zeroize::Zeroizing;

use super::{
    algorithm::Algorithm,
    process::{self, Call},
    redact,
    source::{CommandOptions, Input, RESERVED},
};
use crate::config;

/// How much of the end of what a program complains of is shown (bytes).
const MAX_COMPLAINT: usize = 2 * 1024;
/// Where programs are looked for when this process has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program that signs, and the key it must sign by.
pub(super) struct External {
    argv: Vec<String>,
    dir: PathBuf,
    environment: Vec<(String, Zeroizing<String>)>,
    options: CommandOptions,
    algorithm: Algorithm,
    public: PublicKey,
}

impl External {
    /// Reads the public key and the secrets; does not call the program yet. It runs in `dir`.
    pub(super) fn open(
        argv: &[String],
        public: &Path,
        options: &CommandOptions,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let key = read_public(public)?;
        let algorithm = Algorithm::of_public(key.spki())?;
        if options.input == Input::Digest && algorithm.hash().is_none() {
            bail!("`input: digest` with an {} key, which signs messages", algorithm.name());
        }
        let mut environment = environment(options)?;
        let mut own = |name: &str, value: String| {
            environment.push((format!("{RESERVED}{name}"), Zeroizing::new(value)));
        };
        own("KEY_ID", key.id().to_string());
        own("ALGORITHM", algorithm.name().to_owned());
        own("HASH", algorithm.hash().map_or("none", super::Hash::name).to_owned());
        Ok(Self {
            argv: argv.to_vec(),
            dir: dir.to_owned(),
            environment,
            options: options.clone(),
            algorithm,
            public: key,
        })
    }

    /// The public half, as the pipeline file names it.
    pub(super) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Has a message signed: DER for ECDSA, plain bytes for the others.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let digest = self.algorithm.hash().map(|hash| hash.of(message));
        let mut environment = self.environment.clone();
        if let Some(digest) = &digest {
            environment.push((format!("{RESERVED}DIGEST"), Zeroizing::new(hex::encode(digest))));
        }
        let input = match (self.options.input, &digest) {
            (Input::Digest, Some(digest)) => digest,
            _ => message,
        };
        let secrets = self.secrets();
        let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or(0);
        let answer = process::run(&Call {
            argv: &self.argv,
            dir: &self.dir,
            environment: &environment,
            input,
            limit: self.options.timeout(),
            keep: MAX_COMPLAINT + longest,
        });
        // What a program complains of may hold what it was given.
        let complaint = redact::end(&answer.complaint, &secrets, MAX_COMPLAINT);
        let said =
            if complaint.is_empty() { String::new() } else { format!("; it said: {complaint}") };
        let program = &self.argv[0];
        let output = match answer.result {
            Ok(output) => output,
            Err(failure) => bail!("the signer `{program}` {failure}{said}"),
        };
        let good = readings(&output, self.algorithm)
            .into_iter()
            .find(|signature| self.public.verifies(message, signature));
        good.with_context(|| {
            let hash = self.algorithm.hash().map_or("no hash", super::Hash::name);
            format!(
                "the signer `{program}` answered {} bytes that are no signature by `publicKey` ({}, \
                 {}, {hash}): is it another key, or is `input` the other one?{said}",
                output.len(),
                self.public.id(),
                self.algorithm.name(),
            )
        })
    }

    /// The values that the pipeline file does not show.
    fn secrets(&self) -> Vec<&[u8]> {
        let CommandOptions { secret_env, inherit_env, .. } = &self.options;
        let secret = |name: &String| secret_env.contains_key(name) || inherit_env.contains(name);
        let values = self.environment.iter().filter(|(name, _)| secret(name));
        values.map(|(_, value)| value.as_bytes()).collect()
    }
}

/// Reads a public key file.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<PublicKey> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("{shown}: cannot be read"))?.len();
    anyhow::ensure!(size <= MAX_PEM, "{shown}: {size} bytes, at most {MAX_PEM}");
    let pem = std::fs::read_to_string(path).with_context(|| format!("{shown}: cannot be read"))?;
    PublicKey::from_pem(&pem).with_context(|| shown.to_string())
}

/// `PATH`, and what the options name.
fn environment(options: &CommandOptions) -> anyhow::Result<Vec<(String, Zeroizing<String>)>> {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
    let mut all = vec![("PATH".to_owned(), Zeroizing::new(path))];
    for name in &options.inherit_env {
        let value = std::env::var(name)
            .with_context(|| format!("`inheritEnv` names {name}, which is not set here"))?;
        all.push((name.clone(), Zeroizing::new(value)));
    }
    for (name, value) in &options.env {
        all.push((name.clone(), Zeroizing::new(value.clone())));
    }
    for (name, file) in &options.secret_env {
        all.push((name.clone(), config::read_secret(file)?));
    }
    Ok(all)
}

/// Everything that an answer may mean: bytes or base64, and for ECDSA `r ‖ s` instead of DER.
/// Which of them it is, is decided by the public key.
fn readings(output: &[u8], algorithm: Algorithm) -> Vec<Vec<u8>> {
    let mut found = vec![output.to_vec()];
    let text: Vec<u8> = output.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    for alphabet in [&STANDARD, &URL_SAFE] {
        found.extend(GeneralPurpose::new(alphabet, lenient).decode(&text));
    }
    let pairs: Vec<_> = match algorithm.pair_length() {
        Some(length) => found.iter().filter(|b| b.len() == length).map(|b| der_of(b)).collect(),
        None => Vec::new(),
    };
    found.extend(pairs);
    found
}

/// `r ‖ s` as the DER that everybody else reads (RFC 3279, `Ecdsa-Sig-Value`).
pub(super) fn der_of(pair: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let start = half.iter().position(|byte| *byte != 0).unwrap_or(half.len() - 1);
        let sign = (half[start] & 0x80 != 0).then_some(0);
        let value: Vec<u8> = sign.into_iter().chain(half[start..].iter().copied()).collect();
        [vec![0x02, u8::try_from(value.len()).unwrap_or(u8::MAX)], value].concat()
    };
    let (r, s) = pair.split_at(pair.len() / 2);
    // At most 2 × 51 bytes, so the short form of the length does.
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap_or(u8::MAX)], body].concat()
}
