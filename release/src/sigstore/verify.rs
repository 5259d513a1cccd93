//! `verify`: does this bundle prove that this signer signed this artifact?

use sigstore_crypto::SubjectAltName;
use sigstore_types::{
    Artifact, Bundle, DerPublicKey, Sha256Hash, SignatureContent, Statement,
    bundle::VerificationMaterialContent,
};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult};

use super::{
    alone, chain,
    identity::{Expect, Keyless, Witness},
    log,
    refusal::BundleRefusal,
    root::TrustRoot,
    stamp, statement,
    verified::{BundleVerdict, Content, Signer, VerifiedBundle, Workflow},
    wire::Wire,
};
use crate::{Check, Digest, bundle::MAX_BUNDLE};

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

/// A bundle in its two readings: as it stands, and as the library has it. Nothing in it is trusted.
#[derive(Debug)]
pub(crate) struct Parsed {
    wire: Wire,
    pub(crate) bundle: Bundle,
}

/// Verifies a bundle. Opens nothing; the clock is the library's (see the [module](super)).
pub fn verify(
    bundle: &[u8],
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
) -> BundleVerdict {
    verify_from(bundle, subject, expect, root, log::Proof::Inclusion)
}

/// The same, with what a log entry has to prove given: the old tags carry promises alone.
pub(super) fn verify_from(
    bundle: &[u8],
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
    proof: log::Proof,
) -> BundleVerdict {
    let mut checks = Vec::new();
    let answer = Parsed::read(bundle)
        .and_then(|parsed| judge(&parsed, subject, expect, root, proof, &mut checks))
        .inspect_err(|refusal| {
            let (check, found) = (refusal.check(), refusal.to_string());
            checks.push(Check::failed(check, found));
        });
    BundleVerdict { answer, checks }
}

/// The same for a bundle that was read before.
pub(crate) fn verify_parsed(
    parsed: &Parsed,
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
) -> Result<VerifiedBundle, BundleRefusal> {
    judge(parsed, subject, expect, root, log::Proof::Inclusion, &mut Vec::new())
}

fn judge(
    parsed: &Parsed,
    subject: Subject<'_>,
    expect: &Expect,
    root: &TrustRoot,
    proof: log::Proof,
    checks: &mut Vec<Check>,
) -> Result<VerifiedBundle, BundleRefusal> {
    let mut pass = |check, found: String| checks.push(Check::passed(check, found));
    let Parsed { wire, bundle } = parsed;
    let statement = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Some(statement::read(envelope)?),
        _ => None,
    };
    let entries = bundle.verification_material.tlog_entries.len();
    let stamps = wire.stamps();
    pass("format", format!("{}, {entries} log entries, {stamps} timestamps", bundle.media_type));

    fits(bundle, expect)?;
    witnessed(expect.witness(), entries, stamps)?;
    chain::check(bundle, root)?;
    stamp::check(bundle, root)?;
    log::check(wire, bundle, root, proof)?;
    let (signer, workflow, times) = match expect {
        Expect::Keyless(keyless) => {
            let result = by_certificate(bundle, subject, keyless, root, entries)?;
            let (san, issuer) = named(&result, keyless)?;
            let sct = if keyless.sct { "log proof (SCT)" } else { "no log proof was asked for" };
            pass("certificate", format!("chain, use and times hold; {sct}"));
            pass("identity", format!("{san}, attested by {issuer}"));
            let workflow = result.certificate().map(|found| Workflow::of(&found.ci_claims));
            (Signer::Identity { san, issuer }, workflow, result.verified_timestamps().to_vec())
        }
        Expect::Key { key, .. } => {
            let spki = DerPublicKey::from_bytes(key.spki());
            let times = if entries == 0 && stamps == 0 {
                alone::verify(bundle, statement.as_ref(), &spki, subject)?;
                Vec::new()
            } else {
                let mut policy = PublicKeyVerificationPolicy::new(spki);
                if entries == 0 {
                    policy = policy.skip_tlog_unsafe();
                }
                let result = root.verifier.verify(artifact(subject), bundle, &policy)?;
                if entries > 0 && !result.tlog_verified() {
                    return Err(BundleRefusal::Log("it was not verified in full".into()));
                }
                result.verified_timestamps().to_vec()
            };
            pass("key", key.id().to_string());
            (Signer::Key(key.id()), None, times)
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
    let workflow = workflow.filter(|workflow| *workflow != Workflow::default());
    Ok(VerifiedBundle {
        subject,
        content: content(bundle, statement),
        signer,
        workflow,
        times,
        entries,
    })
}

/// What must vouch for the signature must be there; whether it holds comes later.
fn witnessed(want: Witness, entries: usize, stamps: usize) -> Result<(), BundleRefusal> {
    if want.log && entries == 0 {
        return Err(BundleRefusal::NotLogged("the bundle has no log entry".into()));
    }
    if want.stamp && stamps == 0 {
        return Err(BundleRefusal::Time("the bundle has no timestamp of an authority".into()));
    }
    Ok(())
}

/// Everything about a certificate's signature but who the certificate names.
fn by_certificate(
    bundle: &Bundle,
    subject: Subject<'_>,
    keyless: &Keyless,
    root: &TrustRoot,
    entries: usize,
) -> Result<VerificationResult, BundleRefusal> {
    let mut policy = VerificationPolicy::any_identity();
    if entries == 0 {
        policy = policy.skip_tlog_unsafe();
    }
    if !keyless.sct {
        policy = policy.skip_sct();
    }
    let result = root.verifier.verify(artifact(subject), bundle, &policy)?;
    // The library says what it did; leaving a step out must not look like passing it.
    let logged = result.tlog_verified() || entries == 0;
    let certified = result.certificate_verified() && (result.sct_verified() || !keyless.sct);
    if !(logged && certified) || result.verified_timestamps().is_empty() {
        return Err(BundleRefusal::Certificate("it was not verified in full".into()));
    }
    Ok(result)
}

/// The name in the certificate, when it is one of those asked for.
fn named(
    result: &VerificationResult,
    keyless: &Keyless,
) -> Result<(String, String), BundleRefusal> {
    let san = result.identity().map(SubjectAltName::as_str).unwrap_or_default();
    let issuer = result.issuer().unwrap_or_default();
    keyless.admits(san, issuer)?;
    Ok((san.to_owned(), issuer.to_owned()))
}

impl Parsed {
    /// Reads a bundle.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BundleRefusal> {
        let malformed = |why: &str| BundleRefusal::Malformed(why.to_owned());
        if bytes.len() as u64 > MAX_BUNDLE {
            return Err(malformed("too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let wire = Wire::parse(text)?;
        let bundle = Bundle::from_json(text).map_err(|error| malformed(&error.to_string()))?;
        Ok(Self { wire, bundle })
    }
}

/// The bundle must be of the kind of signer that the caller asked for.
fn fits(bundle: &Bundle, expect: &Expect) -> Result<(), BundleRefusal> {
    let by_key =
        matches!(bundle.verification_material.content, VerificationMaterialContent::PublicKey(_));
    match (expect, by_key) {
        (Expect::Keyless(_), false) | (Expect::Key { .. }, true) => Ok(()),
        (Expect::Keyless(_), true) => {
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

fn content(bundle: &Bundle, statement: Option<Statement>) -> Content {
    match (&bundle.content, statement) {
        (SignatureContent::DsseEnvelope(envelope), Some(statement)) => Content::Statement {
            predicate_type: statement.predicate_type,
            payload: envelope.payload.as_bytes().to_vec(),
        },
        _ => Content::Message,
    }
}
