//! The manifests in examples/kubernetes say what the program knows.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use pitlane_release::{Policy, yaml};
use pitlane_verifier::webhook::pods::KINDS;
use serde_json::{Value, json};

use crate::common::{admission::certify, copy, peer, repository, run};

const MAX: usize = 64 * 1024;

fn read(file: &str) -> Value {
    let path = repository().join("examples/kubernetes").join(file);
    yaml::read(&fs::read_to_string(&path).unwrap(), MAX)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a webhook's rules name, as group/resource.
fn ruled(webhook: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in webhook["rules"].as_array().unwrap() {
        assert_eq!(rule["operations"], json!(["CREATE", "UPDATE"]), "{rule}");
        for resource in rule["resources"].as_array().unwrap() {
            let group = rule["apiGroups"][0].as_str().unwrap();
            found.insert(format!("{group}/{}", resource.as_str().unwrap()));
        }
    }
    found
}

#[test]
fn both_webhooks_see_every_kind_and_fail_closed() {
    let mut known: BTreeSet<String> =
        KINDS.iter().map(|kind| format!("{}/{}", kind.groups[0], kind.resource)).collect();
    // Debug containers come by a subresource.
    known.insert("/pods/ephemeralcontainers".into());
    for (file, path) in [("mutating", "/mutate"), ("validating", "/validate")] {
        let configuration = read(&format!("base/{file}.yaml"));
        let webhooks = configuration["webhooks"].as_array().unwrap();
        assert_eq!(webhooks.len(), 1, "the patches for the authority know of one");
        let webhook = &webhooks[0];
        assert_eq!(ruled(webhook), known, "{file}");
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["sideEffects"], "None");
        assert_eq!(webhook["matchPolicy"], "Equivalent");
        assert_eq!(webhook["clientConfig"]["service"]["path"], path);
        // The program's own deadline is 8 s.
        assert_eq!(webhook["timeoutSeconds"], 10);
        let excluded = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(excluded["operator"], "NotIn");
        let own = read("base/namespace.yaml")["metadata"]["name"].clone();
        assert_eq!(excluded["values"], json!(["kube-system", own]), "{file}");
    }
    let mut less = read("base/validating.yaml")["webhooks"][0].clone();
    less["rules"].as_array_mut().unwrap().pop();
    assert_ne!(ruled(&less), known, "a rule that is missing would be seen");
}

#[test]
fn every_excluded_namespace_is_told() {
    let page = fs::read_to_string(repository().join("docs/admission.md")).unwrap();
    let told = |name: &str| page.contains(&format!("`{name}`"));
    let mut excluded = vec!["kube-system".to_owned(), "pitlane-system".to_owned()];
    for file in ["components/cert-manager/inject.yaml", "overlays/microshift/inject.yaml"] {
        let patch = read(file);
        let at = |one: &&Value| one["path"].as_str().unwrap().contains("namespaceSelector");
        let value = &patch.as_array().unwrap().iter().find(at).unwrap()["value"];
        let names = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        excluded.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
    }
    assert!(excluded.len() > 10, "{excluded:?}");
    for name in excluded {
        assert!(told(&name), "docs/admission.md does not name {name}");
    }
    assert!(!told("openshift-elsewhere"));
}

#[test]
fn the_policies_of_the_example_parse() {
    let base = repository().join("examples/kubernetes/base");
    let key = fs::read_to_string(base.join("keys/release.pub")).unwrap();
    let listed = read("base/kustomization.yaml")["configMapGenerator"][0]["files"].clone();
    for file in listed.as_array().unwrap() {
        let text = fs::read_to_string(base.join(file.as_str().unwrap())).unwrap();
        let parsed = Policy::parse(&text, &|name: &str| (name == "release").then(|| key.clone()));
        assert!(parsed.is_ok(), "{file}: {parsed:?}");
    }
}

/// The objects that `kubectl kustomize` makes, one YAML text each.
fn built(kubectl: &Path, dir: &Path) -> Vec<Value> {
    let text = run(Command::new(kubectl).arg("kustomize").arg(dir)).ok();
    text.split("\n---\n").map(|one| yaml::read(one, MAX).unwrap()).collect()
}

#[test]
fn the_overlays_build() {
    let Some(kubectl) = peer("kubectl") else { return };
    let dir = tempfile::tempdir().unwrap();
    copy(&repository().join("examples/kubernetes"), dir.path());
    let certs = dir.path().join("components/own-certificate/certs");
    certify(&certs);
    for (overlay, replicas, pinned) in [("k3s", 2, true), ("microshift", 1, false)] {
        let objects = built(&kubectl, &dir.path().join("overlays").join(overlay));
        let of = |kind: &str| {
            objects
                .iter()
                .find(|object| object["kind"] == kind)
                .unwrap_or_else(|| panic!("{overlay}: no {kind}"))
        };
        assert_eq!(of("Deployment")["spec"]["replicas"], replicas);
        let pod = &of("Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
        let image = pod["containers"][0]["image"].as_str().unwrap();
        assert!(image.contains("/pitlane-verifier@sha256:"), "{image}");
        assert!(of("ConfigMap")["data"].is_object());
        for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
            let webhook = &of(kind)["webhooks"][0];
            assert_eq!(webhook["clientConfig"]["caBundle"].is_string(), pinned, "{overlay}");
        }
        let secret = objects.iter().any(|object| object["kind"] == "Secret");
        assert_eq!(secret, pinned, "{overlay}");
        assert!(!objects.iter().any(|object| object.to_string().contains("ca.key")));
        // The program understands every argument that it is started with.
        let args: Vec<&str> = pod["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a.as_str().unwrap())
            .collect();
        let mut dry = Command::new(crate::common::bin("pitlane-verifier"));
        let said = run(dry.args(&args)).fails();
        assert!(said.contains("/etc/pitlane/tls/tls.crt"), "{said}");
    }
    let manager = dir.path().join("with-cert-manager");
    fs::create_dir(&manager).unwrap();
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
                resources: [../base]\ncomponents: [../components/cert-manager]\n";
    fs::write(manager.join("kustomization.yaml"), text).unwrap();
    let objects = built(&kubectl, &manager);
    let webhook = objects.iter().find(|o| o["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let inject = &webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    let certificate = objects.iter().find(|o| o["kind"] == "Certificate").unwrap();
    let of = |field: &str| certificate["metadata"][field].as_str().unwrap();
    assert_eq!(inject, &format!("{}/{}", of("namespace"), of("name")));
    assert!(webhook.to_string().contains("\"cert-manager\""), "it must start without us");

    let car = built(&kubectl, &dir.path().join("car"));
    let class = car.iter().find(|object| object["kind"] == "RuntimeClass").unwrap();
    let set = car.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["runtimeClassName"], class["metadata"]["name"]);
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], 1);
    assert_eq!(read("car/device-plugin-k3s.yaml")["kind"], "HelmChart");
}
