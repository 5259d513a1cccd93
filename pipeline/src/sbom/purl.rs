//! Package URLs: names of packages that scanners look up.
//!
//! Source: package-url specification (ECMA-427): everything outside of letters, digits and
//! `.-_~` is percent-encoded, qualifiers are sorted by name.

use std::{collections::BTreeMap, fmt::Write as _};

/// `pkg:TYPE/[NAMESPACE/]NAME@VERSION?qualifiers`.
pub(super) fn purl(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    version: &str,
    qualifiers: &BTreeMap<String, String>,
) -> String {
    let mut text = format!("pkg:{kind}/");
    if let Some(namespace) = namespace {
        let _ = write!(text, "{}/", encoded(namespace));
    }
    let _ = write!(text, "{}@{}", encoded(name), encoded(version));
    for (number, (key, value)) in qualifiers.iter().enumerate() {
        let _ = write!(text, "{}{key}={}", if number == 0 { '?' } else { '&' }, encoded(value));
    }
    text
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        // `:` is left as it is since the specification of 2025.
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_scanners_expect() {
        let deb = [("arch", "amd64"), ("distro", "bookworm")];
        let deb = deb.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let none = BTreeMap::new();
        for (got, want) in [
            (
                purl("deb", Some("debian"), "libstdc++6", "12.2.0-14+deb12u1", &deb),
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=bookworm",
            ),
            (purl("cargo", None, "serde", "1.0.0", &none), "pkg:cargo/serde@1.0.0"),
            (purl("oci", None, "car", "sha256:ab", &none), "pkg:oci/car@sha256:ab"),
        ] {
            assert_eq!(got, want);
        }
    }
}
