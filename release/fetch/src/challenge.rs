//! `Challenge`: how a registry wants to be logged in to, as its `WWW-Authenticate` says it.
//!
//! Source: RFC 9110, 11.6.1; distribution's token authentication specification.

/// A challenge that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token of this server.
    Bearer {
        /// The token server's address, as it stands there.
        realm: String,
        /// What the registry calls itself to it.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a challenge; none when it is of another kind, or names no token server.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let realm = parameter(parameters, "realm")?;
        let service = parameter(parameters, "service").map(str::to_owned);
        Some(Self::Bearer { realm: realm.to_owned(), service })
    }
}

/// One `name="value"` of a challenge.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = parameters;
    loop {
        let (key, tail) = rest.split_once("=\"")?;
        let (value, tail) = tail.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let text = r#"Bearer realm="https://auth.example/token",service="r.example",scope="a,b""#;
        let want = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("r.example".into()),
        };
        assert_eq!(Challenge::parse(text), Some(want));
        assert_eq!(Challenge::parse("basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Basic"), Some(Challenge::Basic));
        for none in ["", "Bearer", "Bearer realm=", "Bearer service=\"x\"", "Digest realm=\"x\""] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }

    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://auth.example/token",service="r.example", scope="a,b""#;
        assert_eq!(parameter(text, "realm"), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "service"), Some("r.example"));
        assert_eq!(parameter(text, "scope"), Some("a,b"));
        assert_eq!(parameter(text, "missing"), None);
        assert_eq!(parameter("=\"", "realm"), None);
    }
}
