//! The files that make the instance usable: whom to trust, and where to sign.
//!
//! Source: `sigstore_trustroot.proto` of the protobuf specs.

use std::path::Path;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{World, pki::Entity};

pub(crate) const TRUSTED_ROOT: &str = "trusted_root.json";
pub(crate) const SIGNING_CONFIG: &str = "signing_config.json";
pub(crate) const OLD_SIGNING_CONFIG: &str = "signing_config_v1.json";

/// Writes all of them.
pub(crate) fn write(world: &World, folder: &Path) -> anyhow::Result<()> {
    let since = (Timestamp::now() - 24.hours()).to_string();
    for (name, value) in [
        (TRUSTED_ROOT, trusted_root(world, &since)?),
        (SIGNING_CONFIG, signing_config(world, &since, false)),
        (OLD_SIGNING_CONFIG, signing_config(world, &since, true)),
    ] {
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(&value)? + "\n";
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn trusted_root(world: &World, since: &str) -> anyhow::Result<Value> {
    let addresses = &world.addresses;
    let log = |url: &str, spki: &[u8], id: &[u8], details: &str| {
        json!({
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(spki),
                "keyDetails": details,
                "validFor": { "start": since },
            },
            "logId": { "keyId": STANDARD.encode(id) },
        })
    };
    let (ed25519, p256) = ("PKIX_ED25519", "PKIX_ECDSA_P256_SHA_256");
    let certificates_log = world.authority.log.public_key_der()?;
    let certificates_log = certificates_log.as_bytes();
    let authority = |name: &str, url: &str, chain: [&Entity; 2]| {
        let chain = chain
            .into_iter()
            .map(|entity| anyhow::Ok(json!({ "rawBytes": STANDARD.encode(entity.der()?) })));
        anyhow::Ok(json!({
            "subject": { "organization": "pitlane.lab", "commonName": name },
            "uri": url,
            "certChain": { "certificates": chain.collect::<Result<Vec<_>, _>>()? },
            "validFor": { "start": since },
        }))
    };
    let (signing, stamping) = (&world.authority, &world.stamper);
    let (log2, log1) = (&world.log, &world.old_log);
    Ok(json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [
            log(&addresses.log, &log2.spki(), &log2.id(), ed25519),
            log(&addresses.old_log, &log1.spki()?, &log1.id()?, p256),
        ],
        "certificateAuthorities": [authority(
            "lab root", &addresses.authority, [&signing.intermediate, &signing.root],
        )?],
        "ctlogs": [log(
            &format!("{}/ct", addresses.authority),
            certificates_log,
            &Sha256::digest(certificates_log),
            p256,
        )],
        "timestampAuthorities": [authority(
            "lab timestamp root", &addresses.stamper, [&stamping.leaf, &stamping.root],
        )?],
    }))
}

fn signing_config(world: &World, since: &str, old: bool) -> Value {
    let addresses = &world.addresses;
    let service = |url: &str, version: u32| {
        json!([{
            "url": url,
            "majorApiVersion": version,
            "validFor": { "start": since },
            "operator": "pitlane.lab",
        }])
    };
    let log = if old { service(&addresses.old_log, 1) } else { service(&addresses.log, 2) };
    json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service(&addresses.authority, 1),
        "oidcUrls": service(&addresses.issuer, 1),
        "rekorTlogUrls": log,
        "tsaUrls": if old { json!([]) } else { service(&addresses.stamper, 1) },
        "rekorTlogConfig": { "selector": "ANY" },
        "tsaConfig": { "selector": "ANY" },
    })
}
