//! Image names as Kubernetes has them: short ones mean Docker Hub, and no tag means `latest`.
//!
//! Source: distribution's reference normalisation, which kubelet, containerd and CRI-O use. Names
//! for policies are policy-controller's (`index.docker.io/library/nginx`); names that are written
//! into Pods are those which every runtime pulls (`docker.io/library/nginx`).
//!
//! A registry has one spelling here. Runtimes find it under others as well (upper case, the port
//! that HTTPS has anyway, an address with zeros), and under each of those a policy's pattern would
//! not see its image: what can be told is written as one, the rest is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use pitlane_release::{Digest, ImageRef, reference::ReferenceError};

/// Docker Hub, as policies name it; registry requests go there as well.
const HUB: &str = "index.docker.io";
/// Docker Hub, as container runtimes name it.
const HUB_PULLED: &str = "docker.io";
/// Every name under which Docker Hub gives the same images.
const HUBS: [&str; 4] = [HUB, HUB_PULLED, "registry-1.docker.io", "registry.hub.docker.com"];
/// The port that a registry has when none is written.
const HTTPS: &str = ":443";
/// Where Docker Hub keeps images with a name of one part.
const LIBRARY: &str = "library";

/// Why a text is no image that a runtime should be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It breaks the grammar.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A registry that policies know under another spelling.
    #[error(
        "`{0}` is no registry in its one spelling: write lower case, a port without zeros before \
         it, and an IP address in its usual form"
    )]
    Spelling(String),
}

/// An image as an object names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeImage {
    /// What policies and registries are asked by; it has a tag, a digest, or both.
    name: ImageRef,
}

impl KubeImage {
    /// Reads an image of a container.
    ///
    /// # Errors
    /// When no runtime should be given it.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (registry(first)?, rest),
            _ => (HUB, text),
        };
        let name = match host {
            HUB if !path.contains('/') => format!("{HUB}/{LIBRARY}/{path}"),
            _ => format!("{host}/{path}"),
        };
        let mut name: ImageRef = name.parse()?;
        if name.tag.is_none() && name.digest.is_none() {
            name.tag = Some("latest".into());
        }
        Ok(Self { name })
    }

    /// The name that policies know it by.
    pub const fn name(&self) -> &ImageRef {
        &self.name
    }

    /// Its digest, when it is pinned.
    pub const fn digest(&self) -> Option<&Digest> {
        self.name.digest.as_ref()
    }

    /// The same image at this digest, under its whole name.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { name: ImageRef { digest: Some(digest), ..self.name.clone() } }
    }

    /// As it is written into a Pod. The registry is always there, because a short name means
    /// another registry where the runtime is set up so (CRI-O's unqualified search registries).
    pub fn pulled(&self, keep_tag: bool) -> String {
        let mut name = self.name.clone();
        if !keep_tag && name.digest.is_some() {
            name.tag = None;
        }
        let text = name.to_string();
        match text.strip_prefix(HUB) {
            Some(rest) if rest.starts_with('/') => format!("{HUB_PULLED}{rest}"),
            _ => text,
        }
    }
}

/// A registry in its one spelling: without HTTPS' own port, Docker Hub as policies name it.
///
/// # Errors
/// When the host is spelled in a way that could be told from its usual one only by asking it.
pub fn registry(text: &str) -> Result<&str, ImageError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|p| !p.starts_with('0') && p.bytes().all(|b| b.is_ascii_digit()));
    if !is_usual(host) || !port_ok {
        return Err(ImageError::Spelling(text.chars().take(120).collect()));
    }
    // A host of one word has no other spelling: without a port it would be a path at Docker Hub.
    let alone = host.contains(['.', ':']) || host == "localhost";
    let one = if alone { text.strip_suffix(HTTPS).unwrap_or(text) } else { text };
    Ok(if HUBS.contains(&one) { HUB } else { one })
}

/// Whether a host has the one spelling that it is known by. What ends in a number is an address
/// to some resolvers (`127.1`, `0x7f.1`), so it must be one, with four numbers.
fn is_usual(host: &str) -> bool {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let usual = |a: Ipv6Addr| a.to_string() == address && a.to_ipv4_mapped().is_none();
        return address.parse().is_ok_and(usual);
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    !number || host.parse::<Ipv4Addr>().is_ok()
}

/// Whether a pattern's registry is spelled as no image's is here, so that it guards nothing.
pub fn is_misspelled(pattern: &str) -> bool {
    let Some((host, _)) = pattern.split_once('/') else { return false };
    if host.contains('*') {
        return host.bytes().any(|byte| byte.is_ascii_uppercase()) || host.ends_with(HTTPS);
    }
    host.contains(['.', ':']) && registry(host) != Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn short_names_are_docker_hubs() {
        for (written, name, pulled) in [
            ("nginx", "index.docker.io/library/nginx:latest", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "index.docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
            ("team/car:v1", "index.docker.io/team/car:v1", "docker.io/team/car:v1"),
            (
                "library/redis",
                "index.docker.io/library/redis:latest",
                "docker.io/library/redis:latest",
            ),
            (
                "docker.io/nginx",
                "index.docker.io/library/nginx:latest",
                "docker.io/library/nginx:latest",
            ),
            ("index.docker.io/a/b:1", "index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("localhost/car:v1", "localhost/car:v1", "localhost/car:v1"),
            ("localhost:5000/car", "localhost:5000/car:latest", "localhost:5000/car:latest"),
            ("r.example/a/b:v1", "r.example/a/b:v1", "r.example/a/b:v1"),
            (
                "index.docker.io.evil.example/a:1",
                "index.docker.io.evil.example/a:1",
                "index.docker.io.evil.example/a:1",
            ),
        ] {
            let image = KubeImage::parse(written).unwrap();
            assert_eq!(image.name().to_string(), name, "{written}");
            assert_eq!(image.pulled(true), pulled, "{written}");
            assert!(image.digest().is_none());
            // What we write names the same image: pinning twice changes nothing.
            let pinned = image.at(D.parse().unwrap());
            assert_eq!(pinned.pulled(true), format!("{pulled}@{D}"));
            assert_eq!(KubeImage::parse(&pinned.pulled(true)).unwrap(), pinned, "{written}");
            let bare = KubeImage::parse(&pinned.pulled(false)).unwrap();
            assert!(bare.name().tag.is_none() && bare.digest() == pinned.digest(), "{written}");
            assert_eq!(bare.name().repository, image.name().repository);
        }
    }

    #[test]
    fn pinned_names_get_no_tag() {
        let image = KubeImage::parse(&format!("nginx@{D}")).unwrap();
        assert_eq!(image.name().to_string(), format!("index.docker.io/library/nginx@{D}"));
        let both = KubeImage::parse(&format!("r.example/car:v1@{D}")).unwrap();
        assert_eq!(both.pulled(true), format!("r.example/car:v1@{D}"));
        assert_eq!(both.pulled(false), format!("r.example/car@{D}"));
    }

    #[test]
    fn one_registry_has_one_spelling() {
        for (written, name) in [
            ("r.example:443/a/b:1", "r.example/a/b:1"),
            ("r.example:4430/a/b:1", "r.example:4430/a/b:1"),
            ("127.0.0.1:443/a/b:1", "127.0.0.1/a/b:1"),
            ("[::1]:443/a/b:1", "[::1]/a/b:1"),
            ("[::1]:5000/a/b:1", "[::1]:5000/a/b:1"),
            // Without its port this would be a path at Docker Hub.
            ("registry:443/a/b:1", "registry:443/a/b:1"),
            ("registry-1.docker.io/library/nginx:1", "index.docker.io/library/nginx:1"),
            ("registry-1.docker.io/a/b:1", "index.docker.io/a/b:1"),
            ("registry.hub.docker.com/a/b:1", "index.docker.io/a/b:1"),
            ("docker.io:443/a/b:1", "index.docker.io/a/b:1"),
            ("index.docker.io:443/nginx:1", "index.docker.io/library/nginx:1"),
        ] {
            assert_eq!(KubeImage::parse(written).unwrap().name().to_string(), name, "{written}");
        }
        for bad in [
            "R.example/a",
            "r.Example:443/a",
            "DOCKER.IO/a/b",
            "LOCALHOST:5000/a",
            "r.example:0443/a",
            "r.example:+443/a",
            "r.example./a",
            "127.1/a",
            "127.0.0.01/a",
            "127.0.0.0x1/a",
            "2130706433:5000/a",
            "0x7f000001:5000/a",
            "[0:0::1]/a",
            "[::FFFF]/a",
            "[::ffff:127.0.0.1]/a",
        ] {
            let error = KubeImage::parse(bad).unwrap_err();
            assert!(matches!(error, ImageError::Spelling(_)), "{bad}: {error}");
        }
    }

    #[test]
    fn patterns_that_no_image_has() {
        for (pattern, bad) in [
            ("r.example/**", false),
            ("*.example/**", false),
            ("**", false),
            ("*/*", false),
            ("team/car", false),
            ("index.docker.io/library/*", false),
            ("r.example:5000/a*", false),
            ("127.0.0.1:5000/**", false),
            ("registry:443/**", false),
            ("r.example:443/**", true),
            ("*:443/**", true),
            ("R.example/**", true),
            ("*.Example/**", true),
            ("docker.io/**", true),
            ("registry-1.docker.io/a/*", true),
        ] {
            assert_eq!(is_misspelled(pattern), bad, "{pattern}");
        }
    }

    #[test]
    fn what_no_runtime_should_get() {
        for bad in [
            "",
            " ",
            "nginx ",
            " nginx",
            "Nginx",
            "nginx:",
            "nginx:.x",
            "/nginx",
            "a//b",
            "nginx@",
            "nginx@sha256:00",
            "nginx@sha512:00",
            "http://r.example/a",
            "r.example/",
            "a/../b",
            "Team/car",
            "nginx\n",
            "docker.io/",
            "r.example:99999/a",
            "r.example:/a",
            "[::1/a",
            "a:b:c",
        ] {
            assert!(KubeImage::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC{0,60}") {
            if let Ok(image) = KubeImage::parse(&text) {
                proptest::prop_assert_eq!(KubeImage::parse(&image.pulled(true)).unwrap(), image);
            }
        }
    }
}
