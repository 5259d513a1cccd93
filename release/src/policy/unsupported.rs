//! Fields that policy-controller knows and this verifier does not act on. They are named, so that
//! the refusal says why and what to write instead, with the line in the file.

use serde::{Deserialize, Deserializer, de::Error as _};

macro_rules! unsupported {
    ($($(#[$doc:meta])* $name:ident: $why:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(D::Error::custom($why))
            }
        }
    )+};
}

unsupported! {
    /// `policy` of a spec or an attestation.
    Program: "`policy` (CUE, Rego) is not run here: an attestation is asked for by its \
              predicateType alone; what laps, provenance and model must say is asked for in `drive:`",
    /// `spec.match`.
    Match: "`match` is not supported: the policy speaks of images, whatever resource runs them",
    /// `key.kms`.
    Kms: "`key.kms` is not asked here, where there may be no network: export its public key \
          (`cosign public-key --key KMS-URI`) into `key.data`",
    /// `keyless.ca-cert`.
    CaCert: "`keyless.ca-cert` is not supported: put the certificate into a trusted_root.json and \
             name it in `trustRootRef` (docs/policy.md)",
    /// `authorities[].source`.
    Elsewhere: "`source` is not supported: signatures are looked for beside the image only",
    /// `secretRef.namespace`.
    Namespace: "a secretRef is a name here, without a namespace",
}
