//! `.sig` tags across programs: we admit what cosign 2 signed, and cosign 2 and the policy of
//! container engines accept what we sign where the pipeline says `sign.sigTags: true`.

use std::fs;

use crate::common::{
    is_root, json as parse,
    lane::{Lane, lapless, quick},
    legacy::Clients,
    repository, skip, swap,
};

#[test]
fn we_admit_what_cosign_2_signed() {
    if !is_root() {
        return skip("the lane is tested as root");
    }
    let lane = Lane::quick();
    let Some(clients) = Clients::of(&lane) else { return };
    let image = clients.sig_tag_signed_image("team/by-hand", "theirs");
    fs::copy(clients.path("theirs.pub"), lane.path("state/keys/theirs.pub")).unwrap();
    let policy = repository().join("policies/signed.yaml");
    let verdict = parse(lane.check_by(&policy, "theirs", &image, &[]).ok());
    assert_eq!(verdict["admitted"], true, "{verdict:#}");
    let refused = |key: &str, image: &str, code: &str| {
        let ran = lane.check_by(&policy, key, image, &[]);
        let verdict = parse(&ran.stdout);
        assert_eq!(ran.code, Some(10), "{verdict:#}");
        assert_eq!(verdict["refusal"]["code"], code, "{verdict:#}");
    };
    refused("release", &image, "wrong-signer");
    refused("theirs", &clients.image("team/bare"), "unsigned");
    // A second signature beside the first takes nothing away, and speaks for its own key.
    clients.key_pair("second");
    fs::copy(clients.path("second.pub"), lane.path("state/keys/second.pub")).unwrap();
    refused("second", &image, "wrong-signer");
    clients.sig_tag_sign("second", &image);
    for key in ["theirs", "second"] {
        let verdict = parse(lane.check_by(&policy, key, &image, &[]).ok());
        assert_eq!(verdict["admitted"], true, "{key}: {verdict:#}");
    }
}

#[test]
fn older_programs_accept_our_releases() {
    if !is_root() {
        return skip("the lane is tested as root");
    }
    let legacy = |text: &str| swap(&quick(text), "    builder:", "    sigTags: true\n    builder:");
    let mut lane = Lane::new(legacy, lapless);
    lane.start();
    let stranger = lane.keys("stranger");
    let index = lane.release("v1.0.0");
    let Some(clients) = Clients::of(&lane) else { return };
    let ours = lane.path("state/keys/release.pub");
    let children =
        ["amd64", "arm64"].map(|arch| format!("{}@{}", lane.images(), lane.platform(&index, arch)));
    for image in children.iter().chain([&index]) {
        let said = clients.cosign_verifies(2, &ours, image).ok();
        assert!(said.contains(image.split('@').nth(1).unwrap()), "{said}");
        clients.cosign_verifies(2, &stranger, image).fails();
        clients.cosign_verifies(3, &ours, image).ok();
        clients.containers_policy_admits(&ours, image).ok();
        let refused = clients.containers_policy_admits(&stranger, image).fails();
        assert!(refused.contains("cryptographic signature verification failed"), "{refused}");
    }
}
