//! The second builder, through the session that bollard speaks.
//!
//! bollard serves the session in tasks that it never ends, so each build has a runtime of its own on
//! its own thread; when that ends, or the build is dropped, the session and the build end with it.
//! With secrets, bollard starts the build by another call, which tells no steps while it runs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use bollard::{
    Docker, body_full,
    errors::Error,
    grpc::{
        build::{
            ImageBuildFrontendOptions, ImageBuildLoadInput, ImageBuildNetworkMode,
            ImageBuildPlatform, SecretSource,
        },
        driver::{Build as _, moby::Moby},
        error::GrpcError,
    },
    models::BuildInfo,
    query_parameters::BuildImageOptions,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::BuildError;

/// Largest context: this builder's session has it in memory, twice while a secret is used.
const MAX_CONTEXT: u64 = 256 * 1024 * 1024;
/// Lines that may wait to be told.
const WAITING: usize = 64;

/// A build under way; dropped, it is stopped.
pub(crate) struct Running {
    lines: mpsc::Receiver<Result<BuildInfo, Error>>,
    _stop: oneshot::Sender<()>,
}

impl Running {
    pub(crate) async fn next(&mut self) -> Option<Result<BuildInfo, Error>> {
        self.lines.recv().await
    }
}

/// Reads a context into memory.
pub(crate) fn load(mut archive: File, bytes: u64) -> Result<Bytes, BuildError> {
    if bytes > MAX_CONTEXT {
        return Err(BuildError::Unsupported {
            what: format!(
                "BuildKit takes a context of at most {MAX_CONTEXT} bytes, this has {bytes}"
            ),
            next: "list what is not needed in .dockerignore, or use the classic builder",
        });
    }
    let mut all = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let io = |source: io::Error| BuildError::Io { path: "context".into(), source };
    archive.read_to_end(&mut all).map_err(io)?;
    Ok(all.into())
}

/// Starts a build.
pub(crate) fn start(
    docker: &Docker,
    options: BuildImageOptions,
    archive: Bytes,
    secrets: &BTreeMap<String, PathBuf>,
) -> Running {
    let (send, lines) = mpsc::channel(WAITING);
    let (stop, stopped) = oneshot::channel();
    let (docker, secrets) = (docker.clone(), secrets.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(err) => {
                let _ = send.blocking_send(Err(Error::IOError { err }));
                return;
            }
        };
        runtime.block_on(async {
            let build = async {
                if secrets.is_empty() {
                    plain(&docker, options, archive, &send).await;
                } else if let Err(error) = secret(&docker, options, archive, secrets).await {
                    let _ = send.send(Err(error)).await;
                }
            };
            tokio::select! {
                () = build => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    });
    Running { lines, _stop: stop }
}

async fn plain(
    docker: &Docker,
    mut options: BuildImageOptions,
    archive: Bytes,
    send: &mpsc::Sender<Result<BuildInfo, Error>>,
) {
    options.session = Some(format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
    let mut lines = docker.build_image(options, None, Some(body_full(archive)));
    while let Some(line) = lines.next().await {
        let failed = line.is_err();
        if send.send(line).await.is_err() || failed {
            return;
        }
    }
}

async fn secret(
    docker: &Docker,
    options: BuildImageOptions,
    archive: Bytes,
    secrets: BTreeMap<String, PathBuf>,
) -> Result<(), Error> {
    let mut front = ImageBuildFrontendOptions::builder()
        .dockerfile(options.dockerfile.as_ref())
        .nocache(options.nocache);
    if let Some((os, architecture)) = options.platform.split_once('/') {
        let (os, architecture) = (os.to_owned(), architecture.to_owned());
        front = front.platforms(&ImageBuildPlatform { architecture, os, variant: None });
    }
    if options.networkmode.as_deref() == Some("none") {
        front = front.force_network_mode(&ImageBuildNetworkMode::None);
    }
    if !options.target.is_empty() {
        front = front.target(&options.target);
    }
    for (name, value) in options.buildargs.iter().flatten() {
        front = front.buildarg(name, value);
    }
    for (name, value) in options.labels.iter().flatten() {
        front = front.label(name, value);
    }
    for (id, path) in secrets {
        front = front.set_secret(&id, &SecretSource::File(path));
    }
    let tag = options.t.unwrap_or_default();
    let input = ImageBuildLoadInput::Upload(archive);
    let built = Moby::new(docker).docker_build(&tag, front.build(), input, None, None).await;
    built.map_err(|error| match error {
        // What the build says, not how it was carried.
        GrpcError::TonicStatus { err } => Error::DockerStreamError { error: err.message().into() },
        error => Error::DockerStreamError { error: error.to_string() },
    })
}
