//! Where GitHub is: its API, and the host that repositories are cloned from.

use std::{net::IpAddr, str::FromStr};

use http::Uri;
use pitlane_release::RepoName;

/// Longest address taken (bytes).
const LONGEST: usize = 300;

/// The address of GitHub's API: `https://api.github.com`, or `https://HOST/api/v3` of an
/// enterprise server. Plain HTTP is taken for loopback alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAddress(Uri);

/// Why an address is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{address}` is no address of a GitHub API: {reason}")]
pub struct AddressError {
    address: String,
    reason: &'static str,
}

impl Default for ApiAddress {
    fn default() -> Self {
        Self(Uri::from_static("https://api.github.com/"))
    }
}

/// Whether a host is this machine, so that nothing sent to it can be read on the way.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `scheme://host:port` of an address that may carry a token.
fn origin(uri: &Uri) -> Result<String, &'static str> {
    let scheme = uri.scheme_str().ok_or("it has no https://")?;
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it carries a login; give the token by a file");
    }
    match scheme {
        "https" => {}
        "http" if is_loopback(authority.host()) => {}
        _ => return Err("want https://; a token would be seen on the way"),
    }
    Ok(format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()))
}

impl FromStr for ApiAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |reason| AddressError { address: text.chars().take(LONGEST).collect(), reason };
        if text.len() > LONGEST {
            return Err(wrong("it is too long"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        let _ = origin(&uri).map_err(wrong)?;
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let host = uri.host().unwrap_or_default();
        let enterprise = uri.path().trim_end_matches('/') == "/api/v3";
        let bare = uri.path().trim_end_matches('/').is_empty();
        if !(enterprise || (bare && (host.starts_with("api.") || is_loopback(host)))) {
            return Err(wrong("want https://api.github.com, or https://HOST/api/v3"));
        }
        Ok(Self(uri))
    }
}

impl std::fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl ApiAddress {
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// The path and query of an address that GitHub gave, if it leads to the same place; a token
    /// must not follow to another.
    pub(crate) fn local(&self, address: &str) -> Result<String, String> {
        let elsewhere = || format!("it leads to `{}`", crate::error::tame(address));
        let uri: Uri = address.parse().map_err(|_| elsewhere())?;
        let same = origin(&uri).is_ok_and(|found| origin(&self.0).is_ok_and(|own| own == found));
        let path = uri.path_and_query().map(|path| path.as_str().to_owned());
        path.filter(|_| same).ok_or_else(elsewhere)
    }

    /// `scheme://host` that repositories are cloned from.
    pub(crate) fn clone_origin(&self) -> String {
        let own = origin(&self.0).unwrap_or_default();
        own.replacen("://api.", "://", 1)
    }

    /// Whether a clone URL is of this GitHub.
    pub fn is_of(&self, url: &str) -> bool {
        self.check_clone(url).is_ok()
    }

    /// The repository of a clone URL, if it is of this GitHub.
    pub fn repository_of(&self, url: &str) -> Option<RepoName> {
        self.check_clone(url).ok()?;
        let uri: Uri = url.parse().ok()?;
        let name = uri.path().trim_start_matches('/').trim_end_matches('/');
        name.strip_suffix(".git").unwrap_or(name).parse().ok()
    }

    /// The origin of a clone URL, if it is this GitHub's.
    pub(crate) fn check_clone(&self, url: &str) -> Result<String, String> {
        let want = self.clone_origin();
        let found = url.parse::<Uri>().ok().and_then(|uri| origin(&uri).ok());
        match found {
            Some(found) if found == want => Ok(want),
            _ => Err(format!("the URL is not below {want}/, so it gets no token")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_is_none() {
        for (good, clone) in [
            ("https://api.github.com", "https://github.com"),
            ("https://api.octo.ghe.com/", "https://octo.ghe.com"),
            ("https://git.example.com/api/v3", "https://git.example.com"),
            ("https://Git.example.com:8443/api/v3/", "https://git.example.com:8443"),
            ("http://127.0.0.1:7/api/v3", "http://127.0.0.1:7"),
            ("http://[::1]:7", "http://[::1]:7"),
        ] {
            let address: ApiAddress = good.parse().unwrap();
            assert_eq!(address.clone_origin(), clone);
            assert!(address.check_clone(&format!("{clone}/octo/car.git")).is_ok());
        }
        for bad in [
            "",
            "api.github.com",
            "http://api.github.com",
            "http://git.example.com/api/v3",
            "https://git.example.com",
            "https://git.example.com/api/v4",
            "https://octo:secret@api.github.com",
            "https://api.github.com?x=1",
            "ssh://api.github.com",
            &format!("https://api.github.com/{}", "x".repeat(300)),
        ] {
            assert!(bad.parse::<ApiAddress>().is_err(), "{bad}");
        }
        assert_eq!(ApiAddress::default().to_string(), "https://api.github.com");
    }

    #[test]
    fn tokens_do_not_follow_elsewhere() {
        let address: ApiAddress = "https://git.example.com/api/v3".parse().unwrap();
        assert_eq!(
            address.local("https://GIT.example.com/api/v3/repositories/1/tags?page=2").unwrap(),
            "/api/v3/repositories/1/tags?page=2"
        );
        for bad in [
            "https://git.example.com.evil.example/api/v3/x",
            "https://git.example.com:444/api/v3/x",
            "http://git.example.com/api/v3/x",
            "https://git.example.com@evil.example/x",
            "//evil.example/x",
            "/api/v3/x",
            "",
        ] {
            assert!(address.local(bad).is_err(), "{bad}");
        }
        for bad in
            ["https://evil.example/octo/car.git", "/srv/git/car.git", "git@git.example.com:x"]
        {
            assert!(address.check_clone(bad).is_err(), "{bad}");
        }
    }
}
