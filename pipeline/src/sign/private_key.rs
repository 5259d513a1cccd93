//! Private key files of every kind that is read: cosign's own, PKCS#8, and PKCS#8 with a password.
//!
//! Sources: RFC 7468 (labels), RFC 5958 (PKCS#8), RFC 8018 (PBES2), cosign's `pkg/cosign/keys.go`.

use std::path::Path;

use anyhow::{Context as _, bail};
use pkcs8::{
    EncryptedPrivateKeyInfo, SecretDocument,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use zeroize::Zeroizing;

use super::keyfile;
use crate::config;

/// Most rounds of PBKDF2 that are made; OpenSSL writes 2048, the advice of 2023 is 600 000.
const MAX_ROUNDS: u32 = 10_000_000;
/// Most memory that scrypt may take (bytes, 128·N·r); OpenSSL's own figures take 16 MiB.
const MAX_SCRYPT: u64 = 256 * 1024 * 1024;

/// Reads a private key file that nobody else may read; gives the PKCS#8 DER. The password is
/// asked for only when there is something to decrypt.
pub fn read(path: &Path, password_file: Option<&Path>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let pem = config::read_secret(path)?;
    if password_file.is_some() && label(&pem) == Some("PRIVATE KEY") {
        let shown = path.display();
        tracing::warn!("{shown}: it has no password; the password file is not used");
    }
    decode(&pem, || password(password_file))
        .with_context(|| format!("{}: the key cannot be opened", path.display()))
}

/// A password: from its file, else from `COSIGN_PASSWORD`.
pub fn password(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    match file {
        Some(file) => config::read_secret(file),
        None => std::env::var("COSIGN_PASSWORD")
            .map(Zeroizing::new)
            .context("no password: name a password file, or set COSIGN_PASSWORD"),
    }
}

fn label(pem: &str) -> Option<&str> {
    Some(pem.split_once("-----BEGIN ")?.1.split_once("-----")?.0)
}

fn decode(
    pem: &str,
    password: impl FnOnce() -> anyhow::Result<Zeroizing<String>>,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match label(pem).context("no PEM block; make a key with `pitlane keys generate`")? {
        label if keyfile::LABELS.contains(&label) => keyfile::decrypt(pem, &password()?),
        "PRIVATE KEY" => Ok(Zeroizing::new(document(pem)?.as_bytes().to_vec())),
        "ENCRYPTED PRIVATE KEY" => decrypt(document(pem)?.as_bytes(), &password()?),
        "PUBLIC KEY" => bail!("this is the public half; name the private key"),
        other => bail!(
            "a PEM block `{}`; want PKCS#8 or cosign's format: openssl pkcs8 -topk8 -in KEY -out NEW",
            other.chars().take(40).collect::<String>()
        ),
    }
}

fn document(pem: &str) -> anyhow::Result<SecretDocument> {
    let read = SecretDocument::from_pem(pem);
    Ok(read.map_err(|error| anyhow::anyhow!("not well-formed PEM: {error}"))?.1)
}

/// Opens an `EncryptedPrivateKeyInfo`. What it costs is looked at first: the figures are the
/// file's.
fn decrypt(der: &[u8], password: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let sealed = EncryptedPrivateKeyInfo::try_from(der);
    let anew = "write it anew: openssl pkcs8 -topk8 -v2 aes256 -in KEY -out NEW";
    let sealed = sealed.map_err(|error| {
        anyhow::anyhow!("not an encrypted PKCS#8 key by PBES2 with AES ({error}); {anew}")
    })?;
    let EncryptionScheme::Pbes2(scheme) = &sealed.encryption_algorithm else {
        bail!("it is encrypted by PBES1; {anew}")
    };
    let cost = match &scheme.kdf {
        Kdf::Pbkdf2(kdf) if kdf.iteration_count <= MAX_ROUNDS => None,
        Kdf::Pbkdf2(kdf) => Some(format!("{} rounds", kdf.iteration_count)),
        Kdf::Scrypt(kdf) => {
            let bytes = kdf.cost_parameter.saturating_mul(128 * u64::from(kdf.block_size));
            let affordable = bytes <= MAX_SCRYPT && kdf.parallelization <= 16;
            (!affordable).then(|| format!("{bytes} bytes × {}", kdf.parallelization))
        }
        _ => bail!("the way its password is stretched is not known"),
    };
    if let Some(cost) = cost {
        bail!("stretching its password costs {cost}, which no honest tool asks for");
    }
    match sealed.decrypt(password) {
        Ok(document) => Ok(Zeroizing::new(document.as_bytes().to_vec())),
        Err(error) => bail!("wrong password, or not PBES2 with AES and SHA-2: {error}"),
    }
}
