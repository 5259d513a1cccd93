//! Tokens files: what is understood, and what is refused.

use super::*;

const GOOD: &str = "\
apiVersion: pitlane.dev/v1
kind: RegistryTokens
anonymousPull: [public/*]
tokens:
  - name: ci
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    rights: [push]
    repositories: [cars/*, tools]
    expires: 2027-01-01T00:00:00Z
";

#[test]
fn a_tokens_file() {
    let access = Access::parse(GOOD).unwrap();
    let grant = &access.grants[0];
    let may = |right, name: &str| grant.allows(right, &Repo::parse(name).unwrap());
    assert!(may(Right::Push, "cars/donkey") && may(Right::Pull, "cars/a/b"));
    assert!(may(Right::Push, "tools") && !may(Right::Delete, "tools"));
    for other in ["cars", "carsx/a", "tools/a", "public/a"] {
        assert!(!may(Right::Pull, other), "{other}");
    }
    assert!(!grant.reads_all());
    assert!(grant.expired(1_798_761_600) && !grant.expired(1_798_761_599));
    assert_eq!(access.anonymous, Some(vec![Pattern::Below("public/".into())]));
}

/// The example is what its page says.
#[test]
fn the_example_parses() {
    let access = Access::parse(include_str!("../../../../examples/registry/tokens.yaml")).unwrap();
    let names: Vec<_> = access.grants.iter().map(|grant| grant.name.as_str()).collect();
    assert_eq!(names, ["ci", "garage", "janitor"]);
    let ci: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        "ci-example-token-change-me",
    ))
    .into();
    assert_eq!(access.grants[0].hash, ci);
}

#[test]
fn what_is_refused() {
    for (what, from, to, word) in [
        ("another version", "/v1", "/v2", "pitlane.dev/v2"),
        ("another kind", "RegistryTokens", "Tokens", "`Tokens`"),
        ("an unknown field", "rights: [push]", "rights: [push]\n    admin: true", "admin"),
        ("an unknown right", "[push]", "[admin]", "admin"),
        ("no rights", "[push]", "[]", "no rights"),
        ("no repositories", "[cars/*, tools]", "[]", "no repositories"),
        ("a bad pattern", "tools", "Tools", "Tools"),
        ("a star inside", "tools", "to*ls", "to*ls"),
        ("a star without a slash", "tools", "tools*", "tools*"),
        ("a way out", "tools", "../*", "../*"),
        ("a short hash", "e3b0", "e3", "sha256"),
        ("upper case", "e3b0", "E3B0", "sha256"),
        ("a bad name", "name: ci", "name: c i", "name of a token"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{what}");
        let error = Access::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{what}: {error}");
    }
    let (_, token) = GOOD.split_once("tokens:\n").unwrap();
    let error = Access::parse(&format!("{GOOD}{token}")).unwrap_err().to_string();
    assert!(error.contains("twice"), "{error}");
}
