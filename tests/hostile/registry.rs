//! Registries that lie, to the verifier that reads and to the pipeline that writes: no answer is
//! no permission, and what is not there as it was sent gets no tag.

use std::{fs, process::Command};

use super::{
    Answer, Table,
    liar::{Liar, Lie},
    unnumbered,
    world::World,
};
use crate::common::{Process, bin, http, port, swap, write_secret};

type Told = fn() -> Lie;
type Make = fn(&Names<'_>) -> (&'static str, String, Lie);

/// What rows speak of.
struct Names<'a> {
    /// The index of the good release, its platform manifest, and the tag of its statement.
    index: &'a str,
    platform: &'a str,
    statement: &'a str,
    /// The blob with the signed statement.
    bundle: &'a str,
}

impl Names<'_> {
    fn index(&self) -> String {
        format!("/manifests/{}", self.index)
    }

    fn statement(&self) -> String {
        format!("/manifests/{}", self.statement)
    }
}

fn says(head: &str) -> Lie {
    Lie::Says(head.to_owned())
}

/// What it is, the lie, the exit code with the refusal's code, the words.
const READ: &[(&str, Make, &str, &str)] = rows! {
    "no word": |n| ("GET", n.index(), says(""))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
           connection closed before message completed";
    "the words of another protocol": |n| ("GET", n.index(), says("SSH-2.0-OpenSSH_9.2\r\n"))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
           invalid HTTP version parsed";
    "a status that is none": |n| ("GET", n.index(), says("HTTP/1.1 99999 OK\r\n\r\n"))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
           invalid HTTP status-code parsed";
    "a fault of its own": |n| ("GET", n.index(), Lie::Status(500, String::new()))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR answered 500 for \
           manifest LIAR/team/donkeycar INDEX";
    "too many questions": |n| ("GET", n.index(), Lie::Status(429, "Retry-After: 86400\r\n".into()))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR answered 429 for \
           manifest LIAR/team/donkeycar INDEX";
    "no entry": |n| ("GET", n.index(), Lie::Status(403, String::new()))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR refuses to show \
           manifest LIAR/team/donkeycar INDEX (403); log in or check the credentials";
    "a login without a word how": |n| ("GET", n.index(), Lie::Status(401, String::new()))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR refuses to show \
           manifest LIAR/team/donkeycar INDEX (401); log in or check the credentials";
    "a login by a file": |n| {
        let challenge = "WWW-Authenticate: Bearer realm=\"file:///etc/passwd\"\r\n";
        ("GET", n.index(), Lie::Status(401, challenge.into()))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR refuses to show \
           manifest LIAR/team/donkeycar INDEX (401); log in or check the credentials";
    "a login at a host without TLS": |n| {
        let challenge = "WWW-Authenticate: Bearer realm=\"http://evil.invalid/token\"\r\n";
        ("GET", n.index(), Lie::Status(401, challenge.into()))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR refuses to show \
           manifest LIAR/team/donkeycar INDEX (401); log in or check the credentials";
    "a way in a circle": |n| {
        let to = format!("Location: /v2/team/donkeycar{}\r\n", n.index());
        ("GET", n.index(), Lie::Status(307, to))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: too \
           many redirects";
    "a way to a file": |n| {
        ("GET", n.index(), Lie::Status(307, "Location: file:///etc/passwd\r\n".into()))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR answered 307 for \
           manifest LIAR/team/donkeycar INDEX";
    "a page for people": |n| ("GET", n.index(), Lie::Status(200, String::new()))
        => "10 altered-manifest", "the manifest that was served is not the signed INDEX";
    "another index bit": |n| ("GET", n.index(), Lie::Flipped)
        => "10 altered-manifest", "the manifest that was served is not the signed INDEX";
    "half an index": |n| ("GET", n.index(), Lie::Cut(100))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: end \
           of file before message length reached";
    "an index without end": |n| ("GET", n.index(), Lie::Endless)
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: manifest \
           LIAR/team/donkeycar INDEX is larger than 4194304 bytes";
    "an index of a terabyte": |n| {
        ("GET", n.index(), says("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n{"))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: manifest \
           LIAR/team/donkeycar INDEX is larger than 4194304 bytes";
    "two lengths": |n| {
        let lengths = "Content-Length: 2\r\nContent-Length: 9";
        ("GET", n.index(), says(&format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n{{}}")))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
           invalid content-length parsed";
    "a chunk that is no number": |n| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        ("GET", n.index(), says(&format!("{head}zz\r\n{{}}\r\n")))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
           Invalid chunk size line: missing size digit";
    "a platform instead of the index": |n| {
        ("GET", n.index(), Lie::Instead(format!("/v2/team/donkeycar/manifests/{}", n.platform)))
    } => "10 altered-manifest", "the manifest that was served is not the signed INDEX";
    "no platform": |n| {
        ("GET", format!("/manifests/{}", n.platform), Lie::Status(404, String::new()))
    } => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: manifest \
           LIAR/team/donkeycar PLATFORM is not at LIAR";
    "no statement": |n| ("GET", n.statement(), Lie::Status(404, String::new())) => "0", "";
    "a fault instead of the statement": |n| ("GET", n.statement(), Lie::Status(502, String::new()))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR answered 502 for \
           manifest LIAR/team/donkeycar STATEMENT";
    "the index instead of its statement": |n| {
        ("GET", n.statement(), Lie::Instead(format!("/v2/team/donkeycar/manifests/{}", n.index)))
    } => "0", "";
    "a page instead of the statement": |n| ("GET", n.statement(), Lie::Status(200, String::new()))
        => "0", "";
    "another statement bit": |n| ("GET", format!("/blobs/{}", n.bundle), Lie::Flipped)
        => "10 altered-statement", "a signed statement was altered: the signature does not fit";
    "half a statement": |n| ("GET", format!("/blobs/{}", n.bundle), Lie::Cut(100))
        => "1", "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: end \
           of file before message length reached";
    "a statement without end": |n| ("GET", format!("/blobs/{}", n.bundle), Lie::Endless)
        => "10 unsigned", "nobody signed it";
};

/// A text without digests, and without the sizes of what has them.
fn masked(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let hex = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        out.push_str("DIGEST");
        out.push_str(&if hex.contains(" bytes)") { unnumbered(hex, "(") } else { hex.to_owned() });
    }
    out
}

/// The verifier's verdict on the good release behind the liar.
fn check(world: &World, liar: &Liar) -> Answer {
    let image = swap(&world.image, &world.lane.registry, &liar.host);
    let ran = world.lane.check(&image, &["--platform", "linux/amd64"]);
    let code = ran.code.map_or("killed".to_owned(), |code| code.to_string());
    let digest = world.image.split('@').nth(1).unwrap();
    let more = [(liar.host.as_str(), "LIAR"), (digest, "INDEX")];
    if ran.code != Some(10) {
        assert!(ran.code == Some(0) || ran.stdout.is_empty(), "{}", ran.stdout);
        return Answer::new(code, world.tame(&ran.stderr, &more));
    }
    let verdict = crate::common::json(&ran.stdout);
    assert_eq!(verdict["admitted"], false);
    let refusal = &verdict["refusal"];
    let said = refusal["message"].as_str().unwrap_or_else(|| panic!("{verdict:#}"));
    // Of several documents that are no release statement, the first one found is spoken of.
    let (code, said) = match refusal["code"].as_str().unwrap() {
        "attestation-only" => ("unsigned", "nobody signed it"),
        code => (code, said),
    };
    Answer::new(format!("10 {code}"), world.tame(said, &more))
}

#[test]
fn registries_that_are_read() {
    let world = World::new();
    let mut table = Table::default();
    let liar = Liar::before(&world.lane.registry);
    let index = world.image.split('@').nth(1).unwrap();
    let platform = world.lane.platform(&world.image, "amd64");
    let statement = crate::common::lane::Lane::statement_tag(&world.image);
    let manifest = world.lane.manifest(&statement);
    let bundle = manifest["layers"][0]["digest"].as_str().unwrap();
    let names = Names { index, platform: &platform, statement: &statement, bundle };
    let shown = |got: Answer| {
        let says = got.says.replace(&platform, "PLATFORM").replace(&statement, "STATEMENT");
        Answer::new(got.code, says.replace(bundle, "BUNDLE"))
    };
    assert_eq!(check(&world, &liar).code, "0", "an honest liar is a registry");
    for (what, make, code, says) in READ {
        let (method, path, lie) = make(&names);
        liar.lie(method, &path, lie);
        let got = world.unchanged(&mut table, what, || check(&world, &liar));
        if liar.asked().is_empty() {
            table.note(what, "nobody was lied to");
        }
        table.row(what, &shown(got), code, says);
    }
    liar.honest();
    assert_eq!(check(&world, &liar).code, "0");
    table.end(READ.len());
}

/// A registry that takes the question and says nothing: the longest wait there is (30 s).
#[test]
fn a_registry_that_says_nothing() {
    let world = World::new();
    let mut table = Table::default();
    let liar = Liar::before(&world.lane.registry);
    liar.lie("GET", "/manifests/", Lie::Silent);
    let got = world.unchanged(&mut table, "silence", || check(&world, &liar));
    let says = "error: LIAR/team/donkeycar@INDEX: could not decide: LIAR cannot be reached: \
                operation timed out";
    table.row("silence", &got, "1", says);
    table.end(1);
}

/// What it is, the lie, the words.
const WRITTEN: &[(&str, &str, &str, Told, &str)] = rows! {
    "no place for blobs": "POST", "/blobs/uploads/", || Lie::Status(405, String::new())
        => "error: LIAR refuses blob DIGEST (405); check the credentials and the registry's rules";
    "an upload elsewhere": "POST", "/blobs/uploads/", || {
        Lie::Status(202, "Location: http://evil.invalid/upload\r\n".to_owned())
    } => "error: LIAR sends blob DIGEST to http://evil.invalid; this is not followed: give \
           that registry's own address";
    "a way elsewhere": "POST", "/blobs/uploads/", || {
        Lie::Status(307, "Location: http://evil.invalid/\r\n".to_owned())
    } => "error: LIAR sends blob DIGEST to http://evil.invalid; this is not followed: give \
           that registry's own address";
    "an upload without a place": "POST", "/blobs/uploads/", || Lie::Pretend(202)
        => "error: LIAR answers blob DIGEST with no Location";
    "a manifest that is too large for it": "PUT", "/manifests/", || Lie::Status(413, String::new())
        => "error: LIAR refuses manifest DIGEST (413); check the credentials and the registry's \
           rules";
    "a manifest that is taken and gone": "PUT", "/manifests/sha256:", || Lie::Pretend(201)
        => "error: LIAR was sent manifest DIGEST, and gives back nothing; do not trust it with \
           releases";
    "a manifest that comes back with another bit": "GET", "/manifests/sha256:", || Lie::Flipped
        => "error: LIAR was sent manifest DIGEST, and gives back DIGEST (N bytes); do not trust \
           it with releases";
    "no tags": "PUT", "/manifests/v", || Lie::Status(403, String::new())
        => "error: LIAR refuses tag v3.0.0 (403); check the credentials and the registry's rules";
};

#[test]
fn registries_that_are_written() {
    let world = World::new();
    let mut table = Table::default();
    // A registry of its own, so that what honest requests leave is not the lane's.
    let (place, token) = (port(), world.lane.path("liar-token"));
    write_secret(&token, "a-token-for-the-registry-of-liars");
    let real = format!("127.0.0.1:{}", place.number);
    let mut command = Command::new(bin("pitlane"));
    command.args(["registry", "serve", "--listen", &real, "--push-token-file"]).arg(&token);
    command.arg("--root").arg(world.lane.path("liar-registry"));
    let (_registry, _) = Process::server(&mut command, &world.lane.path("liar.log"));
    let liar = Liar::before(&real);
    let pipeline = world.lane.side_pipeline("liar", |text| {
        let text = swap(text, &world.lane.registry, &liar.host);
        let lane = world.lane.path("state/registry-token");
        swap(&crate::common::lane::quick(&text), lane.to_str().unwrap(), token.to_str().unwrap())
    });
    world.lane.git(&world.lane.tree("donkeycar"), &["tag", "v3.0.0"]);
    let release = |counter: &str| {
        let ran = world.lane.one_shot("v3.0.0", &pipeline, &["--counter", counter]);
        let code = ran.code.map_or("killed".to_owned(), |code| code.to_string());
        let said = ran.stderr.lines().filter(|line| line.starts_with("error")).collect::<Vec<_>>();
        Answer::new(code, world.tame(&said.join("\n"), &[(&liar.host, "LIAR")]))
    };
    for (what, method, path, lie, says) in WRITTEN {
        liar.lie(method, path, lie());
        let got = world.unchanged(&mut table, what, || release("3"));
        let got = Answer::new(got.code, masked(&got.says));
        table.row(what, &got, "1", says);
        let tagged = http::get(&real, "/v2/team/donkeycar/manifests/v3.0.0").unwrap();
        if tagged.status != 404 {
            table.note(what, "the tag is there");
        }
    }
    // The same to the same registry, told the truth; counter 3 is signed there already.
    liar.honest();
    assert_eq!(release("4").code, "0");
    assert_eq!(http::get(&real, "/v2/team/donkeycar/manifests/v3.0.0").unwrap().status, 200);
    drop(fs::remove_dir_all(world.lane.path("liar-registry")));
    table.end(WRITTEN.len());
}
