//! Who signed: the signer that was asked for, and nobody else; and a key whom no log knows.

use serde_json::Value;

use super::{
    bases::bases,
    edit::{SIGNATURE, flip, remove},
};
use crate::{
    Digest,
    key::PublicKey,
    matcher::{Matcher, Pattern},
    sigstore::{Expect, Identity, Keyless, Subject, Witness},
};

#[test]
fn other_signers_and_artifacts_are_refused() {
    for base in bases() {
        let mut others: Vec<Expect> = Vec::new();
        if let Expect::Keyless(Keyless { any_of, .. }) = &base.expect {
            let (san, issuer) = (any_of[0].san.to_string(), any_of[0].issuer.to_string());
            let (san, issuer) = (san.as_str(), issuer.as_str());
            for san in [
                format!("{san}x"),
                format!("x{san}"),
                san[..san.len() - 1].to_owned(),
                san[1..].to_owned(),
                san.to_uppercase(),
                ".*".to_owned(),
                san.replacen('.', "?", 1),
                format!("{san}\0"),
                format!(" {san}"),
                String::new(),
            ] {
                others.push(Expect::identity(Identity::exact(san, issuer)));
            }
            for issuer in [format!("{issuer}/"), issuer.to_uppercase(), ".*".into(), String::new()]
            {
                others.push(Expect::identity(Identity::exact(san, issuer)));
            }
            let pattern = |text: &str| Matcher::Pattern(Pattern::new(text).unwrap());
            for (san, issuer) in [
                (pattern(&san[1..].replace('.', "\\.")), Matcher::Exact(issuer.into())),
                (pattern("[a-z]+@nobody"), pattern(".*")),
                (pattern(".*"), pattern("https://nobody/.*")),
            ] {
                let (any_of, witness) = (vec![Identity { san, issuer }], Witness::default());
                others.push(Expect::Keyless(Keyless { any_of, witness, sct: true }));
            }
            // A key cannot stand in for a certificate, not even the certificate's own.
            let key = sigstore_crypto::KeyPair::generate_ecdsa_p256().unwrap();
            let key = PublicKey::from_spki(key.public_key_der().unwrap().as_bytes()).unwrap();
            others.push(Expect::Key { key, witness: Witness::NONE });
        } else {
            let key = sigstore_crypto::KeyPair::generate_ecdsa_p256().unwrap();
            let key = PublicKey::from_spki(key.public_key_der().unwrap().as_bytes()).unwrap();
            others.push(Expect::Key { key, witness: Witness::default() });
            others.push(Expect::identity(Identity::exact("a@b.example", "https://b.example")));
        }
        for other in &others {
            let verdict = base.verify_as(base.subject(), other);
            assert!(verdict.answer.is_err(), "{}: {other:?}", base.name);
        }
        if let Expect::Keyless(Keyless { any_of, .. }) = &base.expect {
            // Several identities: any one suffices, but name and issuer belong together.
            let good = any_of[0].clone();
            let stranger = Identity::exact("a@b.example", "https://b.example");
            let crossed = [
                Identity { san: good.san.clone(), issuer: stranger.issuer.clone() },
                Identity { san: stranger.san.clone(), issuer: good.issuer.clone() },
            ];
            let expect = |any_of: &[Identity]| {
                let (any_of, witness) = (any_of.to_vec(), Witness::default());
                Expect::Keyless(Keyless { any_of, witness, sct: true })
            };
            let verdict = base.verify_as(base.subject(), &expect(&[stranger, good]));
            assert!(verdict.answer.is_ok(), "{}", base.name);
            let verdict = base.verify_as(base.subject(), &expect(&crossed));
            assert_eq!(verdict.answer.unwrap_err().code(), "wrong-issuer", "{}", base.name);
        }
        for subject in [Subject::Bytes(b"other"), Subject::Digest(Digest::of("other"))] {
            let verdict = base.verify_as(subject, &base.expect);
            assert!(verdict.answer.is_err(), "{}: {subject:?}", base.name);
        }
    }
}

/// A key's bundle without a log is for those who ask for it; what it has must still verify.
#[test]
fn a_key_without_a_log() {
    let bases = bases();
    let Some(base) = bases.iter().find(|base| base.name.ends_with("key-and-trusted-root")) else {
        return;
    };
    let Expect::Key { key, .. } = &base.expect else { panic!("no key's bundle") };
    let key = PublicKey::from_spki(key.spki()).unwrap();
    let optional = Expect::Key { key, witness: Witness::NONE };
    let run = |bundle: &Value, subject| {
        let root = crate::sigstore::TrustRoot::public_good().unwrap();
        crate::sigstore::verify(bundle.to_string().as_bytes(), subject, &optional, &root).answer
    };
    // Its log is unknown to this root.
    assert_eq!(run(&base.bundle, base.subject()).unwrap_err().code(), "bad-log-entry");
    let mut unlogged = base.bundle.clone();
    assert!(remove(&mut unlogged, "/verificationMaterial", "tlogEntries"));
    assert_eq!(base.verify(&unlogged).answer.unwrap_err().code(), "not-logged");
    let digest = base.subject().digest();
    for subject in [base.subject(), Subject::Digest(digest)] {
        assert!(run(&unlogged, subject).unwrap().times().is_empty());
    }
    assert_eq!(run(&unlogged, Subject::Bytes(b"x")).unwrap_err().code(), "other-artifact");
    assert!(flip(&mut unlogged, &SIGNATURE));
    assert_eq!(run(&unlogged, base.subject()).unwrap_err().code(), "bad-signature");
}
