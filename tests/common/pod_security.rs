//! The profile `restricted` of Kubernetes' Pod Security Standards (v1.32), a function for each rule,
//! with those of `baseline` that it includes.
//!
//! Source: kubernetes.io, "Pod Security Standards". A rule says what is wrong with a Pod's `spec`, or
//! nothing.

use serde_json::Value;

/// A rule: its name in the standard, and what it says of a Pod's spec.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) wrong: fn(&Value) -> Option<String>,
}

const KINDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];
const SELINUX: [&str; 4] =
    ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Every rule.
pub(crate) const RESTRICTED: [Rule; 16] = [
    Rule { name: "HostProcess", wrong: host_process },
    Rule { name: "Host Namespaces", wrong: host_namespaces },
    Rule { name: "Privileged Containers", wrong: privileged },
    Rule { name: "Capabilities: add", wrong: added },
    Rule { name: "Capabilities: drop", wrong: dropped },
    Rule { name: "HostPath Volumes", wrong: host_path },
    Rule { name: "Host Ports", wrong: host_ports },
    Rule { name: "AppArmor", wrong: apparmor },
    Rule { name: "SELinux", wrong: selinux },
    Rule { name: "/proc Mount Type", wrong: proc_mount },
    Rule { name: "Sysctls", wrong: sysctls },
    Rule { name: "Volume Types", wrong: volumes },
    Rule { name: "Privilege Escalation", wrong: escalation },
    Rule { name: "Running as Non-root", wrong: non_root },
    Rule { name: "Running as Non-root user", wrong: root_user },
    Rule { name: "Seccomp", wrong: seccomp },
];

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    KINDS.iter().flat_map(|kind| pod[kind].as_array().into_iter().flatten())
}

/// The first container of which something is so.
fn container(pod: &Value, so: impl Fn(&Value) -> bool) -> Option<String> {
    containers(pod).find(|one| so(one)).map(|one| one["name"].to_string())
}

/// The security contexts: the Pod's, and the containers'.
fn contexts(pod: &Value) -> impl Iterator<Item = &Value> {
    [&pod["securityContext"]].into_iter().chain(containers(pod).map(|one| &one["securityContext"]))
}

/// The first security context of which something is so.
fn context(pod: &Value, so: impl Fn(&Value) -> bool) -> Option<String> {
    contexts(pod).find(|one| so(one)).map(Value::to_string)
}

fn host_process(pod: &Value) -> Option<String> {
    context(pod, |one| one["windowsOptions"]["hostProcess"] == true)
}

fn host_namespaces(pod: &Value) -> Option<String> {
    let named = ["hostNetwork", "hostPID", "hostIPC"];
    named.into_iter().find(|name| pod[name] == true).map(str::to_owned)
}

fn privileged(pod: &Value) -> Option<String> {
    container(pod, |one| one["securityContext"]["privileged"] == true)
}

fn added(pod: &Value) -> Option<String> {
    container(pod, |one| {
        let added = one["securityContext"]["capabilities"]["add"].as_array();
        added.into_iter().flatten().any(|capability| capability != "NET_BIND_SERVICE")
    })
}

fn dropped(pod: &Value) -> Option<String> {
    container(pod, |one| {
        let dropped = one["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.into_iter().flatten().any(|capability| capability == "ALL")
    })
}

fn host_path(pod: &Value) -> Option<String> {
    let volumes = pod["volumes"].as_array()?;
    volumes.iter().find(|one| !one["hostPath"].is_null()).map(Value::to_string)
}

fn host_ports(pod: &Value) -> Option<String> {
    container(pod, |one| {
        let mut ports = one["ports"].as_array().into_iter().flatten();
        ports.any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0)
    })
}

fn apparmor(pod: &Value) -> Option<String> {
    context(pod, |one| {
        let kind = &one["appArmorProfile"]["type"];
        !kind.is_null() && kind != "RuntimeDefault" && kind != "Localhost"
    })
}

fn selinux(pod: &Value) -> Option<String> {
    context(pod, |one| {
        let options = &one["seLinuxOptions"];
        let empty = |name: &str| options[name].as_str().unwrap_or("").is_empty();
        let kind = options["type"].as_str().unwrap_or("");
        !empty("user") || !empty("role") || !(kind.is_empty() || SELINUX.contains(&kind))
    })
}

fn proc_mount(pod: &Value) -> Option<String> {
    container(pod, |one| {
        let kind = &one["securityContext"]["procMount"];
        !kind.is_null() && kind != "Default"
    })
}

fn sysctls(pod: &Value) -> Option<String> {
    let set = pod["securityContext"]["sysctls"].as_array()?;
    let safe = |one: &&Value| !SYSCTLS.contains(&one["name"].as_str().unwrap_or(""));
    set.iter().find(safe).map(Value::to_string)
}

fn volumes(pod: &Value) -> Option<String> {
    let known = |one: &Value| {
        let kinds = one.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
        kinds.map(|(key, _)| key).all(|kind| VOLUMES.contains(&kind.as_str()))
    };
    pod["volumes"].as_array()?.iter().find(|one| !known(one)).map(Value::to_string)
}

fn escalation(pod: &Value) -> Option<String> {
    container(pod, |one| one["securityContext"]["allowPrivilegeEscalation"] != false)
}

/// A container's own word counts; without one, the Pod's.
fn effective<'a>(pod: &'a Value, one: &'a Value, field: &str) -> &'a Value {
    let own = &one["securityContext"][field];
    if own.is_null() { &pod["securityContext"][field] } else { own }
}

fn non_root(pod: &Value) -> Option<String> {
    container(pod, |one| effective(pod, one, "runAsNonRoot") != true)
}

fn root_user(pod: &Value) -> Option<String> {
    context(pod, |one| one["runAsUser"] == 0)
}

fn seccomp(pod: &Value) -> Option<String> {
    let good =
        |profile: &Value| profile["type"] == "RuntimeDefault" || profile["type"] == "Localhost";
    container(pod, |one| !good(effective(pod, one, "seccompProfile"))).or_else(|| {
        context(pod, |one| {
            let profile = &one["seccompProfile"];
            !profile.is_null() && !good(profile)
        })
    })
}
