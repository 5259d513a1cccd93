//! Image names as Kubernetes has them: short ones mean Docker Hub, and no tag means `latest`.
//!
//! Source: distribution's reference normalisation, which kubelet, containerd and CRI-O use. Names
//! for policies are policy-controller's (`index.docker.io/library/nginx`); names that are written
//! into Pods are those which every runtime pulls (`docker.io/library/nginx`).

use pitlane_release::{Digest, ImageRef, reference::ReferenceError};

/// Docker Hub, as policies name it; registry requests go there as well.
const HUB: &str = "index.docker.io";
/// Docker Hub, as container runtimes name it.
const HUB_PULLED: &str = "docker.io";
/// Where Docker Hub keeps images with a name of one part.
const LIBRARY: &str = "library";

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
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (HUB_PULLED, text),
        };
        let mut name: ImageRef = match registry {
            HUB | HUB_PULLED if path.contains('/') => format!("{HUB}/{path}").parse()?,
            HUB | HUB_PULLED => format!("{HUB}/{LIBRARY}/{path}").parse()?,
            _ => text.parse()?,
        };
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
