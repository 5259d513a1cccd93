//! Key files: every format, and what is refused.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument, pkcs5::pbes2};

use super::{ALL, fresh, p521};
use crate::sign::{Algorithm, Signer, keyfile, private_key};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn pem(label: &'static str, der: &[u8]) -> String {
    let document = SecretDocument::try_from(der).unwrap();
    document.to_pem(label, LineEnding::LF).unwrap().to_string()
}

/// As `openssl pkcs8 -topk8 -scrypt` does.
fn encrypted(der: &[u8], password: &str) -> String {
    let cost = pkcs8::pkcs5::scrypt::Params::new(14, 8, 1, 32).unwrap();
    let params = pbes2::Parameters::scrypt_aes256cbc(cost, &[1; 8], &[2; 16]).unwrap();
    let info = PrivateKeyInfo::try_from(der).unwrap();
    let sealed = info.encrypt_with_params(params, password).unwrap();
    sealed.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).unwrap().to_string()
}

#[test]
fn every_format_gives_the_same_key() {
    let folder = Folder::new();
    let password = folder.write("password", "correct horse\n");
    for algorithm in ALL {
        let der = fresh(algorithm);
        let id = Signer::from_pkcs8(&der).unwrap().public().unwrap().id();
        let plain = folder.write("plain", &pem("PRIVATE KEY", &der));
        let sealed = folder.write("sealed", &encrypted(&der, "correct horse"));
        let cosign = keyfile::encrypt(&der, "correct horse").unwrap();
        let cosign = folder.write("cosign", &cosign);
        assert_eq!(Signer::open(&plain, None).unwrap().public().unwrap().id(), id);
        for file in [&plain, &sealed, &cosign] {
            assert_eq!(
                Signer::open(file, Some(&password)).unwrap().public().unwrap().id(),
                id,
                "{file:?}"
            );
        }
    }
}

#[test]
fn files_that_must_not_be_used_are_refused() {
    let folder = Folder::new();
    let right = folder.write("right", "right");
    let wrong = folder.write("wrong", "wrong");
    let der = fresh(Algorithm::EcdsaP256);
    let public = Signer::from_pkcs8(&der).unwrap().public().unwrap().to_pem();
    let sealed = encrypted(&der, "right");
    for (name, text, password, want) in [
        ("cosign", keyfile::encrypt(&der, "right").unwrap(), &wrong, "wrong password"),
        ("pbes2", sealed.clone(), &wrong, "wrong password"),
        ("p521", pem("PRIVATE KEY", &p521()), &right, "1.3.132.0.35"),
        ("sec1", pem("EC PRIVATE KEY", &der), &right, "openssl pkcs8 -topk8"),
        ("public", public, &right, "public half"),
        ("cut", sealed[..sealed.len() / 2].to_owned(), &right, "PEM"),
        ("empty", String::new(), &right, "no PEM block"),
        ("swapped", pem("ENCRYPTED PRIVATE KEY", &der), &right, "not an encrypted PKCS#8"),
    ] {
        let file = folder.write(name, &text);
        let error = format!("{:#}", Signer::open(&file, Some(password)).unwrap_err());
        assert!(error.contains(want) && error.contains(name), "{name}: {error}");
    }
    let open = folder.write("open", &pem("PRIVATE KEY", &der));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Signer::open(&open, None).unwrap_err().to_string();
    assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
}

/// A key of `openssl pkcs8 -topk8 -v2 aes-256-cbc`, and the same with absurd figures.
#[test]
fn the_cost_of_a_password_is_bounded() {
    use pkcs8::{EncryptedPrivateKeyInfo, der::Encode as _, pkcs5::EncryptionScheme};
    let folder = Folder::new();
    let password = folder.write("password", "p");
    let der = fresh(Algorithm::EcdsaP256);
    let (salt, iv) = ([1; 8], [2; 16]);
    let params = pbes2::Parameters::pbkdf2_sha256_aes256cbc(2048, &salt, &iv).unwrap();
    let good = params.encrypt("p", &der).unwrap();
    let file = |params: pbes2::Parameters<'_>| {
        let sealed = EncryptedPrivateKeyInfo {
            encryption_algorithm: EncryptionScheme::Pbes2(params),
            encrypted_data: &good,
        };
        let text = pem("ENCRYPTED PRIVATE KEY", &sealed.to_der().unwrap());
        private_key::read(&folder.write("key", &text), Some(&password))
    };
    assert_eq!(*file(params).unwrap(), der);
    let many = pbes2::Parameters::pbkdf2_sha256_aes256cbc(20_000_000, &salt, &iv).unwrap();
    let large = pkcs8::pkcs5::scrypt::Params::new(22, 8, 1, 32).unwrap();
    let large = pbes2::Parameters::scrypt_aes256cbc(large, &salt, &iv).unwrap();
    for params in [many, large] {
        let error = format!("{:#}", file(params).unwrap_err());
        assert!(error.contains("no honest tool"), "{error}");
    }
}
