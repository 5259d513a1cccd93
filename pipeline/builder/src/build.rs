//! `Builder`: one connection to a container engine, and a build on it from request to image.
//!
//! 1. Nothing is sent before context and Dockerfile are read and bounded.
//! 2. The engine gets the archive, the arguments and the secrets named; never a credential.
//! 3. What it gives back is hashed here; its words for it are not used.
//! 4. Whatever ends the build — an error, the clock, a future that is dropped — ends it in the
//!    engine, too, and takes its image away.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bollard::{
    Docker, body_try_stream,
    models::BuildInfo,
    query_parameters::{BuildImageOptions, BuilderVersion, ListImagesOptions, RemoveImageOptions},
};
use futures_util::StreamExt as _;
use pitlane_release::Digest;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    BuildError, BuildRequest, Built, Engine, EngineFacts, Event, Host, HostError, Network, Packed,
    buildkit, context, dockerfile,
    event::{Events, message},
    host, image, saved, stream,
    stream::ChannelReader,
    tunnel::Tunnel,
};

/// The repository under which a build is known to the engine while it lasts.
const REPOSITORY: &str = "pitlane-build";
/// Microseconds of a scheduler's period, of which a build gets its share.
const CPU_PERIOD: i32 = 100_000;
/// How often, and how long apart, an image that a stopped build may still leave is removed.
const SWEEPS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(8)];

/// A connection to a container engine.
#[derive(Debug)]
pub struct Builder {
    pub(crate) docker: Docker,
    host: String,
    facts: EngineFacts,
    _tunnel: Option<Tunnel>,
}

impl Builder {
    /// Connects, and asks the engine what it is. Dropped, it closes what it opened.
    pub async fn connect(host: &Host) -> Result<Self, HostError> {
        let (docker, tunnel) = host.open().await?;
        let shown = host.shown();
        let facts = host::facts(&docker).await.map_err(|source| HostError::Connect {
            host: shown.clone(),
            source: Box::new(source),
        })?;
        Ok(Self { docker, host: shown, facts, _tunnel: tunnel })
    }

    /// What the engine is.
    pub fn facts(&self) -> &EngineFacts {
        &self.facts
    }

    /// The engine's address, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether an image to start from is on the host.
    pub async fn has_base(&self, name: &str) -> Result<(), BuildError> {
        self.base(name).await.map(drop)
    }

    /// Builds one image. Events are given as they come; dropping the future stops the build.
    pub async fn build(
        &self,
        request: &BuildRequest,
        mut events: impl FnMut(Event) + Send,
    ) -> Result<Built, BuildError> {
        let seconds = request.limits.seconds;
        let mut made = None;
        let built =
            timeout(Duration::from_secs(seconds), self.run(request, &mut made, &mut events)).await;
        if let Some(made) = made.take() {
            made.remove(built.is_err()).await;
        }
        built.unwrap_or(Err(BuildError::TimedOut { seconds }))
    }

    async fn run(
        &self,
        request: &BuildRequest,
        made: &mut Option<Made>,
        sink: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Built, BuildError> {
        request.check()?;
        self.can(request)?;
        let packed = {
            let (root, file) = (request.context.clone(), request.dockerfile.clone());
            let limits = request.limits;
            blocking(move || context::pack(&root, &file, &limits)).await??
        };
        let wanted = dockerfile::check(&packed.dockerfile, request)?;
        if dockerfile::wants_buildkit(&packed.dockerfile, &request.engine) {
            return Err(BuildError::Unsupported {
                what: "a RUN with --mount or --network needs BuildKit".into(),
                next: "ask for the engine BuildKit, or take the option out of the Dockerfile",
            });
        }
        let mut bases = BTreeMap::new();
        for name in wanted {
            let id = self.base(&name).await?;
            bases.insert(name, id);
        }
        let mut events = Events::new(sink, request.limits.log_bytes);
        let Packed { archive, digest, bytes, entries, dockerfile } = packed;
        let dockerfile = Digest::of(dockerfile.as_bytes());
        events.say(Event::Packed { bytes, entries, digest });

        if let Some(name) = &request.name {
            self.forget(name, !request.cache).await?;
        }
        let new = Made::new(&self.docker, request);
        let tag = made.insert(new).tag.clone();
        let options = options(request, &tag);
        match &request.engine {
            Engine::Classic { memory, .. } => {
                let docker = limited(&self.docker, *memory);
                let body = body_try_stream(stream::of_file(archive));
                let mut lines = docker.build_image(options, None, Some(body));
                while let Some(line) = lines.next().await {
                    say(&mut events, line.map_err(|error| self.failed(error))?);
                }
            }
            Engine::BuildKit { secrets } => {
                let archive = blocking(move || buildkit::load(archive, bytes)).await??;
                let mut build = buildkit::start(&self.docker, options, archive, secrets);
                while let Some(line) = build.next().await {
                    say(&mut events, line.map_err(|error| self.failed(error))?);
                }
            }
        }
        events.flush();
        let image = self.docker.inspect_image(&tag).await;
        let image = image.map_err(|error| self.engine("looking at the image", error))?;
        let image = image.id.unwrap_or_else(|| tag.clone());
        events.say(Event::Saving { image });
        let saved = self.save(&tag, request).await?;
        let created = request.created.as_deref();
        let (config, manifest) =
            image::documents(saved.config, &saved.layers, created, &request.annotations);
        Ok(Built {
            platform: request.platform,
            manifest,
            config,
            layers: saved.layers,
            context: digest,
            dockerfile,
            bases,
            engine: self.facts.name.clone(),
        })
    }

    /// Takes away what builds of this name left when their service was killed.
    async fn forget(&self, name: &str, prune: bool) -> Result<(), BuildError> {
        let reference = format!("{REPOSITORY}:{name}.*");
        let filters = HashMap::from([("reference".to_owned(), vec![reference])]);
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let left = self.docker.list_images(Some(options)).await;
        let left =
            left.map_err(|error| self.engine("looking for what an earlier build left", error))?;
        for tag in left.iter().flat_map(|image| &image.repo_tags) {
            if tag.contains(&format!("{REPOSITORY}:{name}.")) {
                remove(&self.docker, tag, prune).await;
            }
        }
        Ok(())
    }

    /// What the request asks for and this engine has not.
    fn can(&self, request: &BuildRequest) -> Result<(), BuildError> {
        match &request.engine {
            Engine::BuildKit { .. } if !self.facts.buildkit => Err(BuildError::Unsupported {
                what: format!("{} has no BuildKit, so no secrets", self.facts.name),
                next: "build on Docker, or without secrets",
            }),
            _ => Ok(()),
        }
    }

    /// The id of an image that is on the host.
    async fn base(&self, name: &str) -> Result<String, BuildError> {
        let missing = || BuildError::BaseMissing { name: name.into(), host: self.host.clone() };
        match self.docker.inspect_image(name).await {
            Ok(image) => image.id.ok_or_else(missing),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Err(missing())
            }
            Err(error) => Err(self.engine("looking for a base", error)),
        }
    }

    async fn save(&self, tag: &str, request: &BuildRequest) -> Result<saved::Saved, BuildError> {
        let (send, receive) = mpsc::channel(stream::WAITING);
        let (platform, blobs) = (request.platform, request.blobs.clone());
        let max = request.limits.image_bytes;
        let reading = tokio::task::spawn_blocking(move || {
            saved::read(ChannelReader::new(receive), platform, &blobs, max)
        });
        let mut pieces = Box::pin(self.docker.export_image(tag));
        let mut broken = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                let text = error.to_string();
                broken = Some(self.engine("reading the image back", error));
                std::io::Error::other(text)
            });
            let ends = piece.is_err();
            // The reader may have seen enough; it says why.
            if send.send(piece).await.is_err() || ends {
                break;
            }
        }
        drop((send, pieces));
        let read = reading.await.map_err(|error| joined(&error))?;
        match broken {
            Some(error) => Err(error),
            None => Ok(read?),
        }
    }

    /// A build's own failure, or the engine's.
    fn failed(&self, error: bollard::errors::Error) -> BuildError {
        use bollard::errors::Error;
        match error {
            Error::DockerStreamError { error } => step_failed(&error),
            Error::DockerResponseServerError { message, .. } => step_failed(&message),
            error => self.engine("building", error),
        }
    }

    pub(crate) fn engine(&self, doing: &'static str, error: bollard::errors::Error) -> BuildError {
        BuildError::Engine { host: self.host.clone(), doing, source: Box::new(error) }
    }
}

/// The engine's words for a failed step, with what helps.
pub(crate) fn step_failed(text: &str) -> BuildError {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let hint = if has(&["exec format error"]) {
        "; the host cannot run that platform: prepare emulation there (scripts/qemu.sh)"
    } else if has(&["code: 137", "exit code: 137"]) {
        "; it was killed, most likely for memory: raise the engine's memory"
    } else if has(&[
        "does not match the specified platform",
        "pull access denied",
        "manifest unknown",
    ]) {
        "; a base is not on the host for that platform"
    } else {
        ""
    };
    BuildError::Failed { message: message(text), hint }
}

/// Runs what waits for disks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| joined(&error))
}

fn joined(error: &tokio::task::JoinError) -> BuildError {
    BuildError::Io { path: "a thread".into(), source: std::io::Error::other(error.to_string()) }
}

/// What a line of the engine's stream says.
fn say(events: &mut Events<'_>, line: BuildInfo) {
    use bollard::models::BuildInfoAux;
    if let Some(text) = line.stream {
        match text.trim().starts_with("Step ") {
            true => events.step(&text),
            false => events.output(&text),
        }
    }
    if let Some(BuildInfoAux::BuildKit(status)) = line.aux {
        for vertex in status.vertexes {
            // Each is reported when it begins and again when it ends.
            if vertex.started.is_some() && vertex.completed.is_none() {
                events.step(&vertex.name);
            }
        }
        for log in status.logs {
            events.output(&String::from_utf8_lossy(&log.msg));
        }
    }
}

fn options(request: &BuildRequest, tag: &str) -> BuildImageOptions {
    let owned = |map: &BTreeMap<String, String>| -> HashMap<String, String> {
        map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let mut options = BuildImageOptions {
        dockerfile: request.dockerfile.clone(),
        t: Some(tag.into()),
        nocache: !request.cache,
        rm: true,
        forcerm: true,
        buildargs: Some(owned(&request.args)),
        labels: Some(owned(&request.labels)),
        networkmode: Some(match request.network {
            Network::None => "none".into(),
            Network::Default => "default".into(),
        }),
        platform: request.platform.to_string(),
        target: request.target.clone().unwrap_or_default(),
        ..BuildImageOptions::default()
    };
    match &request.engine {
        Engine::Classic { milli_cpus, .. } => {
            options.version = BuilderVersion::BuilderV1;
            if let Some(milli) = milli_cpus {
                options.cpuperiod = Some(CPU_PERIOD);
                options.cpuquota =
                    i32::try_from(*milli).ok().map(|m| m.saturating_mul(CPU_PERIOD / 1000));
            }
        }
        Engine::BuildKit { .. } => options.version = BuilderVersion::BuilderBuildKit,
    }
    options
}

/// Memory by hand: the client's own field ends at 2 GiB.
fn limited(docker: &Docker, memory: Option<u64>) -> Docker {
    let Some(memory) = memory else { return docker.clone() };
    docker.clone().with_request_modifier(move |mut request| {
        let uri = format!("{}&memory={memory}&memswap={memory}", request.uri());
        if let Ok(uri) = uri.parse() {
            *request.uri_mut() = uri;
        }
        request
    })
}

/// The image that a build makes in the engine, under a name that nobody else uses. It is taken away
/// again, whatever happens.
struct Made {
    docker: Docker,
    tag: String,
    prune: bool,
    gone: bool,
}

impl Made {
    fn new(docker: &Docker, request: &BuildRequest) -> Self {
        // Its own for each build: one that was stopped is still swept when the next has begun.
        let name = request.name.as_deref().unwrap_or("any");
        let tag = format!("{REPOSITORY}:{name}.{:016x}", fastrand::u64(..));
        Self { docker: docker.clone(), tag, prune: !request.cache, gone: false }
    }

    /// Takes it away now. A build that was stopped may still make it; then it is looked for again.
    async fn remove(mut self, stopped: bool) {
        self.gone = remove(&self.docker, &self.tag, self.prune).await || !stopped;
    }
}

async fn remove(docker: &Docker, tag: &str, prune: bool) -> bool {
    let options = RemoveImageOptions { force: true, noprune: !prune, platforms: None };
    docker.remove_image(tag, Some(options), None).await.is_ok()
}

impl Drop for Made {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.gone {
            return;
        }
        // The engine may finish the step that was under way, and name its image, after this.
        let (docker, tag, prune) = (self.docker.clone(), self.tag.clone(), self.prune);
        runtime.spawn(async move {
            for pause in SWEEPS {
                tokio::time::sleep(pause).await;
                if remove(&docker, &tag, prune).await {
                    return;
                }
            }
        });
    }
}
