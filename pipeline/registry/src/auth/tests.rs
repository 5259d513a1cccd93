//! Who may do what: by token, by pass, by nobody.

use super::*;

const TOKEN: &str = "0123456789abcdef-token";
const CI: &str = "ci-token-0123456789";

fn auth() -> Auth {
    let hash = hex::encode(Sha256::digest(CI));
    let access = Access::parse(&format!(
        "apiVersion: pitlane.dev/v1\nkind: RegistryTokens\nanonymousPull: [public/*]\n\
         tokens: [{{name: ci, sha256: {hash}, rights: [push], repositories: [cars/*], \
         expires: 2027-01-01T00:00:00Z}}]"
    ));
    Auth::new(Some(PushToken::new(&format!("{TOKEN}\n")).unwrap()), access.unwrap(), true)
}

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
}

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

fn known(grant: usize) -> Caller {
    Caller::Known { grant, scopes: None }
}

#[test]
fn callers() {
    let auth = auth();
    assert_eq!(auth.caller(&HeaderMap::new(), 0), Caller::Anonymous);
    for (header, want) in [
        (basic(&format!("me:{TOKEN}")), known(0)),
        (basic(&format!(":{TOKEN}")), known(0)),
        (basic(&format!("me:{CI}")), known(1)),
        (format!("bearer {TOKEN}"), known(0)),
        ("Bearer anonymous".to_owned(), Caller::Anonymous),
        (basic(":"), Caller::Anonymous),
        (basic("me:wrong"), Caller::Wrong),
        (basic(&format!("me:{TOKEN}x")), Caller::Wrong),
        (basic(&format!("me:{}", &TOKEN[1..])), Caller::Wrong),
        (basic(TOKEN), Caller::Wrong),
        (format!("Bearer {}", hex::encode(Sha256::digest(CI))), Caller::Wrong),
        ("Basic ???".to_owned(), Caller::Wrong),
        ("Digest x".to_owned(), Caller::Wrong),
        (TOKEN.to_owned(), Caller::Wrong),
        ("Bearer ".to_owned(), Caller::Wrong),
    ] {
        assert_eq!(auth.caller(&headers(&header), 0), want, "{header}");
    }
    // Out of date.
    let late = auth.caller(&headers(&format!("Bearer {CI}")), 1_798_761_600);
    assert_eq!(late, Caller::Wrong);
}

#[test]
fn rights_by_repository() {
    let auth = auth();
    let may = |caller: &Caller, right, repo: &str| {
        auth.may(caller, right, &Repo::parse(repo).unwrap(), "").is_ok()
    };
    for (caller, right, repo, want) in [
        (Caller::Anonymous, Right::Pull, "public/a", true),
        (Caller::Anonymous, Right::Pull, "cars/a", false),
        (Caller::Anonymous, Right::Push, "public/a", false),
        (Caller::Wrong, Right::Pull, "public/a", false),
        (known(0), Right::Delete, "anything", true),
        (known(1), Right::Push, "cars/a", true),
        (known(1), Right::Pull, "cars/a", true),
        (known(1), Right::Delete, "cars/a", false),
        (known(1), Right::Push, "public/a", false),
        (known(1), Right::Pull, "public/a", true),
        (known(1), Right::Pull, "secret", false),
    ] {
        assert_eq!(may(&caller, right, repo), want, "{caller:?} {right:?} {repo}");
    }
    assert!(auth.reads_all(&known(0)) && !auth.reads_all(&known(1)));
    assert!(!auth.reads_all(&Caller::Anonymous));
    // Without a token nobody pushes, whatever is sent.
    let closed = Auth::new(None, Access::default(), true);
    assert_eq!(closed.caller(&headers(&format!("Bearer {TOKEN}")), 0), Caller::Wrong);
    let repo = Repo::parse("a").unwrap();
    assert!(closed.may(&Caller::Anonymous, Right::Push, &repo, "").is_err());
    assert!(closed.may(&Caller::Anonymous, Right::Pull, &repo, "").is_ok());
}

#[test]
fn a_pass_is_for_its_scopes_and_dies_with_its_token() {
    let auth = auth();
    let scopes = Scopes::parse(std::iter::once("repository:cars/a:pull,push,delete")).unwrap();
    let pass = auth.hand_out(&known(1), &scopes, 1000).unwrap();
    let caller = auth.caller(&headers(&format!("Bearer {pass}")), 1000);
    let may = |right, repo: &str| {
        auth.may(&caller, right, &Repo::parse(repo).unwrap(), "http://r/token").is_ok()
    };
    assert!(may(Right::Push, "cars/a") && !may(Right::Push, "cars/b"));
    // Asked for, but the token never had it.
    assert!(!may(Right::Delete, "cars/a"));
    assert!(auth.hand_out(&caller, &scopes, 1000).is_err(), "a pass for a pass");
    let token = PushToken::new(TOKEN).unwrap();
    let without = Auth::new(Some(token), Access::default(), true);
    assert_eq!(without.caller(&headers(&format!("Bearer {pass}")), 1000), Caller::Wrong);
}

#[test]
fn tokens_are_checked_and_not_shown() {
    for bad in ["", "short", "with space 0123456789", "ümlaut-0123456789-0123"] {
        assert!(PushToken::new(bad).is_err(), "{bad}");
    }
    assert!(!format!("{:?}", auth()).contains(TOKEN));
}

#[test]
fn realms_do_not_break_out_of_the_header() {
    let host = |host: &str| realm(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
    assert_eq!(host("127.0.0.1:5000"), "http://127.0.0.1:5000/token");
    assert_eq!(host("[::1]:5000"), "http://[::1]:5000/token");
    assert_eq!(host("a\",realm=\"http://evil"), NO_REALM);
    assert_eq!(realm(&HeaderMap::new()), NO_REALM);
}
