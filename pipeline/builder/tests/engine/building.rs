//! Dockerfiles of friends: both builders, both platforms, secrets, and what stops a build.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use pitlane_builder::{BuildError, Engine as Which, Event, Network};
use pitlane_release::{Digest, Platform, oci};

use super::support::{
    Case, Engine, base, docker, file_in, note, nothing_left, program, repository, run, text_in,
};

const DOCKERFILE: &str = "\
ARG BASE=localhost/pitlane-base:amd64
FROM ${BASE} AS tools
RUN echo made > /made
FROM ${BASE} AS car
ARG COLOUR=none
COPY --from=tools /made /opt/made
COPY start.sh /opt/start.sh
RUN echo colour $COLOUR && echo $COLOUR > /opt/colour
ENTRYPOINT [\"/bin/sh\", \"/opt/start.sh\"]
FROM scratch AS never
COPY start.sh /never
";

fn car(base: &str) -> Case {
    let mut case = Case::new(base, DOCKERFILE, &[("start.sh", "echo drive\n")]);
    let request = &mut case.request;
    request.target = Some("car".into());
    request.args.insert("COLOUR".into(), "green".into());
    request.labels.insert("org.opencontainers.image.version".into(), "v1".into());
    request.annotations.insert("dev.pitlane.test".into(), "yes".into());
    request.created = Some("2026-01-02T03:04:05Z".into());
    case
}

#[tokio::test]
async fn both_builders_give_images_that_hold_what_they_say() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    for which in [Which::default(), Which::BuildKit { secrets: BTreeMap::new() }] {
        let mut case = car(&base);
        case.request.engine = which.clone();
        let (built, log) = case.build(&builder).await.unwrap();
        assert!(log.contains("colour green"), "{which:?}: {log}");
        for layer in &built.layers {
            let bytes = fs::read(&layer.path).unwrap();
            assert_eq!(oci::Descriptor::of(oci::LAYER_TAR, &bytes), layer.descriptor);
            assert_eq!(layer.diff_id, Digest::of(&bytes));
        }
        assert_eq!(Digest::of(&built.config.bytes), built.config.descriptor.digest);
        let config = oci::parse_config(&built.config.bytes).unwrap();
        let ids: Vec<Digest> = built.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(config.rootfs.diff_ids, ids);
        assert_eq!((config.os.as_str(), config.architecture.as_str()), ("linux", "amd64"));
        assert_eq!(config.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(config.config.labels.unwrap()["org.opencontainers.image.version"], "v1");
        assert_eq!(config.config.entrypoint.unwrap(), ["/bin/sh", "/opt/start.sh"]);
        let manifest = oci::parse_manifest(&built.manifest.bytes).unwrap();
        assert_eq!(manifest.config, built.config.descriptor);
        assert_eq!(manifest.annotations["dev.pitlane.test"], "yes");
        assert_eq!(text_in(&built, "opt/colour"), "green\n");
        assert_eq!(text_in(&built, "opt/made"), "made\n");
        assert_eq!(text_in(&built, "opt/start.sh"), "echo drive\n");
        assert!(file_in(&built, "never").is_none());
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", &base]);
        assert_eq!(built.bases, BTreeMap::from([(base.clone(), id.trim().to_owned())]));
        assert!(built.engine.starts_with("Docker Engine "), "{}", built.engine);
        let left = docker(&["images", "--quiet", "pitlane-build"]);
        assert_eq!(left, "", "the engine keeps no image of ours");
    }
}

/// The peer: what Docker's own command line makes of the same files.
#[tokio::test]
async fn the_layers_are_those_of_docker_build() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let mut case = car(&base);
    case.request.cache = true;
    let folder = case.context.path().to_str().unwrap().to_owned();
    let mut plain = Command::new("docker");
    plain.env("DOCKER_HOST", format!("unix://{}", Engine::socket().display()));
    plain.env("DOCKER_BUILDKIT", "0");
    plain.args([
        "build",
        "--quiet",
        "--network=none",
        "--target=car",
        "--memory=4g",
        "--memory-swap=4g",
    ]);
    plain.args(["--build-arg=COLOUR=green", &folder]);
    let id = run(&mut plain);
    let layers = docker(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", id.trim()]);
    let layers: Vec<Digest> = serde_json::from_str(&layers).unwrap();
    let (built, _) = case.build(&Engine::builder().await).await.unwrap();
    // The same steps on the same files: the engine's cache knows that it did them already.
    assert_eq!(built.layers.iter().map(|l| l.diff_id).collect::<Vec<_>>(), layers);
    docker(&["rmi", "--force", id.trim()]);
}

#[tokio::test]
async fn arm64_is_built_by_emulation() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxArm64) else { return };
    run(&mut Command::new(repository().join("scripts/qemu.sh")));
    for which in [Which::default(), Which::BuildKit { secrets: BTreeMap::new() }] {
        let mut case = Case::new(&base, &format!("FROM {base}\nRUN uname -m > /arch\n"), &[]);
        case.request.platform = Platform::LinuxArm64;
        case.request.engine = which;
        let (built, _) = case.build(&Engine::builder().await).await.unwrap();
        assert_eq!(text_in(&built, "arch"), "aarch64\n");
    }
    // A base of another platform than is built.
    let mut case = Case::new(&base, &format!("FROM {base}\n"), &[]);
    case.request.platform = Platform::LinuxAmd64;
    let error = case.build(&Engine::builder().await).await.unwrap_err().to_string();
    assert!(error.contains("platform"), "{error}");
}

#[tokio::test]
async fn secrets_are_seen_by_the_step_that_asks_and_stay_out_of_the_image() {
    const SECRET: &str = "correct horse battery staple";
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SECRET).unwrap();
    let text = format!(
        "FROM {base}\nRUN --mount=type=secret,id=pip cat /run/secrets/pip | wc -c > /size\n\
         RUN cat /run/secrets/pip > /stolen || true\nRUN ls /sys/class/net > /net\n"
    );
    let mut case = Case::new(&base, &text, &[]);
    let secrets = BTreeMap::from([("pip".to_owned(), file.path().to_owned())]);
    case.request.engine = Which::BuildKit { secrets };
    let (built, _) = case.build(&builder).await.unwrap();
    assert_eq!(text_in(&built, "size").trim(), SECRET.len().to_string());
    assert_eq!(text_in(&built, "stolen"), "", "a step that did not ask");
    assert_eq!(text_in(&built, "net"), "lo\n", "no network");
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
    assert!(!holds(&built.config.bytes));
    assert!(!built.layers.iter().any(|layer| holds(&fs::read(&layer.path).unwrap())));

    let missing = format!("FROM {base}\nRUN --mount=type=secret,id=other,required=true true\n");
    fs::write(case.context.path().join("Dockerfile"), missing).unwrap();
    let error = case.build(&builder).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Failed { message, .. } if message.contains("other")),
        "{error}"
    );

    case.request.engine = Which::default();
    let error = case.build(&builder).await.unwrap_err();
    assert!(matches!(error, BuildError::Unsupported { .. }), "the first builder has none: {error}");
}

#[tokio::test]
async fn a_dropped_build_and_one_out_of_time_leave_nothing() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    for (number, which) in
        [Which::default(), Which::BuildKit { secrets: BTreeMap::new() }].into_iter().enumerate()
    {
        // Told apart from everything else on this machine.
        let mark = format!(
            "{}",
            40_000 + std::process::id() % 10_000 * 3 + u32::try_from(number).unwrap()
        );
        let mut case =
            Case::new(&base, &format!("FROM {base}\nRUN echo begun && sleep {mark}\n"), &[]);
        case.request.engine = which;
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let build = builder.build(&case.request, |event| {
            if matches!(&event, Event::Log { text } if text.contains("begun")) {
                tell.take().map(|tell| tell.send(()));
            }
        });
        tokio::select! {
            done = build => panic!("ended by itself: {done:?}"),
            begun = told => begun.unwrap(),
            () = tokio::time::sleep(Duration::from_mins(1)) => panic!("did not begin"),
        }
        nothing_left(&format!("sleep\0{mark}")).await;

        case.request.limits.seconds = 3;
        let error = case.build(&builder).await.unwrap_err();
        assert!(matches!(error, BuildError::TimedOut { seconds: 3 }), "{error}");
        nothing_left(&format!("sleep\0{mark}")).await;
        super::support::until_empty(&["images", "--quiet", "pitlane-build"]).await;
    }
}

#[tokio::test]
async fn memory_and_log_are_bounded() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    let mut case = Case::new(&base, &format!("FROM {base}\nRUN tail /dev/zero\n"), &[]);
    case.request.engine = Which::Classic { memory: Some(32 << 20), milli_cpus: Some(1000) };
    let error = case.build(&builder).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Failed { hint, .. } if hint.contains("memory")),
        "{error}"
    );

    let noisy = format!("FROM {base}\nRUN yes flood | head -n 300000\nRUN echo end\n");
    let mut case = Case::new(&base, &noisy, &[]);
    case.request.limits.log_bytes = 10_000;
    let (mut bytes, mut cut, mut log) = (0, 0, String::new());
    let mut listen = |event: Event| {
        note(&mut log, &event);
        match event {
            Event::Log { text } | Event::Step { text } => bytes += text.len(),
            Event::LogCut { .. } => cut += 1,
            _ => {}
        }
    };
    builder.build(&case.request, &mut listen).await.unwrap();
    assert!(bytes <= 10_000 && cut == 1, "{bytes} bytes, cut {cut} times");

    let mut large =
        Case::new(&base, &format!("FROM {base}\nRUN dd if=/dev/zero of=/x bs=1M count=20\n"), &[]);
    large.request.limits.image_bytes = 10 << 20;
    let error = large.build(&builder).await.unwrap_err();
    assert!(matches!(error, BuildError::Saved(_)), "{error}");
    assert_eq!(fs::read_dir(large.blobs.path()).unwrap().count(), 0, "nothing is kept of it");
}

#[tokio::test]
async fn a_failed_step_is_told_and_a_base_is_never_pulled() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    let mut case = Case::new(&base, &format!("FROM {base}\nRUN echo why; false_alarm\n"), &[]);
    case.request.network = Network::Default;
    let error = case.build(&builder).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Failed { message, .. } if message.contains("false_alarm")),
        "{error}"
    );
    let gone = "localhost/not-there:1";
    let case = Case::new(gone, &format!("FROM {gone}\n"), &[]);
    let error = case.build(&builder).await.unwrap_err();
    assert!(matches!(&error, BuildError::BaseMissing { name, .. } if name == gone), "{error}");
}

/// The examples for cars with ROS 2 and Jetsons, on the stand-in base.
#[tokio::test]
async fn the_examples_build() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    for name in ["ros2", "jetson"] {
        let folder = repository().join("pipelines/containers").join(name);
        let mut case = Case::new(&base, "", &[]);
        case.request.context = folder;
        case.request.dockerfile = "Containerfile".into();
        case.request.args.insert("BASE".into(), base.clone());
        case.request.engine = Which::BuildKit { secrets: BTreeMap::new() };
        let (built, _) = case.build(&builder).await.unwrap();
        let config = oci::parse_config(&built.config.bytes).unwrap();
        assert_eq!(config.config.user.as_deref(), Some("65532:65532"), "{name}");
        assert!(file_in(&built, "opt/car/start.sh").is_some(), "{name}");
    }
    program("docker");
}

#[tokio::test]
async fn what_a_killed_build_left_is_removed_by_the_next_of_its_name() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let name = format!("run-{}", std::process::id());
    let [mine, other] =
        [format!("pitlane-build:{name}.dead"), format!("pitlane-build:{name}0.dead")];
    docker(&["tag", &base, &mine]);
    docker(&["tag", &base, &other]);
    let mut case = Case::new(&base, &format!("FROM {base}\nRUN echo made > /made\n"), &[]);
    case.request.name = Some(name.clone());
    let (built, _) = case.build(&Engine::builder().await).await.unwrap();
    assert_eq!(text_in(&built, "made"), "made\n");
    let listed = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!listed.contains(&mine) && listed.contains(&base), "{listed}");
    assert!(listed.contains(&other), "another run's: {listed}");
    docker(&["rmi", &other]);
    for bad in ["", "-x", "a b", "a:b", "../x"] {
        case.request.name = Some(bad.into());
        let error = case.build(&Engine::builder().await).await.unwrap_err();
        assert!(matches!(error, BuildError::Unsupported { .. }), "{bad}: {error}");
    }
}
