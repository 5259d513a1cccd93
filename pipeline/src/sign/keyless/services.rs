//! Which services sign: a signing configuration, and the choice that it leaves to clients.
//!
//! Format `application/vnd.dev.sigstore.signingconfig.v0.2+json`; the rules of choice are in the
//! comments of `sigstore_trustroot.proto` (protobuf-specs): services that are valid now and speak
//! a known version, one for each operator, the highest version and the youngest first.

use std::{cmp::Reverse, collections::HashSet};

use jiff::Timestamp;
use reqwest::Url;
use sigstore_trust_root::{
    SIGSTORE_PRODUCTION_SIGNING_CONFIG, SIGSTORE_STAGING_SIGNING_CONFIG, ServiceConfiguration,
    ServiceEndpoint, ServiceSelector, SigningConfig,
};

use super::error::KeylessError;

/// Largest signing configuration read (bytes); the public ones have 1 kB.
pub const MAX_SIGNING_CONFIG: u64 = 256 * 1024;
/// Most services of one kind that are asked for one signature. Bundles are read with at most 16.
const MAX_CHOSEN: usize = 8;

/// The services of an instance, before the choice.
#[derive(Clone, Debug)]
pub struct Services(SigningConfig);

/// The services that one signature is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The certificate authority.
    pub(super) authority: Url,
    /// The transparency logs; one at least.
    pub(super) logs: Vec<Log>,
    /// The timestamp authorities; one at least where a log gives no time.
    pub(super) stampers: Vec<Url>,
}

/// A transparency log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) url: Url,
    pub(super) api: LogApi,
}

/// What a log speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogApi {
    /// Rekor v1: entries of several kinds, and a signed time.
    V1,
    /// Rekor v2: `hashedrekord` alone, and no time.
    V2,
}

impl Services {
    /// Reads a signing configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeylessError> {
        let fail = |why: String| KeylessError::Services(why);
        if bytes.len() as u64 > MAX_SIGNING_CONFIG {
            return Err(fail(format!("{} bytes, at most {MAX_SIGNING_CONFIG}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| fail("not UTF-8".into()))?;
        SigningConfig::from_json(text).map(Self).map_err(|error| fail(error.to_string()))
    }

    /// The public-good instance's, as it was when the library was released.
    pub fn public_good() -> Result<Self, KeylessError> {
        Self::parse(SIGSTORE_PRODUCTION_SIGNING_CONFIG.as_bytes())
    }

    /// The staging instance's: for tests, anybody can be anybody there.
    pub fn staging() -> Result<Self, KeylessError> {
        Self::parse(SIGSTORE_STAGING_SIGNING_CONFIG.as_bytes())
    }

    /// Chooses the services to sign with at a time.
    pub(super) fn choose(&self, now: Timestamp) -> Result<Chosen, KeylessError> {
        let config = &self.0;
        let any = ServiceConfiguration::default();
        let authorities = select("caUrls", &config.ca_urls, &[1], &any, now)?;
        let logs = &config.rekor_tlog_urls;
        let logs = select("rekorTlogUrls", logs, &[1, 2], &config.rekor_tlog_config, now)?;
        let stampers = select("tsaUrls", &config.tsa_urls, &[1], &config.tsa_config, now)?;
        let none = |kind| KeylessError::Services(format!("no usable service in `{kind}` now"));
        let authority = authorities.first().ok_or_else(|| none("caUrls"))?;
        let logs = logs.into_iter().map(|log| {
            let api = if log.major_api_version == 1 { LogApi::V1 } else { LogApi::V2 };
            Ok(Log { url: address("rekorTlogUrls", log)?, api })
        });
        let logs = logs.collect::<Result<Vec<_>, KeylessError>>()?;
        if logs.is_empty() {
            return Err(none("rekorTlogUrls"));
        }
        if stampers.is_empty() && logs.iter().all(|log| log.api == LogApi::V2) {
            // Rekor v2 gives no time, and a certificate of minutes is worth nothing without one.
            return Err(none("tsaUrls"));
        }
        let stampers = stampers.into_iter().map(|stamper| address("tsaUrls", stamper));
        Ok(Chosen {
            authority: address("caUrls", authority)?,
            logs,
            stampers: stampers.collect::<Result<_, _>>()?,
        })
    }
}

fn select<'a>(
    kind: &str,
    all: &'a [ServiceEndpoint],
    versions: &[u32],
    wanted: &ServiceConfiguration,
    now: Timestamp,
) -> Result<Vec<&'a ServiceEndpoint>, KeylessError> {
    let usable = |service: &&ServiceEndpoint| {
        service.valid_for.contains(now) && versions.contains(&service.major_api_version)
    };
    let mut usable: Vec<&ServiceEndpoint> = all.iter().filter(usable).collect();
    usable.sort_by_key(|service| Reverse((service.major_api_version, service.valid_for.start)));
    let mut operators = HashSet::new();
    usable.retain(|service| match service.operator.as_deref() {
        None | Some("") => true,
        Some(operator) => operators.insert(operator),
    });
    let fail = |why: String| Err(KeylessError::Services(format!("`{kind}`: {why}")));
    let count = match wanted.selector {
        ServiceSelector::Any => 1,
        ServiceSelector::All => usable.len(),
        ServiceSelector::Exact => {
            match wanted.count.and_then(|count| usize::try_from(count).ok()) {
                Some(count) if count > 0 && count <= usable.len() => count,
                Some(count) => {
                    return fail(format!(
                        "{count} operators are asked for, {} are there",
                        usable.len()
                    ));
                }
                None => return fail("the selector EXACT has no count".into()),
            }
        }
        _ => return fail("the selector is none of ALL, ANY, EXACT".into()),
    };
    if count > MAX_CHOSEN {
        return fail(format!("{count} services for a signature, at most {MAX_CHOSEN}"));
    }
    usable.truncate(count);
    Ok(usable)
}

/// A service's address. Tokens and signatures go over TLS, or stay on this machine.
fn address(kind: &str, service: &ServiceEndpoint) -> Result<Url, KeylessError> {
    let fail = |why: &str| {
        let shown: String = service.url.chars().take(200).collect();
        KeylessError::Services(format!("`{kind}`: `{shown}` {why}"))
    };
    let url = Url::parse(&service.url).map_err(|error| fail(&error.to_string()))?;
    if is_private(&url) { Ok(url) } else { Err(fail("is neither https nor on loopback")) }
}

/// Whether nobody on the way can read what is sent there.
pub(super) fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" && !host.is_empty() || url.scheme() == "http" && loopback
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn service(url: &str, version: u32, start: &str, operator: &str) -> Value {
        json!({"url": url, "majorApiVersion": version, "operator": operator,
            "validFor": {"start": format!("{start}T00:00:00Z")}})
    }

    fn good() -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service("https://ca.example", 1, "2026-01-01", "a")],
            "rekorTlogUrls": [
                service("https://log1.example", 1, "2026-01-01", "a"),
                service("https://log2.example", 2, "2026-01-01", "a"),
                service("https://log2b.example", 2, "2026-02-01", "a"),
                service("https://log9.example", 9, "2026-02-01", "a"),
                service("https://later.example", 2, "2026-09-01", "a"),
                service("https://other.example", 2, "2026-01-01", "b"),
            ],
            "tsaUrls": [service("https://tsa.example/x", 1, "2026-01-01", "a")],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        })
    }

    fn choose(config: &Value) -> Result<Chosen, KeylessError> {
        Services::parse(config.to_string().as_bytes())?.choose(now())
    }

    fn logs(config: &Value) -> Vec<String> {
        choose(config).unwrap().logs.iter().map(|log| log.url.to_string()).collect()
    }

    #[test]
    fn one_for_each_operator_the_highest_version_the_youngest() {
        let mut config = good();
        assert_eq!(logs(&config), ["https://log2b.example/"]);
        config["rekorTlogConfig"] = json!({"selector": "ALL"});
        assert_eq!(logs(&config), ["https://log2b.example/", "https://other.example/"]);
        config["rekorTlogConfig"] = json!({"selector": "EXACT", "count": 2});
        assert_eq!(logs(&config).len(), 2);
    }

    #[test]
    fn what_cannot_be_satisfied_is_refused() {
        type Edit = fn(&mut Value);
        let table: [(&str, Edit, &str); 10] = [
            ("media type", |c| c["mediaType"] = "application/x".into(), "media type"),
            ("no authority", |c| c["caUrls"] = json!([]), "no usable service in `caUrls`"),
            ("no log", |c| c["rekorTlogUrls"] = json!([]), "no usable service in `rekorTlogUrls`"),
            ("no time", |c| c["tsaUrls"] = json!([]), "no usable service in `tsaUrls`"),
            (
                "ended",
                |c| c["tsaUrls"][0]["validFor"]["end"] = "2026-02-01T00:00:00Z".into(),
                "no usable service in `tsaUrls`",
            ),
            (
                "three of two",
                |c| c["rekorTlogConfig"] = json!({"selector": "EXACT", "count": 3}),
                "3 operators",
            ),
            ("no count", |c| c["tsaConfig"] = json!({"selector": "EXACT"}), "no count"),
            (
                "undefined",
                |c| c["tsaConfig"] = json!({"selector": "SERVICE_SELECTOR_UNDEFINED"}),
                "none of ALL",
            ),
            ("in the clear", |c| c["caUrls"][0]["url"] = "http://ca.example".into(), "neither"),
            ("a file", |c| c["caUrls"][0]["url"] = "file:///etc/passwd".into(), "neither"),
        ];
        choose(&good()).unwrap();
        for (name, edit, want) in table {
            let mut config = good();
            edit(&mut config);
            let error = choose(&config).expect_err(name).to_string();
            assert!(error.to_lowercase().contains(&want.to_lowercase()), "{name}: {error}");
        }
        assert!(Services::parse(&vec![b' '; 300_000]).is_err());
    }

    #[test]
    fn the_public_instances_are_usable() {
        let public = Services::public_good().unwrap().choose(now()).unwrap();
        assert_eq!(public.logs[0].api, LogApi::V1);
        let later = "2026-11-01T00:00:00Z".parse().unwrap();
        let staging = Services::staging().unwrap().choose(later).unwrap();
        assert_eq!(staging.logs[0].api, LogApi::V2);
    }

    #[test]
    fn plain_http_stays_on_the_machine() {
        for (url, want) in [
            ("https://ca.example", true),
            ("http://127.0.0.1:5", true),
            ("http://[::1]:5/", true),
            ("http://localhost/", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
            ("ftp://127.0.0.1/", false),
        ] {
            assert_eq!(is_private(&Url::parse(url).unwrap()), want, "{url}");
        }
    }
}
