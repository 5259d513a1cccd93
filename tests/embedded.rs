//! The registry within the service: who may read and delete is what its configuration says.

use std::fs;

use serde_json::{Value, json};

use crate::common::{
    http,
    lane::{Lane, lapless, quick},
};

/// Status of a request about the tag of a release; with the service's own token.
fn asked(lane: &Lane, method: &str, tag: &str, login: bool) -> u16 {
    let token = fs::read_to_string(lane.path("state/registry-token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let accept = ("Accept", "application/vnd.oci.image.index.v1+json");
    let headers = [accept, ("Authorization", bearer.as_str())];
    let headers = if login { &headers[..] } else { &headers[..1] };
    let path = format!("/v2/team/donkeycar/manifests/{tag}");
    http::send(method, &lane.registry, &path, headers, b"").unwrap().status
}

#[test]
fn reading_and_deleting_are_rights_where_the_configuration_says_so() {
    let mut open = Lane::new(quick, lapless);
    open.start();
    open.release("v1.0.0");
    assert_eq!(asked(&open, "GET", "v1.0.0", false), 200);
    assert_eq!(asked(&open, "DELETE", "v1.0.0", true), 405, "off unless it is asked for");

    let mut closed = Lane::new(quick, lapless);
    let file = closed.path("config/service.yaml");
    let mut service: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    service["registry"] = json!({ "private": true, "allowDelete": true });
    fs::write(&file, service.to_string()).unwrap();
    closed.start();
    closed.release("v1.0.0");
    assert_eq!(asked(&closed, "GET", "v1.0.0", false), 401);
    assert_eq!(asked(&closed, "GET", "v1.0.0", true), 200);
    assert_eq!(asked(&closed, "DELETE", "v1.0.0", false), 401);
    assert_eq!(asked(&closed, "DELETE", "v1.0.0", true), 202);
    assert_eq!(asked(&closed, "GET", "v1.0.0", true), 404);
}
