//! The container of a conversion: everything that Docker can take away is taken away.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ResourcesUlimits},
    query_parameters::RemoveContainerOptions,
};

use super::ConvertLimits;

/// The user of small images, who owns nothing.
const USER: &str = "65532:65532";

/// What is created: the image's own program, with no way out but its three streams.
pub(super) fn body(image: &str, limits: &ConvertLimits) -> ContainerCreateBody {
    let memory = i64::try_from(limits.memory).unwrap_or(i64::MAX);
    // Of the container's memory, so that it is counted there.
    let tmp = format!("rw,nosuid,nodev,noexec,size={},mode=1777", limits.scratch);
    let most = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(value),
        hard: Some(value),
    };
    ContainerCreateBody {
        image: Some(image.into()),
        user: Some(USER.into()),
        hostname: Some("converter".into()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        network_disabled: Some(true),
        working_dir: Some("/tmp".into()),
        labels: Some(HashMap::from([("dev.pitlane".into(), "convert".into())])),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            readonly_rootfs: Some(true),
            tmpfs: Some(HashMap::from([("/tmp".into(), tmp)])),
            memory: Some(memory),
            // No swap: the limit is the limit.
            memory_swap: Some(memory),
            nano_cpus: Some(i64::from(limits.milli_cpus) * 1_000_000),
            pids_limit: Some(i64::from(limits.processes)),
            ulimits: Some(vec![most("nofile", 1024), most("core", 0)]),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into()]),
            privileged: Some(false),
            ipc_mode: Some("private".into()),
            shm_size: Some(16 << 20),
            // What it prints is read by us alone; the engine would keep it without bound.
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// A container that is taken away with this value, running or not.
pub(super) struct Container {
    docker: Docker,
    pub(super) id: String,
    gone: bool,
}

impl Container {
    pub(super) fn new(docker: &Docker, id: String) -> Self {
        Self { docker: docker.clone(), id, gone: false }
    }

    pub(super) async fn remove(mut self) {
        self.gone = remove(&self.docker, &self.id).await;
    }
}

/// Removes a container by id or name, running or not.
pub(super) async fn remove(docker: &Docker, id: &str) -> bool {
    let options = RemoveContainerOptions { v: true, force: true, link: false };
    docker.remove_container(id, Some(options)).await.is_ok()
}

impl Drop for Container {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.gone {
            let (docker, id) = (self.docker.clone(), self.id.clone());
            runtime.spawn(async move { remove(&docker, &id).await });
        }
    }
}
