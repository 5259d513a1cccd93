//! The certificate chain that a bundle brings along.

use sigstore_types::{Bundle, bundle::VerificationMaterialContent};
use x509_cert::{Certificate, der::Decode as _};

use super::{refusal::BundleRefusal, root::TrustRoot};

/// Refuses what a chain needs not have. Roots come from the trusted root alone (protobuf specs,
/// `X509CertificateChain`: it must not contain one); a certificate that the trusted root has is
/// its very copy, since the library takes the root's and never looks at the bundle's; and each is
/// the issuer of the one before.
pub(super) fn check(bundle: &Bundle, root: &TrustRoot) -> Result<(), BundleRefusal> {
    let VerificationMaterialContent::X509CertificateChain { certificates } =
        &bundle.verification_material.content
    else {
        return Ok(());
    };
    let refuse = |why: String| Err(BundleRefusal::Certificate(why));
    let mut issuer = None;
    for certificate in certificates {
        let certificate = Certificate::from_der(certificate.raw_bytes.as_bytes())
            .map_err(|error| BundleRefusal::Certificate(error.to_string()))?;
        let body = &certificate.tbs_certificate;
        if body.issuer == body.subject {
            return refuse(format!("the bundle brings the root `{}` along", body.subject));
        }
        if issuer.is_some_and(|issuer| issuer != body.subject) {
            return refuse(format!("`{}` has no place in the chain", body.subject));
        }
        let known = |known: &&Certificate| known.tbs_certificate.subject == body.subject;
        let mut named = root.signers.iter().filter(known).peekable();
        if named.peek().is_some() && !named.any(|known| *known == certificate) {
            return refuse(format!("its `{}` is not the trusted root's", body.subject));
        }
        issuer = Some(certificate.tbs_certificate.issuer);
    }
    Ok(())
}
