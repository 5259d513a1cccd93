//! What a registry answers: status lines, headers, challenges, lists, documents, by a real socket.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{LazyLock, Mutex},
    time::Duration,
};

use pitlane_fetch::{Registry, RegistryOptions, Source};
use pitlane_release::{Digest, Repository, oci::Descriptor};

use super::wait;
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "registry-answers",
    run: answers,
    more: &[],
    words: &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 206 Partial Content\r\n",
        "HTTP/1.1 401 Unauthorized\r\n",
        "HTTP/1.1 404 Not Found\r\n",
        "HTTP/1.1 307 Temporary Redirect\r\n",
        "\r\n\r\n",
        "Content-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        "Content-Type: application/vnd.oci.image.index.v1+json\r\n",
        "WWW-Authenticate: Bearer realm=\"http://{{host}}/t\",service=\"x\"\r\n",
        "WWW-Authenticate: Basic\r\n",
        "Link: <x>; rel=\"next\"\r\n",
        "{\"tags\":[\"v1\"]}",
        "{\"manifests\":[]}",
        "{\"token\":\"t\"}",
        "Content-Encoding: gzip\r\n",
        "\n%%\n",
        "Range: bytes 0-1/2\r\n",
    ],
    max: 6_000,
}];

/// Longest the server waits for a client that keeps a connection open.
const PATIENCE: Duration = Duration::from_millis(300);
/// What is left to be answered.
static LEFT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// The server's address. It answers each connection with the next document and hangs up.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream);
        }
    });
    host
});

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut asked = [0; 8192];
    if stream.read(&mut asked)? == 0 {
        return Ok(());
    }
    let next = LEFT.lock().unwrap().pop();
    stream.write_all(&next.unwrap_or_default())?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Whether an answer could send the client to another place than this server.
fn leads_away(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input).to_ascii_lowercase();
    // Addresses ignore tabs and line ends within them.
    let text: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let own = |rest: &str| rest.starts_with("://{{host}}/") || rest.starts_with("/1.");
    text.contains("location") || text.split("http").skip(1).any(|rest| !own(rest))
}

/// Each document is the answer to the next request.
fn answers(input: &[u8]) -> Reached {
    if leads_away(input) {
        return Reached::refused("elsewhere");
    }
    let host = |name: &str| (name == "host").then(|| HOST.clone().into_bytes());
    let documents: Vec<Vec<u8>> =
        template::cut(input).into_iter().map(|text| template::fill(text, &host)).collect();
    let repository: Repository = format!("{}/team/car", *HOST).parse().unwrap();
    let digest = Digest::from_bytes([1; 32]);
    let descriptor = Descriptor::new("x", digest, 1000);
    let source = Source::Registry(Registry::new(RegistryOptions::default()).unwrap());
    let set = || {
        *LEFT.lock().unwrap() = documents.iter().rev().cloned().collect();
    };
    wait(async {
        set();
        let manifest = source.manifest(&repository, "v1").await;
        set();
        let blob = source.blob(&repository, &digest, 700).await;
        assert!(blob.as_ref().map_or(0, Vec::len) <= 700, "over the cap");
        set();
        let referrers = source.referrers(&repository, &digest).await;
        assert!(referrers.as_ref().map_or(0, Vec::len) <= pitlane_fetch::MAX_REFERRERS);
        set();
        let tags = source.tags(&repository, 50).await;
        assert!(tags.as_ref().map_or(0, Vec::len) <= 50);
        set();
        let mut got = 0;
        let mut sink = |bytes: &[u8]| {
            got += bytes.len();
            Ok(())
        };
        let streamed = source.stream(&repository, &descriptor, 3, &mut sink).await;
        assert!(got <= 997, "{got} bytes of a blob of 1000 from byte 3");
        assert!(streamed.is_err() || got == 997, "{got} bytes are no whole blob");
        Reached::of(&manifest)
            .and(Reached::of(&blob))
            .and(Reached::of(&referrers))
            .and(Reached::of(&tags))
            .and(Reached::of(&streamed))
    })
}
