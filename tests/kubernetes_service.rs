//! The manifests of the service, examples/kubernetes/service: rendered, valid, within the profile
//! `restricted`, and understood by the programs; and why its workers have a seccomp profile.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_pipeline::{cli::ServiceFile, config::PipelineFile};
use pitlane_release::{Policy, yaml};
use serde_json::{Value, json};

use crate::common::{
    Ran, bin, copy, is_root, made, peer,
    pod_security::{RESTRICTED, Rule},
    repository, run, skip,
};

/// What is checked against: the schemas of this version of Kubernetes.
const VERSION: &str = "1.32";
const MAX: usize = 256 * 1024;
/// System calls that a container's usual filter refuses without `CAP_SYS_ADMIN`, of those that the
/// jail needs.
const REFUSED: [&str; 5] = ["unshare", "mount", "umount2", "pivot_root", "sethostname"];

fn folder() -> PathBuf {
    repository().join("examples/kubernetes/service")
}

/// The rendered objects, and their text.
fn rendered(kubectl: &Path) -> (Vec<Value>, String) {
    let text = run(Command::new(kubectl).arg("kustomize").arg(folder())).ok();
    (text.split("\n---\n").map(|one| yaml::read(one, MAX).unwrap()).collect(), text)
}

/// The Pod templates' specs, by the name of their Deployment.
fn pods(objects: &[Value]) -> Vec<(String, Value)> {
    let deployments = objects.iter().filter(|object| object["kind"] == "Deployment");
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    deployments.map(|one| (name(one), one["spec"]["template"]["spec"].clone())).collect()
}

fn broken(pod: &Value) -> Vec<&'static str> {
    let wrong = |rule: &&Rule| (rule.wrong)(pod).is_some();
    RESTRICTED.iter().filter(wrong).map(|rule| rule.name).collect()
}

#[test]
fn the_pods_are_within_the_restricted_profile() {
    let Some(kubectl) = peer("kubectl") else { return };
    let (objects, _) = rendered(&kubectl);
    let pods = pods(&objects);
    assert_eq!(pods.len(), 2);
    for (name, pod) in &pods {
        assert_eq!(broken(pod), Vec::<&str>::new(), "{name}");
    }
    let namespace = objects.iter().find(|object| object["kind"] == "Namespace").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");

    // Each rule refuses its case, in both places where it can be said.
    let good = &pods.iter().find(|(name, _)| name == "pitlane-worker").unwrap().1;
    let own = "/containers/0/securityContext";
    let first = "/initContainers/0/securityContext";
    let mut seen = BTreeSet::new();
    for (at, value, rules) in [
        ("/securityContext", json!({ "windowsOptions": { "hostProcess": true } }), "HostProcess"),
        (own, json!({ "windowsOptions": { "hostProcess": true } }), "HostProcess"),
        ("", json!({ "hostNetwork": true }), "Host Namespaces"),
        ("", json!({ "hostPID": true }), "Host Namespaces"),
        ("", json!({ "hostIPC": true }), "Host Namespaces"),
        (own, json!({ "privileged": true }), "Privileged Containers"),
        (first, json!({ "privileged": true }), "Privileged Containers"),
        (
            own,
            json!({ "capabilities": { "drop": ["ALL"], "add": ["SYS_ADMIN"] } }),
            "Capabilities: add",
        ),
        (first, json!({ "capabilities": { "drop": ["NET_RAW"] } }), "Capabilities: drop"),
        (own, json!({ "capabilities": null }), "Capabilities: drop"),
        (
            "",
            json!({ "volumes": [{ "name": "x", "hostPath": { "path": "/" } }] }),
            "HostPath Volumes",
        ),
        ("", json!({ "volumes": [{ "name": "x", "nfs": { "path": "/" } }] }), "Volume Types"),
        (
            "/containers/0",
            json!({ "ports": [{ "containerPort": 1, "hostPort": 1 }] }),
            "Host Ports",
        ),
        (own, json!({ "appArmorProfile": { "type": "Unconfined" } }), "AppArmor"),
        ("/securityContext", json!({ "seLinuxOptions": { "type": "spc_t" } }), "SELinux"),
        (own, json!({ "seLinuxOptions": { "user": "root" } }), "SELinux"),
        (own, json!({ "procMount": "Unmasked" }), "/proc Mount Type"),
        ("/securityContext", json!({ "sysctls": [{ "name": "kernel.msgmax" }] }), "Sysctls"),
        (own, json!({ "allowPrivilegeEscalation": true }), "Privilege Escalation"),
        (first, json!({ "allowPrivilegeEscalation": null }), "Privilege Escalation"),
        ("/securityContext", json!({ "runAsNonRoot": null }), "Running as Non-root"),
        (own, json!({ "runAsNonRoot": false }), "Running as Non-root"),
        ("/securityContext", json!({ "runAsUser": 0 }), "Running as Non-root user"),
        (first, json!({ "runAsUser": 0 }), "Running as Non-root user"),
        ("/securityContext", json!({ "seccompProfile": null }), "Seccomp"),
        (own, json!({ "seccompProfile": { "type": "Unconfined" } }), "Seccomp"),
    ] {
        let mut bad = good.clone();
        let place = bad.pointer_mut(at).unwrap().as_object_mut().unwrap();
        place.extend(value.as_object().unwrap().clone());
        let found = broken(&bad);
        assert!(found.contains(&rules), "{at} {value}: {found:?}");
        // A volume that is the host's is of a wrong type, too.
        let also = rules == "HostPath Volumes" && found.contains(&"Volume Types");
        assert!(found.len() == 1 || also, "{at} {value}: {found:?}");
        seen.insert(rules);
    }
    let all: BTreeSet<&str> = RESTRICTED.iter().map(|rule| rule.name).collect();
    assert_eq!(seen, all, "a rule without a case");
}

#[test]
fn the_manifests_are_valid_for_a_named_version() {
    let venv = repository().join("target/peers/venv-service/bin/kubernetes-validate");
    let Some(kubectl) = peer("kubectl") else { return };
    if !venv.is_file() {
        return skip("kubernetes-validate is missing: run scripts/peers.sh");
    }
    let (objects, text) = rendered(&kubectl);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.yaml");
    let check = |text: &str| -> Ran {
        fs::write(&file, text).unwrap();
        run(Command::new(&venv).args(["--strict", "-k", VERSION]).arg(&file))
    };
    let said = check(&text);
    let passed = (said.stdout.clone() + &said.stderr).matches(" passed for resource ").count();
    said.ok();
    assert_eq!(passed, objects.len(), "all of them were looked at");
    for (from, to) in [
        ("readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("replicas: 2", "replicas: two"),
        ("minAvailable", "minAvailible"),
        ("podSelector", "podSelektor"),
        ("secretName", "secret"),
    ] {
        assert!(text.contains(from), "{from}");
        check(&text.replace(from, to)).fails();
    }
}

#[test]
fn what_is_mounted_is_there_and_is_understood() {
    let Some(kubectl) = peer("kubectl") else { return };
    let (objects, _) = rendered(&kubectl);
    let page = fs::read_to_string(repository().join("docs/kubernetes.md")).unwrap();
    let files = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    for (name, pod) in pods(&objects) {
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let volumes = pod["volumes"].as_array().unwrap();
        for volume in volumes {
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                assert!(page.contains(&format!("generic {secret} ")), "{secret} is not explained");
            }
            if let Some(map) = volume["configMap"]["name"].as_str() {
                assert_eq!(files["metadata"]["name"], map);
            }
        }
        let both = pod["containers"].as_array().unwrap().iter();
        for container in both.chain(pod["initContainers"].as_array().into_iter().flatten()) {
            let shown = format!("{name}: {}", container["name"]);
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{shown}");
            assert!(container["image"].as_str().unwrap().contains("@sha256:"), "{shown}");
            for bound in ["requests", "limits"] {
                assert!(container["resources"][bound]["memory"].is_string(), "{shown}");
            }
            for mount in container["volumeMounts"].as_array().unwrap() {
                let named = |volume: &Value| volume["name"] == mount["name"];
                assert!(volumes.iter().any(named), "{shown}: {mount}");
            }
            // The program understands its arguments, and misses the file alone.
            let args = container["args"].as_array().unwrap();
            let mut dry = Command::new(bin("pitlane"));
            let said = run(dry.args(args.iter().map(|arg| arg.as_str().unwrap()))).fails();
            assert!(said.contains(": cannot be read"), "{shown}: {said}");
        }
    }
    // Only the signer sees the key.
    let worker = pods(&objects).into_iter().find(|(name, _)| name == "pitlane-worker").unwrap().1;
    let sees = |container: &Value| {
        container["volumeMounts"].as_array().unwrap().iter().any(|mount| mount["name"] == "key")
    };
    assert!(sees(&worker["initContainers"][0]) && !sees(&worker["containers"][0]));
    let key = worker["volumes"].as_array().unwrap().iter().find(|one| one["name"] == "key");
    assert_eq!(key.unwrap()["secret"]["secretName"], "pitlane-signer");

    let text = |name: &str| files["data"][name].as_str().unwrap_or_else(|| panic!("{name}"));
    for name in ["front.yaml", "worker.yaml"] {
        yaml::read::<ServiceFile>(text(name), MAX).unwrap();
    }
    let pipeline: PipelineFile = yaml::read(text("donkeycar.yaml"), MAX).unwrap();
    assert!(pipeline.spec.sign.key.is_none() && pipeline.spec.sign.socket.is_some());
    let key = text("release.pub").to_owned();
    Policy::parse(text("policy.yaml"), &|name: &str| (name == "release").then(|| key.clone()))
        .unwrap();
    for (file, socket) in [("worker.yaml", "--socket="), ("donkeycar.yaml", "socket: ")] {
        assert!(!text(file).is_empty(), "{socket}");
    }
    let args = worker["initContainers"][0]["args"].to_string();
    let socket = pipeline.spec.sign.socket.unwrap();
    assert!(args.contains(&format!("--socket={}", socket.display())), "{args}");
}

/// A container as `restricted` has it, by runc: nobody in particular, no capabilities, no new
/// privileges, this filter.
fn jail_in_a_container(runc: &Path, dir: &Path, filter: &Value) -> Ran {
    let file = |destination: &str, source: &Path| json!({ "destination": destination, "source": source, "type": "bind", "options": ["bind", "ro"] });
    let kernel = |destination: &str, kind: &str| json!({ "destination": destination, "type": kind, "source": kind, "options": ["nosuid", "noexec"] });
    let none: [&str; 0] = [];
    let capabilities = json!({ "bounding": none, "effective": none, "permitted": none });
    let spaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/pitlane", "jail", "--root", "/inside", "--", "/pitlane", "--version"],
            "cwd": "/", "user": { "uid": 65532, "gid": 65532 }, "env": ["PATH=/usr/bin:/bin"],
            "noNewPrivileges": true, "capabilities": capabilities,
        },
        "root": { "path": dir.join("root"), "readonly": true },
        "mounts": [
            kernel("/proc", "proc"),
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            file("/pitlane", &dir.join("inside/pitlane")), file("/inside", &dir.join("inside")),
        ],
        "linux": {
            "namespaces": spaces, "seccomp": filter,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut command = Command::new(runc);
    command.arg("--rootless=true").arg("--root").arg(dir.join("state"));
    command.args(["run", "--bundle"]).arg(dir).arg("pitlane-jail");
    run(&mut command)
}

#[test]
fn the_workers_profile_gives_the_jail_what_it_needs_and_the_usual_one_does_not() {
    let Some(runc) = peer("runc") else { return };
    if !is_root() {
        return skip("a container is started as root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let rootfs = made("target/base/rootfs/amd64");
    for name in ["root", "inside"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        copy(&rootfs, &dir.path().join(name));
    }
    fs::create_dir(dir.path().join("root/inside")).unwrap();
    fs::write(dir.path().join("root/pitlane"), "").unwrap();
    let program = dir.path().join("inside/pitlane");
    fs::copy(bin("pitlane"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let shipped = fs::read_to_string(folder().join("seccomp/pitlane-worker.json")).unwrap();
    let shipped: Value = serde_json::from_str(&shipped).unwrap();
    let said = jail_in_a_container(&runc, dir.path(), &shipped).ok();
    assert!(said.contains("\"seccomp\":true") && said.contains("pitlane 0."), "{said}");
    let mut usual = shipped.clone();
    let names = usual["syscalls"][0]["names"].as_array_mut().unwrap();
    names.extend(REFUSED.map(Value::from));
    let said = jail_in_a_container(&runc, dir.path(), &usual).fails();
    assert!(said.contains("this machine gives no network namespace"), "{said}");
    // What the profile does refuse is refused: it is read at all.
    let mut none = shipped;
    none["syscalls"][0]["names"] = json!(["unshare"]);
    let said = jail_in_a_container(&runc, dir.path(), &none).fails();
    assert!(said.contains("so a model cannot be run safely"), "{said}");
}
