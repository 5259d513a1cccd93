//! `verify`: does this bundle prove that this signer signed this artifact?

use sigstore_types::{
    Artifact, Bundle, DerPublicKey, Sha256Hash, SignatureContent, Statement,
    bundle::VerificationMaterialContent,
};
use sigstore_verify::{IdentityMatcher, PublicKeyVerificationPolicy, VerificationPolicy};

use super::{
    alone, chain,
    identity::{Expect, LogRule, San},
    log,
    refusal::BundleRefusal,
    root::TrustRoot,
    stamp, statement,
    verified::{BundleVerdict, Content, Signer, VerifiedBundle},
    wire::Wire,
};
use crate::{Digest, admit::Check, bundle::MAX_BUNDLE};

/// The artifact that was signed, or the subject of the signed statement.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its SHA-256 alone. Suffices for all but Ed25519 and other hashes.
    Digest(Digest),
}

impl Subject<'_> {
    /// Its SHA-256.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Bytes(bytes) => Digest::of(bytes),
            Self::Digest(digest) => *digest,
        }
    }
}

/// A bundle in all its readings.
struct Parsed {
    wire: Wire,
    bundle: Bundle,
    statement: Option<Statement>,
}

/// Verifies a bundle. Opens nothing; the clock is the library's (see the [module](super)).
pub fn verify(
    bundle: &[u8],
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
) -> BundleVerdict {
    let mut checks = Vec::new();
    let answer = judge(bundle, subject, expect, root, &mut checks).inspect_err(|refusal| {
        let (check, found) = (refusal.check(), refusal.to_string());
        checks.push(Check { check, passed: false, found });
    });
    BundleVerdict { answer, checks }
}

fn judge(
    bytes: &[u8],
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
    checks: &mut Vec<Check>,
) -> Result<VerifiedBundle, BundleRefusal> {
    let mut pass = |check, found: String| checks.push(Check { check, passed: true, found });
    let parsed = parse(bytes)?;
    let Parsed { wire, bundle, statement } = &parsed;
    let entries = bundle.verification_material.tlog_entries.len();
    pass(
        "format",
        format!("{}, {entries} log entries, {} timestamps", bundle.media_type, wire.stamps()),
    );

    fits(bundle, expect)?;
    chain::check(bundle, root)?;
    stamp::check(bundle, root)?;
    log::check(wire, bundle, root)?;
    let (signer, times) = match expect {
        Expect::Identity(identity) => {
            if entries == 0 {
                return Err(BundleRefusal::NotLogged("the bundle has no log entry".into()));
            }
            let San::Exact(san) = &identity.san;
            let san = IdentityMatcher::Exact(san.clone());
            let policy = VerificationPolicy::new(san, identity.issuer.clone());
            let result = root.verifier.verify(artifact(subject), bundle, &policy)?;
            let found = result.identity().map(ToString::to_string);
            let (Some(san), Some(issuer)) = (found, result.issuer().map(str::to_owned)) else {
                return Err(BundleRefusal::Certificate("it names nobody".into()));
            };
            // The library says what it did; leaving a step out must not look like passing it.
            if !(result.certificate_verified() && result.sct_verified() && result.tlog_verified()) {
                return Err(BundleRefusal::Certificate("it was not verified in full".into()));
            }
            pass("certificate", "chain, use, times and log proof (SCT) hold".into());
            pass("identity", format!("{san}, attested by {issuer}"));
            (Signer::Identity { san, issuer }, result.verified_timestamps().to_vec())
        }
        Expect::Key { key, log } => {
            let spki = DerPublicKey::from_bytes(key.spki());
            let times = match (entries, wire.stamps(), log) {
                (0, _, LogRule::Required) => {
                    return Err(BundleRefusal::NotLogged("the bundle has no log entry".into()));
                }
                (0, 0, LogRule::Optional) => {
                    alone::verify(bundle, statement.as_ref(), &spki, subject)?;
                    Vec::new()
                }
                _ => {
                    let mut policy = PublicKeyVerificationPolicy::new(spki);
                    if entries == 0 {
                        policy = policy.skip_tlog_unsafe();
                    }
                    let result = root.verifier.verify(artifact(subject), bundle, &policy)?;
                    result.verified_timestamps().to_vec()
                }
            };
            pass("key", key.id().to_string());
            (Signer::Key(key.id()), times)
        }
    };
    log::in_its_time(bundle, &times, root)?;

    if entries > 0 {
        pass("log", format!("{entries} entries, proven by a log of the trusted root"));
    }
    for time in &times {
        pass("time", time.to_string());
    }
    pass("signature", "fits".into());
    let subject = subject.digest();
    pass("artifact", subject.to_string());
    Ok(VerifiedBundle { subject, content: content(parsed), signer, times, entries })
}

fn parse(bytes: &[u8]) -> Result<Parsed, BundleRefusal> {
    let malformed = |why: &str| BundleRefusal::Malformed(why.to_owned());
    if bytes.len() as u64 > MAX_BUNDLE {
        return Err(malformed("too large"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
    let wire = Wire::parse(text)?;
    let bundle = Bundle::from_json(text).map_err(|error| malformed(&error.to_string()))?;
    let statement = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Some(statement::read(envelope)?),
        _ => None,
    };
    Ok(Parsed { wire, bundle, statement })
}

/// The bundle must be of the kind of signer that the caller asked for.
fn fits(bundle: &Bundle, expect: &Expect) -> Result<(), BundleRefusal> {
    let by_key =
        matches!(bundle.verification_material.content, VerificationMaterialContent::PublicKey(_));
    match (expect, by_key) {
        (Expect::Identity(_), false) | (Expect::Key { .. }, true) => Ok(()),
        (Expect::Identity(_), true) => {
            Err(BundleRefusal::OtherMaterial { found: "signed with a key", want: "an identity" })
        }
        (Expect::Key { .. }, false) => {
            let found = "signed with a certificate";
            Err(BundleRefusal::OtherMaterial { found, want: "a key" })
        }
    }
}

fn artifact(subject: Subject<'_>) -> Artifact<'_> {
    match subject {
        Subject::Bytes(bytes) => Artifact::from_blob(bytes),
        Subject::Digest(digest) => Artifact::from_digest(Sha256Hash::new(*digest.as_bytes())),
    }
}

fn content(parsed: Parsed) -> Content {
    match (parsed.bundle.content, parsed.statement) {
        (SignatureContent::DsseEnvelope(envelope), Some(statement)) => Content::Statement {
            predicate_type: statement.predicate_type,
            payload: envelope.payload.as_bytes().to_vec(),
        },
        _ => Content::Message,
    }
}
