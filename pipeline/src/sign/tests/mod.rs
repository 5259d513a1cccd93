//! Keys of every kind, and signers that misbehave.

mod apart;
mod external;
mod files;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        RsaKeyPair,
    },
};

use super::{Algorithm, Signer};

fn ecdsa(curve: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap().as_ref().to_vec()
}

/// A fresh PKCS#8 key (DER).
fn fresh(algorithm: Algorithm) -> Vec<u8> {
    match algorithm {
        Algorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
        Algorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
        Algorithm::Ed25519 => {
            Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref().to_vec()
        }
        Algorithm::Rsa => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            der.as_ref().to_vec()
        }
    }
}

/// A key on a curve that is not supported.
fn p521() -> Vec<u8> {
    ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING)
}

const ALL: [Algorithm; 4] =
    [Algorithm::EcdsaP256, Algorithm::EcdsaP384, Algorithm::Ed25519, Algorithm::Rsa];

#[test]
fn every_kind_of_key_signs_and_nobody_else_verifies() {
    for algorithm in ALL {
        let signer = Signer::from_pkcs8(&fresh(algorithm)).unwrap();
        let other = Signer::from_pkcs8(&fresh(algorithm)).unwrap();
        assert_eq!((signer.algorithm(), signer.kind()), (Some(algorithm), "key"));
        let signature = signer.sign(b"message").unwrap();
        assert!(signer.public().unwrap().verifies(b"message", &signature));
        assert!(!signer.public().unwrap().verifies(b"massage", &signature));
        assert!(!other.public().unwrap().verifies(b"message", &signature));
        let bundle = signer.seal(&serde_json::json!({ "a": 1 })).unwrap();
        let bundle = pitlane_release::bundle::Bundle::parse(&bundle).unwrap();
        use pitlane_release::bundle::Signed;
        assert_eq!(
            bundle.verify([signer.public().unwrap()]),
            Signed::By(signer.public().unwrap(), b"{\"a\":1}")
        );
        assert_eq!(bundle.verify([other.public().unwrap()]), Signed::ByNobodyKnown);
    }
}

#[test]
fn what_is_no_usable_key_is_refused_by_name() {
    let error = Signer::from_pkcs8(&p521()).unwrap_err().to_string();
    assert!(error.contains("1.3.132.0.35") && error.contains("P-384"), "{error}");
    let mut cut = fresh(Algorithm::EcdsaP256);
    cut.truncate(40);
    assert!(Signer::from_pkcs8(&cut).unwrap_err().to_string().contains("PKCS#8"));
    // An X25519 key: RFC 8410, and cannot sign.
    let mut x25519 = fresh(Algorithm::Ed25519);
    let oid = x25519.windows(3).position(|w| w == [0x2b, 0x65, 0x70]).unwrap();
    x25519[oid + 2] = 0x6e;
    assert!(Signer::from_pkcs8(&x25519).unwrap_err().to_string().contains("1.3.101.110"));
}
