//! `Digest`: a SHA-256 digest in its one canonical text form, `sha256:<64 lower-case hex>`.
//!
//! Other algorithms of the OCI image spec are refused at parsing: what is signed, fetched and
//! compared here is always SHA-256, so a second algorithm would only be a second way to be wrong.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: want sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere (a streaming hasher).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without the algorithm: file names and in-toto digest maps.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Parses the 64 hexadecimal digits alone, as in in-toto digest maps.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let fail = || DigestError(text.chars().take(80).collect());
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| fail())?;
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Self::from_hex(hex),
            None => Err(DigestError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::text::serde_as_text!(
    Digest,
    "sha256:<64 lower-case hexadecimal digits>",
    "^sha256:[0-9a-f]{64}$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_parses() {
        let good = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        assert_eq!(Digest::of("{}").to_string(), good);
        for bad in [
            "",
            "sha256:",
            &good[7..],
            &good[..70],
            &format!("{good}0"),
            &good.to_uppercase(),
            &good.replace("sha256:44", "sha256:4G"),
            &good.replace("sha256", "sha512"),
            &good.replace("4413", "é13"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
