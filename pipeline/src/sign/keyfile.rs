//! cosign's private key files: PEM `ENCRYPTED SIGSTORE PRIVATE KEY`, scrypt and secretbox.
//!
//! Source: sigstore/cosign `pkg/cosign/keys.go` and go-securesystemslib's `encrypted` format.

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_secretbox::{
    KeyInit as _, XSalsa20Poly1305,
    aead::{Aead as _, generic_array::GenericArray},
};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rand_core::{OsRng, RngCore as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The label cosign writes; `COSIGN` is what versions before 2 wrote.
pub(super) const LABELS: [&str; 2] =
    ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// scrypt cost that is written (cosign's own).
const WRITE_N: u32 = 65_536;
/// scrypt costs that are read: others are a mistake, or an attempt to eat this machine's memory.
const READ_N: [u32; 2] = [32_768, 65_536];
/// Largest key file (bytes).
const MAX_FILE: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Envelope {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// A key pair as it is written to files.
#[derive(Debug)]
pub struct NewKey {
    /// The private key, encrypted, PEM.
    pub private_pem: String,
    /// The public key, PEM.
    pub public_pem: String,
}

/// Makes a key pair and encrypts the private key with the password.
pub fn generate(password: &str) -> anyhow::Result<NewKey> {
    let secret = p256::SecretKey::random(&mut OsRng);
    let der = secret.to_pkcs8_der()?;
    let public_pem = secret.public_key().to_public_key_pem(LineEnding::LF)?;
    Ok(NewKey { private_pem: encrypt(der.as_bytes(), password)?, public_pem })
}

fn derive(password: &str, salt: &[u8], n: u32) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let log_n = u8::try_from(n.ilog2())?;
    let params =
        scrypt::Params::new(log_n, 8, 1).map_err(|error| anyhow::anyhow!("scrypt: {error}"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), salt, &params, key.as_mut())
        .map_err(|error| anyhow::anyhow!("scrypt: {error}"))?;
    Ok(key)
}

/// Encrypts a PKCS#8 key (DER) as cosign does; gives the PEM text.
pub fn encrypt(der: &[u8], password: &str) -> anyhow::Result<String> {
    let (mut salt, mut nonce) = ([0; 32], [0; 24]);
    OsRng.fill_bytes(&mut salt);
    OsRng.fill_bytes(&mut nonce);
    let key = derive(password, &salt, WRITE_N)?;
    let boxed = XSalsa20Poly1305::new(GenericArray::from_slice(key.as_ref()));
    let ciphertext = boxed
        .encrypt(GenericArray::from_slice(&nonce), der)
        .map_err(|_| anyhow::anyhow!("the key could not be encrypted"))?;
    let envelope = Envelope {
        kdf: Kdf {
            name: "scrypt".into(),
            params: Params { n: WRITE_N, r: 8, p: 1 },
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher { name: "nacl/secretbox".into(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(ciphertext),
    };
    let body = STANDARD.encode(serde_json::to_vec(&envelope)?);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or("")).collect();
    Ok(format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", LABELS[0], lines.join("\n")))
}

/// Decrypts a key file; gives the PKCS#8 DER.
pub fn decrypt(pem: &str, password: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if pem.len() > MAX_FILE {
        bail!("the key file has {} bytes, at most {MAX_FILE} are read", pem.len());
    }
    let body = LABELS.iter().find_map(|label| {
        let start = pem.split_once(&format!("-----BEGIN {label}-----"))?.1;
        Some(start.split_once(&format!("-----END {label}-----"))?.0)
    });
    let body = body.with_context(|| {
        format!("no PEM block `{}`; make a key with `pitlane keys generate`", LABELS[0])
    })?;
    let body: String = body.split_whitespace().collect();
    let envelope: Envelope = serde_json::from_slice(&STANDARD.decode(body)?)?;
    let (kdf, cipher) = (&envelope.kdf, &envelope.cipher);
    let known = kdf.name == "scrypt"
        && READ_N.contains(&kdf.params.n)
        && (kdf.params.r, kdf.params.p) == (8, 1)
        && cipher.name == "nacl/secretbox";
    if !known {
        bail!("the key is encrypted in a way cosign does not use ({}, {})", kdf.name, cipher.name);
    }
    let nonce = STANDARD.decode(&cipher.nonce)?;
    anyhow::ensure!(nonce.len() == 24, "the nonce has {} bytes, want 24", nonce.len());
    let key = derive(password, &STANDARD.decode(&kdf.salt)?, kdf.params.n)?;
    let boxed = XSalsa20Poly1305::new(GenericArray::from_slice(key.as_ref()));
    let ciphertext = STANDARD.decode(&envelope.ciphertext)?;
    match boxed.decrypt(GenericArray::from_slice(&nonce), ciphertext.as_slice()) {
        Ok(der) => Ok(Zeroizing::new(der)),
        Err(_) => bail!("wrong password, or the key file was altered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encrypted_comes_back_only_with_the_password() {
        let key = generate("secret").unwrap();
        assert!(decrypt(&key.private_pem, "secret").is_ok());
        let error = decrypt(&key.private_pem, "wrong").unwrap_err().to_string();
        assert!(error.contains("wrong password"), "{error}");
        let broken = key.private_pem.replace("SIGSTORE", "OTHER");
        assert!(decrypt(&broken, "secret").unwrap_err().to_string().contains("PEM block"));
    }

    #[test]
    fn a_cost_that_eats_memory_is_refused() {
        let envelope = serde_json::json!({"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8,
            "p": 1}, "salt": "AA=="}, "cipher": {"name": "nacl/secretbox", "nonce": "AA=="},
            "ciphertext": "AA=="});
        let body = STANDARD.encode(envelope.to_string());
        let pem = format!("-----BEGIN {0}-----\n{body}\n-----END {0}-----\n", LABELS[0]);
        assert!(decrypt(&pem, "x").unwrap_err().to_string().contains("cosign does not use"));
    }
}
