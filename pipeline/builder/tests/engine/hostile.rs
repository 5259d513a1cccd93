//! A Dockerfile that wants what is not its own: it looks everywhere a step can look, and the list of
//! what it found is compared with what it was given.

use std::{collections::BTreeMap, io::Read as _, net::TcpListener, time::Duration};

use pitlane_builder::{BuildError, Engine as Which, Fault};
use pitlane_release::Platform;

use super::support::{Case, Engine, base, docker, text_in};

/// What a step writes down: its environment, its networks, sockets, mounts that are not the
/// engine's own, whom it can see, and who answers.
fn spy(base: &str, port: u16) -> String {
    format!(
        "FROM {base}\nARG GIVEN\n\
         RUN env | cut -d= -f1 | sort > /env\n\
         RUN ls /sys/class/net > /net\n\
         RUN wc -l < /proc/net/route > /routes\n\
         RUN find / -xdev -type s > /sockets; find /run /var -type s >> /sockets 2>/dev/null; true\n\
         RUN cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | cut -d= -f1 | sort > /others\n\
         RUN grep -v -E ' /(proc|sys|dev)' /proc/mounts | cut -d' ' -f2 > /mounts\n\
         RUN for a in 169.254.169.254 127.0.0.1:{port} 172.17.0.1 192.0.2.1; do \\\n\
             wget -q -T 2 -O - http://$a/ && echo $a >> /answers; done; echo none >> /answers\n\
         RUN find / -xdev -name '*.key' -o -xdev -name 'webhook-secret' -o -xdev -name docker.sock -o -xdev -name '.docker' > /files\n"
    )
}

#[tokio::test]
async fn a_dockerfile_finds_nothing_but_what_it_was_given() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for which in [Which::default(), Which::BuildKit { secrets: BTreeMap::new() }] {
        let mut case = Case::new(&base, &spy(&base, port), &[]);
        case.request.engine = which.clone();
        case.request.args.insert("GIVEN".into(), "1".into());
        let (built, _) = case.build(&Engine::builder().await).await.unwrap();
        let words = |name: &str| -> Vec<String> {
            let mut all: Vec<String> = text_in(&built, name).lines().map(str::to_owned).collect();
            all.dedup();
            all
        };
        let known = ["GIVEN", "HOME", "HOSTNAME", "PATH", "PWD", "SHLVL", ""];
        for name in words("env").into_iter().chain(words("others")) {
            assert!(known.contains(&name.as_str()), "{which:?}: the environment has {name}");
        }
        assert!(words("env").contains(&"GIVEN".to_owned()));
        assert_eq!(words("net"), ["lo"], "{which:?}");
        assert_eq!(words("routes")[0].trim(), "1", "{which:?}: the table's head alone");
        assert_eq!(words("sockets"), [""; 0], "{which:?}");
        assert_eq!(words("answers"), ["none"], "{which:?}");
        assert_eq!(words("files"), [""; 0], "{which:?}");
        for mount in words("mounts") {
            let usual = ["/", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
            assert!(usual.contains(&mount.as_str()), "{which:?}: {mount} is mounted");
        }
    }
    let called = listener.accept();
    assert!(called.is_err(), "somebody called: {called:?}");
}

/// Of what is refused, nothing reaches the engine: a listener in its place hears no build.
#[tokio::test]
async fn what_is_refused_is_not_sent() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let builder = Engine::builder().await;
    let before = docker(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    for (text, wanted) in [
        ("FROM evil\n".to_owned(), "evil"),
        (format!("FROM {base}\nADD http://127.0.0.1:1/x /x\n"), "http://127.0.0.1:1/x"),
        (format!("# syntax=evil/front\nFROM {base}\n"), "syntax=evil/front"),
        (format!("FROM {base}\nRUN --network=host true\n"), "--network=host"),
        (format!("FROM {base}\nRUN --security=insecure true\n"), "--security=insecure"),
    ] {
        let mut case = Case::new(&base, &text, &[]);
        case.request.engine = Which::BuildKit { secrets: BTreeMap::new() };
        let BuildError::Dockerfile(fault) = case.build(&builder).await.unwrap_err() else {
            panic!("{text} was taken")
        };
        let named = match &fault.fault {
            Fault::Base(name)
            | Fault::Fetch(name)
            | Fault::Directive(name)
            | Fault::Rights(name) => name,
            other => panic!("{text}: {other}"),
        };
        assert_eq!(named, wanted);
    }
    let case = Case::new(&base, &format!("FROM {base}\n"), &[]);
    std::os::unix::fs::symlink("/etc/shadow", case.context.path().join("x")).unwrap();
    let error = case.build(&builder).await.unwrap_err();
    assert!(matches!(error, BuildError::Context(_)), "{error}");
    assert_eq!(docker(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]), before);
}

/// A daemon that is an enemy, or broken: silence, noise, and too much of it.
#[tokio::test]
async fn an_engine_that_answers_nonsense_gives_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "\0\0\0\0"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0; 4096];
            let _ = stream.read(&mut seen);
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    for _ in 0..3 {
        let host = pitlane_builder::Host::Unix(socket.clone());
        let got =
            tokio::time::timeout(Duration::from_secs(10), pitlane_builder::Builder::connect(&host));
        assert!(got.await.unwrap().is_err());
    }
}
