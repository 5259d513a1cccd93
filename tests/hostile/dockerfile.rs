//! Dockerfiles and their contexts, by the builder, in front of an engine that notes what it is
//! sent: nothing of what is refused gets there.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use pitlane_builder::{BuildRequest, Builder, Host};
use pitlane_release::Platform;

use super::{Answer, Table};

type Make = fn(&Path) -> String;

/// What it is, what makes the context and gives the Dockerfile, the words.
const ROWS: &[(&str, Make, &str)] = rows! {
    "nothing": |_| String::new() => "Dockerfile line 1: no FROM";
    "arguments alone": |_| "ARG X=1\n".to_owned() => "Dockerfile line 1: no FROM";
    "an image nobody listed": |_| "FROM evil/base:1\n".to_owned()
        => "Dockerfile line 1: image evil/base:1 is not among the bases; the pipeline's operator \
           lists those";
    "an image by an argument": |_| "ARG B=evil/base:1\nFROM ${B}\n".to_owned()
        => "Dockerfile line 2: image evil/base:1 is not among the bases; the pipeline's operator \
           lists those";
    "an image nobody knows before": |_| "FROM ${B:-base:1}\n".to_owned()
        => "Dockerfile line 1: `${B:-base:1}` cannot be known before the build; write the name \
           out, or use an ARG before the first FROM";
    "a front end": |_| "# syntax=evil/front\nFROM base:1\n".to_owned()
        => "Dockerfile line 1: the directive `syntax=evil/front` is not followed; remove it";
    "a front end below a note": |_| "# note\n# syntax = evil/front\nFROM base:1\n".to_owned()
        => "Dockerfile line 2: the directive `syntax = evil/front` is not followed; remove it";
    "another escape": |_| "# escape=x\nFROM base:1\n".to_owned()
        => "Dockerfile line 1: the directive `escape=x` is not followed; remove it";
    "a line hidden by an escape": |_| "FROM base:1\nRUN a \\\\\nADD http://evil/x /\n".to_owned()
        => "Dockerfile line 2: the line ends in two escape characters, which can be read in two \
           ways; write it differently";
    "a line hidden by a note": |_| "FROM base:1\nRUN a \\\n # b\nADD http://evil/x /\n".to_owned()
        => "Dockerfile line 4: the line goes on, and begins with ADD, which can be read in two \
           ways; write it differently";
    "a document in a line": |_| "FROM base:1\nRUN <<EOF\nid\nEOF\n".to_owned()
        => "Dockerfile line 2: `<<` is not read; put the text into a file and COPY it";
    "something in other builds": |_| "FROM base:1\nONBUILD RUN id\n".to_owned()
        => "Dockerfile line 2: `ONBUILD` is no instruction that is built";
    "an instruction nobody knows": |_| "FROM base:1\nINCLUDE /etc/passwd\n".to_owned()
        => "Dockerfile line 2: `INCLUDE` is no instruction that is built";
    "an address": |_| "FROM base:1\nADD https://evil.example/x /x\n".to_owned()
        => "Dockerfile line 2: ADD https://evil.example/x is fetched from the network; commit \
           the file and COPY it, or ask the operator for network";
    "a repository": |_| "FROM base:1\nADD git@evil.example:x.git /x\n".to_owned()
        => "Dockerfile line 2: ADD git@evil.example:x.git is fetched from the network; commit \
           the file and COPY it, or ask the operator for network";
    "files of an image nobody listed": |_| "FROM base:1\nCOPY --from=evil:1 / /\n".to_owned()
        => "Dockerfile line 2: image evil:1 is not among the bases; the pipeline's operator \
           lists those";
    "the host's network": |_| "FROM base:1\nRUN --network=host id\n".to_owned()
        => "Dockerfile line 2: `--network=host` asks for more than a build has";
    "rights of the host": |_| "FROM base:1\nRUN --security=insecure id\n".to_owned()
        => "Dockerfile line 2: `--security=insecure` asks for more than a build has";
    "the keys of ssh": |_| "FROM base:1\nRUN --mount=type=ssh id\n".to_owned()
        => "Dockerfile line 2: RUN --mount=type=ssh; only bind, tmpfs, secret, and cache where \
           the cache is on, are given";
    "a shared cache": |_| "FROM base:1\nRUN --mount=type=cache,target=/c id\n".to_owned()
        => "Dockerfile line 2: RUN --mount=type=cache,target=/c; only bind, tmpfs, secret, and \
           cache where the cache is on, are given";
    "another platform": |_| "FROM --platform=linux/s390x base:1\n".to_owned()
        => "Dockerfile line 1: --platform=linux/s390x is not the platform that is built";
    "two thousand steps": |_| format!("FROM base:1\n{}", "USER x\n".repeat(2001))
        => "Dockerfile line 2001: more than 2000 instructions";
    "half a megabyte": |_| format!("FROM base:1\n#{}\n", "x".repeat(500_000))
        => "Dockerfile: more than 262144 bytes";
    "a link out of the context": |context| {
        symlink("/etc/passwd", context.join("stolen")).unwrap();
        "FROM base:1\nCOPY stolen /\n".to_owned()
    } => "stolen is a link to `/etc/passwd`, outside of the context; remove it or list it in \
           .dockerignore";
    "a link above the context": |context| {
        symlink("../../secret", context.join("stolen")).unwrap();
        "FROM base:1\nCOPY stolen /\n".to_owned()
    } => "stolen is a link to `../../secret`, outside of the context; remove it or list it in \
           .dockerignore";
    "a socket in the context": |context| {
        drop(UnixListener::bind(context.join("socket")).unwrap());
        "FROM base:1\nCOPY . /\n".to_owned()
    } => "socket is no file, folder or link; remove it or list it in .dockerignore";
    "folders in folders": |context| {
        fs::create_dir_all(context.join("d/".repeat(70))).unwrap();
        "FROM base:1\nCOPY . /\n".to_owned()
    } => "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d: \
           more than 64 folders deep";
    "an image that is listed and not there": |_| "FROM base:1\nUSER x\n".to_owned()
        => "image base:1 is not on unix://DIR/engine.sock; pull or load it there, a build does not";
};

/// What the engine says of itself.
const VERSION: &str = "{\"Version\":\"27\",\"ApiVersion\":\"1.47\",\"Arch\":\"amd64\"}";

/// An engine that has nothing, on a socket; it notes what it is asked.
fn engine(socket: &Path) -> Arc<Mutex<Vec<String>>> {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (listener, notes) = (UnixListener::bind(socket).unwrap(), Arc::clone(&asked));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = Arc::clone(&notes);
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream);
                loop {
                    let mut first = String::new();
                    if !lines.read_line(&mut first).is_ok_and(|bytes| bytes > 0) {
                        return;
                    }
                    let mut line = String::new();
                    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                        line.clear();
                    }
                    let words: Vec<&str> = first.split(' ').collect();
                    notes.lock().unwrap().push(format!("{} {}", words[0], words[1]));
                    let (status, body) = match words[1].contains("/version") {
                        true => ("200 OK", VERSION),
                        false => ("404 Not Found", "{\"message\":\"no such image\"}"),
                    };
                    let length = body.len();
                    let written = write!(
                        &stream,
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                         Content-Length: {length}\r\n\r\n{body}"
                    );
                    if written.is_err() {
                        return;
                    }
                }
            });
        }
    });
    asked
}

#[tokio::test]
async fn dockerfiles() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let asked = engine(&socket);
    let builder = Builder::connect(&Host::Unix(socket)).await.unwrap();
    let mut table = Table::default();
    for (number, (what, make, says)) in ROWS.iter().enumerate() {
        let context = dir.path().join(number.to_string());
        let blobs = dir.path().join(format!("{number}-blobs"));
        fs::create_dir_all(&context).unwrap();
        fs::create_dir_all(&blobs).unwrap();
        let text = make(&context);
        fs::write(context.join("Dockerfile"), text).unwrap();
        let mut request = BuildRequest::new(context, Platform::LinuxAmd64, blobs.clone());
        request.bases = BTreeSet::from(["base:1".to_owned()]);
        asked.lock().unwrap().clear();
        let error = builder.build(&request, |event| panic!("{what}: {event:?}")).await.unwrap_err();
        let said = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
        table.row(what, &Answer::new("", said), "", says);
        // At most it was asked for the base; nothing was sent, nothing was written.
        let sent: Vec<String> = asked.lock().unwrap().drain(..).collect();
        if sent.iter().any(|line| !line.starts_with("GET ")) {
            table.note(what, &format!("the engine was asked {sent:?}"));
        }
        if fs::read_dir(&blobs).unwrap().next().is_some() {
            table.note(what, "blobs were written");
        }
    }
    table.end(ROWS.len());
}
