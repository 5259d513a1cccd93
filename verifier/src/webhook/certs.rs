//! An authority of one's own and the webhook's certificate, for clusters without cert-manager.
//!
//! The authority's key stays on the operator's machine; the cluster gets the certificate that it
//! made, and API servers its public half (`caBundle`). Running it again renews the certificate by
//! the same authority, so that nothing has to be told to API servers.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{ToSpan as _, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::tls::Certificates;

/// How long an authority lasts (years): longer than a cluster on a car is kept.
const AUTHORITY_YEARS: i64 = 10;
/// The authority's name; a renewed certificate must name the issuer that made the first.
const AUTHORITY: &str = "Pitlane admission authority";

/// The files that were written.
#[derive(Debug)]
pub struct Made {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The webhook's certificate and key.
    pub leaf: [PathBuf; 2],
    /// A kustomize patch that tells the authority to API servers.
    pub patch: PathBuf,
    /// Whether the authority was there before.
    pub renewed: bool,
}

/// Makes or renews a certificate for these names in a folder.
///
/// # Errors
/// When the folder holds half an authority, or cannot be written.
pub fn make(dir: &Path, names: &[String], days: u16, today: Date) -> anyhow::Result<Made> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let (crt, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let renewed = match (crt.exists(), key.exists()) {
        (true, true) => true,
        (false, false) => false,
        _ => {
            bail!("{}: only half of the authority is there; remove it to begin anew", dir.display())
        }
    };
    if !renewed {
        let pair = KeyPair::generate()?;
        let authority = authority(today)?.self_signed(&pair)?;
        secret(&key, &pair.serialize_pem())?;
        write(&crt, &authority.pem())?;
    }
    let mode = key.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{}: others may read it (mode {:o}): chmod 600", key.display(), mode & 0o777);
    }
    // Also sees that the two belong together.
    let ends = Certificates::open(&crt, &key)?.ends();
    let pair = KeyPair::from_pem(&read(&key)?)
        .with_context(|| format!("{}: not a key that signs", key.display()))?;
    let issuer = Issuer::new(authority(today)?, pair);

    let last = today.checked_add(i64::from(days).days())?;
    if last.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second() > ends {
        bail!("{}: the authority ends before the certificate would; begin anew", crt.display());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
    valid(&mut params, today, last)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let leaf = params.signed_by(&leaf_key, &issuer)?;

    let leaf_files = [dir.join("tls.crt"), dir.join("tls.key")];
    secret(&leaf_files[1], &leaf_key.serialize_pem())?;
    write(&leaf_files[0], &leaf.pem())?;
    let patch = dir.join("ca-bundle.yaml");
    let bundle = STANDARD.encode(read(&crt)?);
    let place = "/webhooks/0/clientConfig/caBundle";
    write(&patch, &format!("- op: add\n  path: {place}\n  value: {bundle}\n"))?;
    Ok(Made { authority: crt, leaf: leaf_files, patch, renewed })
}

fn authority(today: Date) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid(&mut params, today, today.checked_add(AUTHORITY_YEARS.years())?)?;
    Ok(params)
}

/// From yesterday, since clocks differ, until the beginning of the last day.
fn valid(params: &mut CertificateParams, today: Date, last: Date) -> anyhow::Result<()> {
    let parts = |day: Date| -> anyhow::Result<_> {
        let (month, date) = (u8::try_from(day.month())?, u8::try_from(day.day())?);
        Ok((i32::from(day.year()), month, date))
    };
    let (year, month, date) = parts(today.yesterday()?)?;
    params.not_before = date_time_ymd(year, month, date);
    let (year, month, date) = parts(last)?;
    params.not_after = date_time_ymd(year, month, date);
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))
}

/// Writes a file whole or not at all: the webhook may be reading it.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    put(file, text, 0o644)
}

/// The same, for its owner alone.
fn secret(file: &Path, text: &str) -> anyhow::Result<()> {
    put(file, text, 0o600)
}

fn put(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    let written = || {
        let _ = std::fs::remove_file(&beside);
        let mut new = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    };
    written().with_context(|| format!("{}: cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> Date {
        jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
    }

    #[test]
    fn a_certificate_is_renewed_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["pitlane-admission.pitlane-system.svc".to_owned()];
        let first = make(dir.path(), &names, 90, today()).unwrap();
        assert!(!first.renewed);
        let authority = read(&first.authority).unwrap();
        let leaf = read(&first.leaf[0]).unwrap();
        let ends = Certificates::open(&first.leaf[0], &first.leaf[1]).unwrap().ends();
        let days = (ends - jiff::Timestamp::now().as_second()) / 86_400;
        assert!((88..=90).contains(&days), "{days}");
        for secret in [&first.leaf[1], &dir.path().join("ca.key")] {
            assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let patch = read(&first.patch).unwrap();
        assert!(patch.contains(&STANDARD.encode(&authority)), "{patch}");

        let second = make(dir.path(), &names, 90, today()).unwrap();
        assert!(second.renewed && read(&second.leaf[0]).unwrap() != leaf);
        assert_eq!(read(&second.authority).unwrap(), authority);
        assert_eq!(read(&second.patch).unwrap(), patch);
    }

    #[test]
    fn half_an_authority_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a.example".to_owned()];
        let made = make(dir.path(), &names, 1, today()).unwrap();
        assert!(make(dir.path(), &names, 4000, today()).is_err(), "longer than its authority");
        let key = dir.path().join("ca.key");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&key, open).unwrap();
        let error = make(dir.path(), &names, 1, today()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        // Another authority's key.
        secret(&key, &KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(make(dir.path(), &names, 1, today()).is_err());
        std::fs::remove_file(&made.authority).unwrap();
        assert!(make(dir.path(), &names, 1, today()).is_err());
        std::fs::remove_file(&key).unwrap();
        assert!(make(dir.path(), &names, 1, today()).is_ok());
        assert!(make(dir.path(), &["not a name \u{e9}".to_owned()], 1, today()).is_err());
    }
}
