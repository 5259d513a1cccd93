//! git over its own protocol, as source and as GitOps remote: nothing of the lane needs a path on
//! this machine.

use std::{fs, process::Command};

use crate::common::{
    Port, Process, json as parse,
    lane::{Lane, lapless, quick},
    port, swap, until,
};

/// `git daemon` over a lane's bare repositories.
struct Server {
    lane: Lane,
    url: String,
    _daemon: Process,
    _port: Port,
}

fn serve() -> Server {
    let lane = Lane::new(quick, lapless);
    let port = port();
    let root = lane.path("state/git");
    // Not by way of `git`, which would start it as a child that outlives us.
    let programs = lane.git(lane.dir.path(), &["--exec-path"]);
    let mut daemon = Command::new(std::path::Path::new(&programs).join("git-daemon"));
    daemon.args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
    daemon.args(["--enable=receive-pack", &format!("--port={}", port.number)]);
    daemon.arg(format!("--base-path={}", root.display())).arg(&root);
    daemon.env("HOME", lane.dir.path());
    let process = Process::start(&mut daemon, &lane.path("daemon.log"));
    let address = format!("127.0.0.1:{}", port.number);
    until(20, "git daemon listens", || std::net::TcpStream::connect(&address).ok());
    let url = format!("git://{address}/team");
    Server { lane, url, _daemon: process, _port: port }
}

impl Server {
    /// A pipeline whose repositories are on the server.
    fn pipeline(&self) -> std::path::PathBuf {
        let team = self.lane.path("state/git/team");
        self.lane.pipeline_file("remote", |text| {
            let image = format!("repository: {}\n", self.lane.images());
            let token = self.lane.path("state/registry-token");
            let with = format!("{image}    passwordFile: {}\n", token.display());
            quick(&swap(&swap(text, team.to_str().unwrap(), &self.url), &image, &with))
        })
    }

    fn release(&self, tag: &str) -> crate::common::Ran {
        let mut command = self.lane.pitlane();
        command.args(["release", "--output", "json", "--tag", tag, "--pipeline"]);
        crate::common::run(command.arg(self.pipeline()))
    }

    fn push(&self, args: &[&str]) {
        let tree = self.lane.tree("donkeycar");
        let url = format!("{}/donkeycar.git", self.url);
        self.lane.git(&tree, &[&["push", "--quiet", &url][..], args].concat());
    }
}

#[test]
fn annotated_lightweight_and_moved_tags() {
    let mut server = serve();
    server.lane.start();
    let (tree, gitops) = (server.lane.tree("donkeycar"), server.lane.bare("gitops"));
    // The hook would tell the service; here the releases are asked for.
    fs::remove_file(server.lane.bare("donkeycar").join("hooks/post-receive")).unwrap();
    let head = server.lane.git(&tree, &["rev-parse", "HEAD"]);
    server.lane.git(&tree, &["tag", "-a", "v1.0.0", "-m", "Annotated"]);
    server.lane.git(&tree, &["tag", "v1.1.0"]);
    server.push(&["main", "v1.0.0", "v1.1.0"]);
    for (counter, tag) in [(1, "v1.0.0"), (2, "v1.1.0")] {
        let made = parse(server.release(tag).ok());
        assert_eq!(made["commit"], head.as_str(), "the peeled commit: {made:#}");
        assert_eq!(made["counter"], counter);
        let image = made["image"].as_str().unwrap();
        let digest = image.split('@').nth(1).unwrap();
        let wanted = server.lane.git(&gitops, &["show", "main:car/kustomization.yaml"]);
        assert!(wanted.contains(digest), "{wanted}");
        let change = server.lane.git(&gitops, &["show", "--format=", "--numstat", "main"]);
        assert_eq!(change, "1\t1\tcar/kustomization.yaml", "one scalar, comments kept");
        parse(server.lane.check(image, &["--layers"]).ok());
    }
    let commits = || server.lane.git(&gitops, &["rev-list", "--count", "main"]);
    assert_eq!(commits(), "3");
    // The same again changes nothing but the counter: no commit is made.
    let again = parse(server.release("v1.1.0").ok());
    assert_eq!(again["counter"], 3);
    assert_eq!(commits(), "3");

    // A moved tag is another release under a name that is taken.
    server.lane.git(&tree, &["commit", "--quiet", "--allow-empty", "-m", "Later"]);
    server.lane.git(&tree, &["tag", "-f", "v1.0.0"]);
    server.push(&["--force", "main", "v1.0.0"]);
    let moved = server.release("v1.0.0");
    assert_eq!(moved.code, Some(10), "{moved:?}");
    assert!(moved.stderr.contains("is already"), "{}", moved.stderr);
    assert_eq!(commits(), "3", "nothing was promoted");
    // A tag of no commit, and one that is not there.
    let file = server.lane.git(&tree, &["rev-parse", "HEAD:models/pilot.yaml"]);
    server.lane.git(&tree, &["tag", "v3.0.0", &file]);
    server.push(&["v3.0.0"]);
    for tag in ["v3.0.0", "v4.0.0"] {
        let ran = server.release(tag);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(tag), "{}", ran.stderr);
    }
    server.lane.stop();
}

/// The service tells a moved tag from a redelivery and makes no run of it.
#[test]
fn a_moved_tag_is_refused_by_the_service() {
    let mut lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let (tree, bare) = (lane.tree("donkeycar"), lane.bare("donkeycar"));
    lane.git(&tree, &["commit", "--quiet", "--allow-empty", "-m", "Later"]);
    lane.git(&tree, &["tag", "-f", "-a", "v1.0.0", "-m", "Moved"]);
    lane.git(&tree, &["push", "--quiet", "--force", bare.to_str().unwrap(), "v1.0.0"]);
    let alerts = lane.api("/alerts").unwrap();
    assert_eq!(alerts["alerts"][0]["code"], "tag-moved", "{alerts:#}");
    assert_eq!(lane.runs("v1.0.0").unwrap().len(), 1);
    let tagged = parse(lane.check(&format!("{}:v1.0.0", lane.images()), &[]).ok());
    assert!(image.contains(tagged["manifest"].as_str().unwrap().split('@').next().unwrap()));
    lane.stop();
}
