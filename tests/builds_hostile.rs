//! A Dockerfile that hunts: through the whole lane, on a machine that holds a signing key, a registry's
//! token, a webhook's secret and a variable with a password. It finds none of them, and none is in
//! what was released.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::common::{
    engine::{Engine, built, holds, one_platform},
    lane::{Lane, lapless, quick},
    write_secret,
};

/// What no step may see: in the service's environment.
const VARIABLE: &str = "PITLANE_TEST_PASSWORD";
const PASSWORD: &str = "correct-horse-of-the-environment";
/// What one step may see, because the operator names it.
const SECRET: &str = "correct-horse-of-the-index";

/// Looks everywhere a step can look, writes down what it finds, and calls whoever may answer.
fn hunt(base: &str, places: &str, ports: [u16; 2]) -> String {
    let [registry, listener] = ports;
    format!(
        "FROM {base}\nARG GIVEN\n\
         RUN env | cut -d= -f1 | sort > /env\n\
         RUN cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' > /others; true\n\
         RUN ls {places} > /places 2>/dev/null; true\n\
         RUN find / -xdev -name '*.key' -o -xdev -name '*token*' -path '*pitlane*' -o -xdev -name 'webhook-secret' \
             -o -xdev -name docker.sock -o -xdev -name '.docker' -o -xdev -name '*.sqlite' > /files 2>/dev/null; true\n\
         RUN ls /sys/class/net > /net\n\
         RUN for a in 127.0.0.1:{registry}/v2/ 127.0.0.1:{listener}/ 172.17.0.1:{registry}/v2/ 169.254.169.254/; do \\\n\
             wget -q -T 2 -O - http://$a && echo $a >> /answers; done; echo none >> /answers\n\
         RUN cat /run/secrets/index > /stolen 2>/dev/null; true\n\
         RUN --mount=type=secret,id=index wc -c < /run/secrets/index > /size\n"
    )
}

#[test]
fn a_dockerfile_that_hunts_finds_nothing_and_releases_nothing_secret() {
    let Some(engine) = Engine::start() else { return };
    let Some(base) = engine.base("amd64") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let calls = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&calls);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            heard.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let lines = "    args: { GIVEN: one }\n    secrets: { index: ../state/index-token }\n";
    let edit = |text: &str| quick(&one_platform(&built(text, &base, lines)));
    let mut lane = Lane::new(edit, lapless);
    write_secret(&lane.path("state/index-token"), SECRET);
    lane.start_with(&[(VARIABLE, PASSWORD)]);
    let registry: u16 = lane.registry.rsplit(':').next().unwrap().parse().unwrap();
    let state = lane.path("state").display().to_string();
    let places = format!("{state} {state}/keys {}", lane.dir.path().display());
    lane.context(&[("Dockerfile", &hunt(&base, &places, [registry, port]))]);
    let image = lane.release("v1.0.0");

    let text =
        |name: &str| String::from_utf8(lane.file_in(&image, "amd64", name).unwrap()).unwrap();
    let known = ["GIVEN", "HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"];
    for name in text("env").lines() {
        assert!(known.contains(&name), "the environment has {name}");
    }
    assert!(text("env").contains("GIVEN"), "it got what it was given");
    for empty in ["places", "files", "stolen"] {
        assert_eq!(text(empty), "", "{empty}");
    }
    assert_eq!((text("net").as_str(), text("answers").as_str()), ("lo\n", "none\n"));
    assert_eq!(calls.load(Ordering::Relaxed), 0, "nobody called");
    assert_eq!(text("size").trim(), SECRET.len().to_string(), "the step that asked saw the secret");

    // What the service has and nobody else: in no layer, no document and no log.
    let read = |name: &str| fs::read_to_string(lane.path(name)).unwrap().trim().to_owned();
    let key = read("state/keys/release.key");
    let key_body = key.lines().nth(1).unwrap().to_owned();
    let secrets = [
        PASSWORD.to_owned(),
        SECRET.to_owned(),
        key_body,
        read("state/keys/password"),
        read("state/registry-token"),
        read("state/webhook-secret"),
        read("state/api-token"),
    ];
    let manifest = lane.manifest(&lane.platform(&image, "amd64"));
    let mut all = lane.layers(&image, "amd64");
    all.push(lane.blob(manifest["config"]["digest"].as_str().unwrap()));
    for kind in ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"] {
        all.push(lane.evidence(&image, kind).to_string().into_bytes());
    }
    let run_of = lane.runs("v1.0.0").unwrap()[0].clone();
    let folder = lane.path("state/runs").join(run_of["id"].as_str().unwrap());
    all.push(fs::read(folder.join("build-amd64.log")).unwrap());
    all.push(lane.log().into_bytes());
    for secret in &secrets {
        assert!(secret.len() > 8, "a secret to look for");
        assert!(
            !all.iter().any(|bytes| holds(bytes, secret.as_bytes())),
            "{secret} is in what was made"
        );
    }
    assert!(
        all.iter().any(|bytes| holds(bytes, b"pitlane-car") || holds(bytes, b"GIVEN")),
        "the look sees"
    );
    let provenance = lane.evidence(&image, "https://slsa.dev/provenance/v1");
    let made = &provenance["predicate"]["buildDefinition"]["internalParameters"]["dockerfile"];
    assert_eq!(made["linux/amd64"]["secrets"], serde_json::json!(["index"]), "which, never what");
    engine.has_nothing_left();

    // What would have the engine reach out for it is refused before the engine hears of it, and
    // nothing is pushed.
    for (number, line) in [
        format!("ADD http://127.0.0.1:{port}/x /x"),
        format!("COPY --from=127.0.0.1:{registry}/team/donkeycar:v1.0.0 / /"),
        "RUN --network=host true".into(),
        "RUN --mount=type=ssh true".into(),
        "RUN --security=insecure true".into(),
    ]
    .iter()
    .enumerate()
    {
        lane.context(&[("Dockerfile", &format!("FROM {base}\n{line}\n"))]);
        let tag = format!("v2.0.{number}");
        lane.push_tag(&tag);
        let run_of = lane.wait(&tag, "failed");
        assert_eq!(run_of["error"]["code"], "dockerfile-refused", "{line}: {run_of:#}");
        let steps = lane.steps(&run_of).unwrap();
        assert!(steps.iter().all(|step| step["step"] != "push"), "{line}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0, "nobody called");

    // A secret that others may read is not used at all.
    let loose = lane.path("state/index-token");
    fs::set_permissions(&loose, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    lane.context(&[("Dockerfile", &format!("FROM {base}\n"))]);
    lane.push_tag("v3.0.0");
    let said = lane.wait("v3.0.0", "failed");
    let why = said["error"]["message"].as_str().unwrap();
    assert!(why.contains("secrets.index") && why.contains("chmod 600"), "{why}");
}
