//! From what is written to what is meant: every value looked at, every name resolved.

use std::sync::Arc;

use super::{
    Authority, AuthorityFile, Glob, IdentityFile, KeyFile, KeylessFile, LogFile, Mode, Policy,
    PolicyError, PolicyFile, StaticFile, TrustRoot,
};
use crate::{
    key::{KeyHash, PublicKey},
    matcher::{Matcher, Pattern},
    policy::{AuthorityRule, Formats, KeyRule, KeylessRule},
    sigstore::{BundleRefusal, Expect, Identity, Keyless, Witness},
};

/// The public-good instance's addresses, which policy-controller writes as defaults: they name
/// the default trusted root, nothing is fetched from them.
const PUBLIC_GOOD: [&str; 2] = ["https://fulcio.sigstore.dev", "https://rekor.sigstore.dev"];

/// Short names of predicate types (sigstore/cosign, `cmd/cosign/cli/options/predicate.go`).
const SHORT_TYPES: [(&str, &str); 10] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
];

/// How a key's name is resolved.
type KeyOf<'a> = &'a dyn Fn(&str) -> Option<String>;
/// How a trusted root's name is resolved.
type RootOf<'a> = &'a dyn Fn(Option<&str>) -> Result<Option<Arc<TrustRoot>>, BundleRefusal>;

struct Names<'a> {
    key: KeyOf<'a>,
    root: RootOf<'a>,
}

impl Names<'_> {
    fn root(&self, path: &str, name: Option<&str>) -> Result<Arc<TrustRoot>, PolicyError> {
        let found = (self.root)(name).map_err(|error| field(path, error.to_string()))?;
        found.ok_or_else(|| PolicyError::RootMissing(name.unwrap_or("default").to_owned()))
    }
}

fn field(field: impl Into<String>, why: impl Into<String>) -> PolicyError {
    PolicyError::Field { field: field.into(), why: why.into() }
}

impl PolicyFile {
    pub(in crate::policy) fn check(
        mut self,
        key: KeyOf<'_>,
        root: RootOf<'_>,
    ) -> Result<Policy, PolicyError> {
        let names = Names { key, root };
        if self.metadata.name.is_empty() {
            return Err(field("metadata.name", "it is empty; verdicts name the policy by it"));
        }
        let mode = match self.spec.mode.as_deref() {
            None | Some("enforce") => Mode::Enforce,
            Some("warn") => Mode::Warn,
            Some(other) => {
                return Err(field("spec.mode", format!("`{other}`, want enforce or warn")));
            }
        };
        if self.spec.images.is_empty() || self.spec.authorities.is_empty() {
            return Err(field("spec", "want at least one image pattern and one authority"));
        }
        let images = self.spec.images.iter().map(|pattern| {
            pattern.glob.parse::<Glob>().map_err(|why| field("spec.images[].glob", why))
        });
        let images = images.collect::<Result<_, _>>()?;
        let authorities = all(self.spec.authorities, "spec.authorities", &names)?;
        let mut lap_authorities = Vec::new();
        if let Some(drive) = &mut self.drive {
            drive.check()?;
            signing("spec.authorities", &authorities)?;
            let has_keyless =
                authorities.iter().any(|a| matches!(a.rule, AuthorityRule::Keyless(_)));
            if drive.workflow.is_some() && !has_keyless {
                let why = "only certificates speak of a run: want a `keyless` authority";
                return Err(field("drive.workflow", why));
            }
            if let Some(laps) = &mut drive.laps {
                let path = "drive.laps.authorities";
                lap_authorities = all(std::mem::take(&mut laps.authorities), path, &names)?;
                signing(path, &lap_authorities)?;
            }
        }
        let name = self.metadata.name;
        Ok(Policy { name, images, authorities, lap_authorities, mode, drive: self.drive })
    }
}

fn all(
    files: Vec<AuthorityFile>,
    path: &str,
    names: &Names<'_>,
) -> Result<Vec<Authority>, PolicyError> {
    let numbered = files.into_iter().enumerate();
    numbered.map(|(n, file)| file.check(&format!("{path}[{n}]"), n, names)).collect()
}

/// With `drive:`, authorities sign statements, and what must be proven is said there.
fn signing(path: &str, authorities: &[Authority]) -> Result<(), PolicyError> {
    let signs = |a: &Authority| {
        let signs = !matches!(a.rule, AuthorityRule::Static { .. });
        signs && a.attestations.is_empty() && a.formats.bundles()
    };
    if authorities.iter().all(signs) {
        return Ok(());
    }
    let why = "with `drive:` every authority signs bundles (key or keyless), without \
               `attestations`: what must be proven is said in `drive:`";
    Err(field(path, why))
}

impl AuthorityFile {
    fn check(self, path: &str, number: usize, names: &Names<'_>) -> Result<Authority, PolicyError> {
        let name = self.name.unwrap_or_else(|| format!("authority-{number}"));
        let formats = match self.signature_format.as_deref() {
            None => Formats::Any,
            Some("bundle") => Formats::Bundle,
            Some("legacy") => Formats::Legacy,
            Some(other) => {
                let why = format!("`{other}`, want bundle or legacy");
                return Err(field(format!("{path}.signatureFormat"), why));
            }
        };
        let stamp_root =
            self.rfc3161timestamp.as_ref().map(|stamp| stamp.trust_root_ref.as_deref());
        let (log, keyless) = (self.ctlog.as_ref(), self.keyless.as_ref());
        let witness = Witness { log: log.is_some(), stamp: stamp_root.is_some() };
        let references = [
            keyless.and_then(|keyless| keyless.trust_root_ref.as_deref()),
            log.and_then(|log| log.trust_root_ref.as_deref()),
            stamp_root.flatten(),
        ];
        let root_name = match one_root(path, references)? {
            Some(name) => Some(name),
            None => one_address(path, keyless, log)?,
        };
        let root_name = root_name.map(str::to_owned);
        let root_name = root_name.as_deref();
        let rule = match (self.key, self.keyless, self.fixed) {
            (Some(file), None, None) => {
                let hashed = file.hash_algorithm.as_deref().is_some_and(|hash| hash != "sha256");
                let key = file.resolve(path, names.key)?;
                if hashed && witness != Witness::NONE {
                    let why = "with ctlog or rfc3161timestamp only sha256 is supported";
                    return Err(field(format!("{path}.key.hashAlgorithm"), why));
                }
                let witness = match witness {
                    Witness::NONE => None,
                    some => Some((some, names.root(path, root_name)?)),
                };
                AuthorityRule::Key(KeyRule { key, witness, root: root_name.map(str::to_owned) })
            }
            (None, Some(file), None) => {
                let keyless = file.check(path, witness)?;
                let root = names.root(path, root_name)?;
                let (expect, name) = (Expect::Keyless(keyless), root_name.map(str::to_owned));
                AuthorityRule::Keyless(KeylessRule { expect, root, name })
            }
            (None, None, Some(fixed)) => {
                if !self.attestations.is_empty() || witness != Witness::NONE {
                    let why = "static excludes attestations, ctlog and rfc3161timestamp";
                    return Err(field(path, why));
                }
                fixed.check(path)?
            }
            _ => return Err(field(path, "want exactly one of key, keyless and static")),
        };
        let attestations = self.attestations.into_iter().map(|a| {
            if a.predicate_type.is_empty() || a.name.is_empty() {
                return Err(field(format!("{path}.attestations"), "name or type is empty"));
            }
            Ok(long_type(a.predicate_type))
        });
        let attestations = attestations.collect::<Result<_, _>>()?;
        Ok(Authority { name, rule, attestations, formats })
    }
}

/// One trusted root has the authorities, the logs and the stamps of an instance.
fn one_root<'a>(
    path: &str,
    references: [Option<&'a str>; 3],
) -> Result<Option<&'a str>, PolicyError> {
    let mut roots = references.into_iter().flatten();
    let first = roots.next();
    if roots.any(|other| Some(other) != first) {
        let why = "it names several trusted roots: put them into one trusted_root.json";
        return Err(field(path, why));
    }
    Ok(first)
}

fn long_type(kind: String) -> String {
    let long = SHORT_TYPES.iter().find(|(short, _)| *short == kind);
    long.map_or(kind, |(_, long)| (*long).to_owned())
}

impl StaticFile {
    fn check(self, path: &str) -> Result<AuthorityRule, PolicyError> {
        match self.action.as_str() {
            "pass" => Ok(AuthorityRule::Static { pass: true, message: String::new() }),
            "fail" => {
                let message = self.message.unwrap_or_default();
                Ok(AuthorityRule::Static { pass: false, message })
            }
            other => {
                let why = format!("`{other}`, want pass or fail");
                Err(field(format!("{path}.static.action"), why))
            }
        }
    }
}

/// An address that is not the public instance's is the name of a trusted root, too: it is looked
/// up, and never asked. Two of them could be two instances.
fn one_address<'a>(
    path: &str,
    keyless: Option<&'a KeylessFile>,
    log: Option<&'a LogFile>,
) -> Result<Option<&'a str>, PolicyError> {
    let urls = [keyless.and_then(|k| k.url.as_deref()), log.and_then(|l| l.url.as_deref())];
    let urls = urls.into_iter().flatten().map(|url| url.trim_end_matches('/'));
    let mut instances = urls.map(|url| (!PUBLIC_GOOD.contains(&url)).then_some(url));
    let first = instances.next().flatten();
    if instances.any(|other| other != first) {
        let why = "it has addresses of several services: name the one trusted_root.json that has \
                   them all in `trustRootRef`";
        return Err(field(path, why));
    }
    Ok(first)
}

impl KeylessFile {
    fn check(self, path: &str, asked: Witness) -> Result<Keyless, PolicyError> {
        let path = format!("{path}.keyless.identities");
        if self.identities.is_empty() {
            let why = "it is empty: anybody gets a certificate, so say whose counts";
            return Err(field(path, why));
        }
        let any_of = self.identities.into_iter().map(|identity| identity.check(&path));
        // A certificate lives ten minutes: something must prove when it was used. The log, unless
        // timestamps alone are asked for.
        let witness = Witness { log: asked.log || !asked.stamp, ..asked };
        let any_of = any_of.collect::<Result<_, _>>()?;
        Ok(Keyless { any_of, witness, sct: !self.insecure_ignore_sct })
    }
}

impl IdentityFile {
    fn check(self, path: &str) -> Result<Identity, PolicyError> {
        let one = |what: &str, exact: Option<String>, pattern: Option<String>| {
            let exact = exact.filter(|text| !text.is_empty());
            match (exact, pattern.filter(|text| !text.is_empty())) {
                (Some(exact), None) => Ok(Matcher::Exact(exact)),
                (None, Some(pattern)) => Pattern::new(&pattern)
                    .map(Matcher::Pattern)
                    .map_err(|why| field(format!("{path}[].{what}RegExp"), why)),
                _ => {
                    let why = format!("want exactly one of {what} and {what}RegExp");
                    Err(field(format!("{path}[]"), why))
                }
            }
        };
        Ok(Identity {
            san: one("subject", self.subject, self.subject_reg_exp)?,
            issuer: one("issuer", self.issuer, self.issuer_reg_exp)?,
        })
    }
}

impl KeyFile {
    fn resolve(self, path: &str, key: KeyOf<'_>) -> Result<PublicKey, PolicyError> {
        let hash = match self.hash_algorithm.as_deref() {
            None => None,
            Some("sha256") => Some(KeyHash::Sha256),
            Some("sha384") => Some(KeyHash::Sha384),
            Some("sha512") => Some(KeyHash::Sha512),
            Some(other) => {
                let why = format!("`{other}`, want sha256, sha384 or sha512");
                return Err(field(format!("{path}.key.hashAlgorithm"), why));
            }
        };
        let pem = match (self.data, self.secret_ref) {
            (Some(data), None) => data,
            (None, Some(secret)) => {
                key(&secret.name).ok_or(PolicyError::KeyMissing(secret.name))?
            }
            _ => return Err(field(format!("{path}.key"), "want exactly one of data, secretRef")),
        };
        let unusable =
            |error: crate::key::KeyError| field(format!("{path}.key.data"), error.to_string());
        let key = PublicKey::from_pem(&pem).map_err(unusable)?;
        // Ed25519 has its hash built in, whatever a policy writes by default.
        match hash {
            Some(hash) if !key.is_ed25519() => key.with_hash(hash).map_err(unusable),
            _ => Ok(key),
        }
    }
}
