//! Images that others signed the old way: a tag `sha256-….sig` beside the image, as cosign 2
//! writes it and as container engines read it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Process, Ran, bin, json, lane::Lane, peer, run, write_secret};

/// The programs that these tests need.
#[derive(Debug)]
struct Programs {
    crane: PathBuf,
    cosign2: PathBuf,
    cosign3: PathBuf,
    skopeo18: PathBuf,
}

/// Clients of one registry, logged in, with their files in one folder.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) host: String,
    dir: PathBuf,
    programs: Programs,
    _registry: Option<(Process, tempfile::TempDir)>,
}

impl Clients {
    /// Clients of a registry of their own; none where a program is missing, which is said.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let token = "legacy-push-token-0123456789";
        write_secret(&dir.join("token"), token);
        let mut serve = Command::new(bin("pitlane"));
        serve.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]);
        serve.arg(dir.join("registry")).arg("--push-token-file").arg(dir.join("token"));
        let (process, line) = Process::server(&mut serve, &dir.join("registry.log"));
        let host = json(&line)["listening"].as_str().unwrap().to_owned();
        Self::new(&dir, host, token, Some((process, folder)))
    }

    /// Clients of a lane's registry.
    pub(crate) fn of(lane: &Lane) -> Option<Self> {
        let token = fs::read_to_string(lane.path("state/registry-token")).unwrap();
        Self::new(lane.dir.path(), lane.registry.clone(), token.trim(), None)
    }

    fn new(
        dir: &Path,
        host: String,
        token: &str,
        registry: Option<(Process, tempfile::TempDir)>,
    ) -> Option<Self> {
        let programs = Programs {
            crane: peer("crane")?,
            cosign2: peer("cosign2")?,
            cosign3: peer("cosign")?,
            skopeo18: peer("skopeo18")?,
        };
        let auth = STANDARD.encode(format!("legacy:{token}"));
        let auths = serde_json::json!({ "auths": { &host: { "auth": auth } } });
        fs::write(dir.join("config.json"), auths.to_string()).unwrap();
        fs::create_dir_all(dir.join("registries.d")).unwrap();
        let attachments = format!("docker:\n  {host}:\n    use-sigstore-attachments: true\n");
        fs::write(dir.join("registries.d/here.yaml"), attachments).unwrap();
        Some(Self { host, dir: dir.to_owned(), programs, _registry: registry })
    }

    /// A file of the clients' folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Ran {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir).env("HOME", &self.dir);
        command.env("DOCKER_CONFIG", &self.dir).env("COSIGN_PASSWORD", "legacy");
        run(command.env("REGISTRY_AUTH_FILE", self.path("config.json")))
    }

    pub(crate) fn crane(&self, args: &[&str]) -> Ran {
        self.command(&self.programs.crane, args)
    }

    pub(crate) fn cosign2(&self, args: &[&str]) -> Ran {
        self.command(&self.programs.cosign2, args)
    }

    pub(crate) fn cosign3(&self, args: &[&str]) -> Ran {
        self.command(&self.programs.cosign3, args)
    }

    /// Makes a key pair NAME.key and NAME.pub; gives the public key's path.
    pub(crate) fn key_pair(&self, name: &str) -> PathBuf {
        self.cosign2(&["generate-key-pair", "--output-key-prefix", name]).ok();
        self.path(&format!("{name}.pub"))
    }

    /// An index of two platforms with one small layer; gives it by digest. Its children are
    /// Docker's manifests, its own form is OCI's: what mixed tools leave in registries.
    pub(crate) fn image(&self, repository: &str) -> String {
        let name = format!("{}/{repository}", self.host);
        fs::write(self.path("hello"), repository).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-cf", "layer.tar", "hello"]).current_dir(&self.dir);
        run(&mut tar).ok();
        let [amd64, arm64] = ["amd64", "arm64"].map(|arch| format!("{name}:{arch}"));
        self.crane(&["append", "-f", "layer.tar", "-t", &amd64]).ok();
        for (platform, tag) in [("linux/amd64", &amd64), ("linux/arm64", &arm64)] {
            self.crane(&["mutate", "--set-platform", platform, &amd64, "-t", tag]).ok();
        }
        let index = format!("{name}:v1");
        self.crane(&["index", "append", "-m", &amd64, "-m", &arm64, "-t", &index]).ok();
        let digest = self.crane(&["digest", &index]).ok();
        format!("{name}@{}", digest.trim())
    }

    /// Signs an image (index and children) with cosign 2 by `.sig` tags, without a log.
    pub(crate) fn sig_tag_sign(&self, key: &str, image: &str) {
        let key = format!("{key}.key");
        let args = ["sign", "-y", "--tlog-upload=false", "--recursive", "--key", &key, image];
        self.cosign2(&args).ok();
    }

    /// An image that cosign 2 signed by `.sig` tags with the key pair of this name.
    pub(crate) fn sig_tag_signed_image(&self, repository: &str, key: &str) -> String {
        let image = self.image(repository);
        if !self.path(&format!("{key}.key")).exists() {
            self.key_pair(key);
        }
        self.sig_tag_sign(key, &image);
        image
    }

    /// Whether the policy of container engines lets an image in: signed by this public key, for
    /// the repository under which it is asked for. skopeo copies what it lets in.
    pub(crate) fn containers_policy_admits(&self, public_key: &Path, image: &str) -> Ran {
        let requirement = serde_json::json!([{ "type": "sigstoreSigned", "keyPath": public_key,
            "signedIdentity": { "type": "matchRepository" } }]);
        let policy = serde_json::json!({ "default": [{ "type": "reject" }],
            "transports": { "docker": { &self.host: requirement } } });
        fs::write(self.path("containers-policy.json"), policy.to_string()).unwrap();
        let copied = tempfile::tempdir_in(&self.dir).unwrap();
        let to = format!("dir:{}", copied.path().join("image").display());
        let from = format!("docker://{image}");
        let options = ["--policy", "containers-policy.json", "--registries.d", "registries.d"];
        let copy = ["copy", "--all", "--src-tls-verify=false", "--remove-signatures", &from, &to];
        self.command(&self.programs.skopeo18, &[&options[..], &copy[..]].concat())
    }

    /// `cosign verify` with a public key and no log, by either edition.
    pub(crate) fn cosign_verifies(&self, edition: u8, public_key: &Path, image: &str) -> Ran {
        let program = if edition == 2 { &self.programs.cosign2 } else { &self.programs.cosign3 };
        let key = public_key.to_str().unwrap();
        self.command(program, &["verify", "--insecure-ignore-tlog", "--key", key, image])
    }
}
