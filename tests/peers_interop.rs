//! The old way to sign, among the programs in use: cosign 2.5, cosign 3.1 and the policy of
//! container engines (skopeo 1.18, which reads `.sig` tags alone) agree on one image.

use crate::common::legacy::Clients;

#[test]
fn what_cosign_2_signs_the_others_accept_and_strangers_they_refuse() {
    let Some(clients) = Clients::start() else { return };
    let image = clients.sig_tag_signed_image("team/car", "theirs");
    let theirs = clients.path("theirs.pub");
    let stranger = clients.key_pair("stranger");
    let digest = image.split('@').nth(1).unwrap();
    for edition in [2, 3] {
        let said = clients.cosign_verifies(edition, &theirs, &image).ok();
        assert!(said.contains(digest), "{said}");
        let refused = clients.cosign_verifies(edition, &stranger, &image).fails();
        assert!(refused.contains("no matching signatures"), "{refused}");
    }
    clients.containers_policy_admits(&theirs, &image).ok();
    let refused = clients.containers_policy_admits(&stranger, &image).fails();
    assert!(refused.contains("cryptographic signature verification failed"), "{refused}");
    let bare = clients.image("team/bare");
    let refused = clients.containers_policy_admits(&theirs, &bare).fails();
    assert!(refused.contains("no signature exists"), "{refused}");
    // The signature names the repository; container engines mind it, cosign does not.
    let moved = format!("{}/other/car", clients.host);
    clients.crane(&["copy", &image, &format!("{moved}:v1")]).ok();
    let tags = clients.crane(&["ls", image.split('@').next().unwrap()]).ok();
    let tags: Vec<&str> = tags
        .lines()
        .filter(|tag| std::path::Path::new(tag).extension().is_some_and(|ending| ending == "sig"))
        .collect();
    assert_eq!(tags.len(), 3, "one for the index and one for each platform: {tags:?}");
    for tag in tags {
        let from = format!("{}:{tag}", image.split('@').next().unwrap());
        clients.crane(&["copy", &from, &format!("{moved}:{tag}")]).ok();
    }
    let moved = format!("{moved}@{digest}");
    clients.cosign_verifies(2, &theirs, &moved).ok();
    clients.cosign_verifies(3, &theirs, &moved).ok();
    let refused = clients.containers_policy_admits(&theirs, &moved).fails();
    assert!(refused.contains("is not accepted"), "{refused}");
}

/// Why a release may want the old way, too: who reads `.sig` tags alone sees no bundle.
#[test]
fn a_bundle_alone_is_no_signature_to_older_programs() {
    let Some(clients) = Clients::start() else { return };
    let image = clients.image("team/car");
    let theirs = clients.key_pair("theirs");
    let offline =
        ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
    let config = ["signing-config", "create", "--out", "offline.json"];
    clients.cosign3(&[&config[..], &offline[..]].concat()).ok();
    let sign = ["sign", "-y", "--recursive", "--signing-config", "offline.json"];
    clients.cosign3(&[&sign[..], &["--key", "theirs.key", &image]].concat()).ok();
    clients.cosign_verifies(3, &theirs, &image).ok();
    let refused = clients.cosign_verifies(2, &theirs, &image).fails();
    assert!(refused.contains("no signatures found"), "{refused}");
    let refused = clients.containers_policy_admits(&theirs, &image).fails();
    assert!(refused.contains("no signature exists"), "{refused}");
    // Both beside each other suit everybody.
    clients.sig_tag_sign("theirs", &image);
    clients.cosign_verifies(2, &theirs, &image).ok();
    clients.cosign_verifies(3, &theirs, &image).ok();
    clients.containers_policy_admits(&theirs, &image).ok();
}
