//! One tag: followed to its commit, and whether it counts as signed.

use pitlane_github::{Problem, Unsigned};
use pitlane_github_lab::{Fault, Rule, Signature};

use crate::common::{Setup, tag};

#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_tags_lead_to_their_commit() {
    let setup = Setup::new();
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    let client = setup.client();
    let light = client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().unwrap();
    assert_eq!((light.commit.as_str(), light.object.as_ref()), (commit, None));
    assert_eq!(light.held().as_str(), commit);

    let object = lab.tag_object("octo/car", "v2", commit, Signature::None).unwrap();
    let mut deep = object.clone();
    for _ in 0..7 {
        deep = lab.tag_object("octo/car", "deep", &deep, Signature::None).unwrap();
    }
    let deeper = lab.tag_object("octo/car", "deeper", &deep, Signature::None).unwrap();
    let pushed = [("v2", Some(object.as_str())), ("deep", Some(&deep)), ("deeper", Some(&deeper))];
    lab.push_tags("octo/car", &pushed).unwrap();
    let annotated = client.resolve_tag(&setup.repo, &tag("v2")).await.unwrap().unwrap();
    assert_eq!(annotated.commit.as_str(), commit);
    assert_eq!(annotated.held().as_str(), object);
    // Eight objects are followed, and the first is the one that counts.
    let nested = client.resolve_tag(&setup.repo, &tag("deep")).await.unwrap().unwrap();
    assert_eq!((nested.commit.as_str(), nested.held().as_str()), (commit, deep.as_str()));
    let error = client.resolve_tag(&setup.repo, &tag("deeper")).await.unwrap_err();
    assert!(error.to_string().contains("8 times over"), "{error}");
    lab.set_endless_tags(true);
    let error = client.resolve_tag(&setup.repo, &tag("v2")).await.unwrap_err();
    assert!(error.to_string().contains("8 times over"), "{error}");
    lab.set_endless_tags(false);

    let blob = lab.blob("octo/car", b"no commit").unwrap();
    let of_blob = lab.tag_object("octo/car", "of-blob", &blob, Signature::None).unwrap();
    lab.push_tags("octo/car", &[("blob", Some(&blob)), ("of-blob", Some(&of_blob))]).unwrap();
    for name in ["blob", "of-blob"] {
        let error = client.resolve_tag(&setup.repo, &tag(name)).await.unwrap_err();
        assert!(error.to_string().contains("not to a commit"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_not_there_differs_from_a_repository_that_is_not_seen() {
    let setup = Setup::new();
    let client = setup.client();
    assert_eq!(client.resolve_tag(&setup.repo, &tag("v9")).await.unwrap(), None);
    let stranger = setup.lab.token("contents=read", &["octo/else"]);
    let stranger = pitlane_github::Token::new(&stranger, "x").unwrap();
    let settings = setup.settings(pitlane_github::Credentials::Token(stranger));
    let stranger = pitlane_github::Client::new(settings).unwrap();
    let error = stranger.resolve_tag(&setup.repo, &tag("v9")).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("contents: read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_something_else_are_refused() {
    let setup = Setup::new();
    let client = setup.client();
    let commit = &setup.commit;
    for (path, says) in [
        (
            "/git/ref/",
            format!(r#"{{"ref":"refs/tags/v2","object":{{"sha":"{commit}","type":"commit"}}}}"#),
        ),
        (
            "/git/ref/",
            r#"{"ref":"refs/tags/v1.0.0","object":{"sha":"main","type":"commit"}}"#.to_owned(),
        ),
        (
            "/git/ref/",
            format!(
                r#"[{{"ref":"refs/tags/v1.0.0","object":{{"sha":"{commit}","type":"commit"}}}}]"#
            ),
        ),
        (
            "/git/ref/",
            format!(r#"{{"ref":"refs/tags/v1.0.0","object":{{"sha":"{commit}","type":"tree"}}}}"#),
        ),
    ] {
        setup.lab.rule(Rule::once("GET", path, Fault::Says(says.clone())));
        let error = client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err();
        assert!(matches!(error.problem, Problem::Unreadable(_)), "{says}: {error}");
    }
    let object = setup.lab.tag_object("octo/car", "v2", commit, Signature::None).unwrap();
    setup.lab.push_tags("octo/car", &[("v2", Some(&object))]).unwrap();
    let says =
        format!(r#"{{"sha":"{commit}","tag":"v2","object":{{"sha":"{commit}","type":"commit"}}}}"#);
    setup.lab.rule(Rule::once("GET", "/git/tags/", Fault::Says(says)));
    let error = client.resolve_tag(&setup.repo, &tag("v2")).await.unwrap_err();
    assert!(error.to_string().contains("it is about the object"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_verified_object_of_this_name_is_a_signed_tag() {
    let setup = Setup::new();
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    let make = |name, signature| lab.tag_object("octo/car", name, commit, signature).unwrap();
    let good = make("good", Signature::Says(true, "valid"));
    let plain = make("plain", Signature::None);
    let unknown = make("unknown", Signature::Says(false, "unknown_key"));
    // Verified at the time, revoked since.
    let odd = make("odd", Signature::Says(true, "expired_key"));
    let tags = [("good", &good), ("renamed", &good), ("plain", &plain), ("unknown", &unknown)];
    for (name, object) in tags.into_iter().chain([("odd", &odd)]) {
        lab.push_tags("octo/car", &[(name, Some(object))]).unwrap();
    }
    let client = setup.client();
    let judge = async |name: &str| {
        let found = client.resolve_tag(&setup.repo, &tag(name)).await.unwrap().unwrap();
        found.require_signature().map(|object| object.signature.clone())
    };
    let said = judge("good").await.unwrap();
    assert!(said.signature.unwrap().starts_with("-----BEGIN PGP SIGNATURE-----"));
    assert!(said.payload.unwrap().contains(&format!("object {commit}\ntype commit\ntag good\n")));
    let text = "v1.0.0".to_owned();
    assert_eq!(judge("v1.0.0").await, Err(Unsigned::Lightweight(text)));
    let other = Unsigned::OtherName { tag: "renamed".to_owned(), name: "good".to_owned() };
    assert_eq!(judge("renamed").await, Err(other));
    for (name, reason) in
        [("plain", "unsigned"), ("unknown", "unknown_key"), ("odd", "expired_key")]
    {
        let want = Unsigned::NotVerified { tag: name.to_owned(), reason: reason.to_owned() };
        assert_eq!(judge(name).await, Err(want));
    }
}
