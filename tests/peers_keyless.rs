//! cosign accepts in full what we sign keylessly, and we what cosign signs, in one instance, with
//! nothing left out: certificate log proof, transparency log, timestamps, names.

use std::path::{Path, PathBuf};

use crate::common::{
    Ran, peer, run,
    sigstore::{Instance, JOB, PERSON, REVIEW, name},
};

/// cosign in an instance.
struct Cosign<'a> {
    program: PathBuf,
    instance: &'a Instance,
}

impl Cosign<'_> {
    fn verify(&self, command: &[&str], who: &str, issuer: &str, root: &Path, file: &str) -> Ran {
        let mut cosign = self.instance.command(&self.program);
        cosign.args(command).args(["--bundle", "out.json", "--certificate-identity", who]);
        cosign.args(["--certificate-oidc-issuer", issuer]).arg("--trusted-root").arg(root);
        run(cosign.arg(file))
    }

    /// Signs with the token that lies there. cosign takes a token that is longer than a file's
    /// name can be from a file alone.
    fn sign(&self, command: &[&str], config: &Path) -> Ran {
        let mut cosign = self.instance.command(&self.program);
        cosign.args(command).args(["-y", "--identity-token", "token", "--bundle", "out.json"]);
        cosign.arg("--trusted-root").arg(self.instance.lab.trusted_root());
        run(cosign.arg("--signing-config").arg(config))
    }
}

#[test]
fn cosign_verifies_what_we_sign_keylessly() {
    let Some(program) = peer("cosign") else { return };
    let (instance, other) = (Instance::start(), Instance::start());
    let cosign = Cosign { program, instance: &instance };
    let root = instance.lab.trusted_root();
    let issuer = instance.issuer();
    for config in [instance.lab.signing_config(), instance.lab.old_signing_config()] {
        for (in_toto, subject) in [(false, PERSON), (true, PERSON), (false, JOB), (true, JOB)] {
            instance.token(&instance.lab.token(&subject));
            instance.sign(&config, in_toto).ok();
            let who = name(&subject);
            let blob: &[&str] = &["verify-blob"];
            let statement: &[&str] = &["verify-blob-attestation", "--type", REVIEW];
            let verify = if in_toto { statement } else { blob };
            let good = cosign.verify(verify, &who, issuer, &root, "pilot.onnx");
            assert!(good.stderr.contains("Verified OK"), "{good:?}");
            good.ok();
            let (stranger, elsewhere) = ("mallory@example.org", other.issuer());
            cosign.verify(verify, stranger, issuer, &root, "pilot.onnx").fails();
            cosign.verify(verify, &who, elsewhere, &root, "pilot.onnx").fails();
            cosign.verify(verify, &who, issuer, &other.lab.trusted_root(), "pilot.onnx").fails();
            cosign.verify(verify, &who, issuer, &root, "review.json").fails();
        }
    }
}

#[test]
fn we_verify_what_cosign_signs_keylessly() {
    let Some(program) = peer("cosign") else { return };
    let (instance, other) = (Instance::start(), Instance::start());
    let cosign = Cosign { program, instance: &instance };
    let root = instance.lab.trusted_root();
    let issuer = instance.issuer();
    for config in [instance.lab.signing_config(), instance.lab.old_signing_config()] {
        for subject in [PERSON, JOB] {
            instance.token(&instance.lab.token(&subject));
            let blob: &[&str] = &["sign-blob", "pilot.onnx"];
            let statement: &[&str] = &["attest-blob", "--statement", "review.json"];
            for sign in [blob, statement] {
                cosign.sign(sign, &config).ok();
                let who = name(&subject);
                let (code, verdict) = instance.verify("out.json", &who, issuer, &root);
                assert_eq!(code, 0, "{sign:?} {verdict:#}");
                let strangers = other.lab.trusted_root();
                for (who, issuer, root) in [
                    ("mallory@example.org", issuer, &root),
                    (&who, other.issuer(), &root),
                    (&who, issuer, &strangers),
                ] {
                    let (code, verdict) = instance.verify("out.json", who, issuer, root);
                    assert_eq!(code, 10, "{sign:?} {verdict:#}");
                }
            }
        }
    }
}
