//! A registry with three tokens, and a folder with a login for each.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use pitlane_registry::{
    Access, CollectOptions, Collected, PushToken, Registry, RegistryConfig, check,
    listen::BoundedListener, router,
};
use pitlane_release::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The token that may do everything; the name of its login.
pub(crate) const ADMIN: &str = "admin";
/// Pushes below `cars/`.
pub(crate) const CI: &str = "ci";
/// Deletes below `cars/`.
pub(crate) const JANITOR: &str = "janitor";
/// A login that is wrong.
pub(crate) const WRONG: &str = "wrong";
/// No login.
pub(crate) const NOBODY: &str = "nobody";

/// The password of a login.
pub(crate) fn token(who: &str) -> String {
    format!("{who}-token-0123456789")
}

/// A registry in this process and a folder for its clients.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) host: String,
    registry: Arc<Registry>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Everybody may pull what lies below `public/`.
    pub(crate) fn start() -> Self {
        Self::with("public/*")
    }

    /// `public`: what everybody may pull.
    pub(crate) fn with(public: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RegistryConfig::new(dir.path().join("registry"));
        config.push_token = Some(PushToken::new(&token(ADMIN)).unwrap());
        config.allow_delete = true;
        let hash = |who| Digest::of(token(who)).hex();
        let access = format!(
            "apiVersion: pitlane.dev/v1\nkind: RegistryTokens\nanonymousPull: [{public}]\ntokens:\n\
             - {{name: ci, sha256: {}, rights: [push], repositories: [cars/*]}}\n\
             - {{name: janitor, sha256: {}, rights: [pull, delete], repositories: [cars/*]}}\n",
            hash(CI),
            hash(JANITOR)
        );
        config.access = Access::parse(&access).unwrap();
        let registry = Arc::new(Registry::open(config).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let served = Arc::clone(&registry);
        let host = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let host = listener.local_addr().unwrap().to_string();
            let listener = BoundedListener::new(listener, 64, Duration::from_mins(1));
            tokio::spawn(async move { axum::serve(listener, router(served)).await });
            host
        });
        let world = Self { dir, host, registry, runtime };
        for who in [ADMIN, CI, JANITOR, WRONG] {
            let password = if who == WRONG { "wrong-wrong-wrong-wrong".into() } else { token(who) };
            world.login(who, &password);
        }
        fs::create_dir(world.path(NOBODY)).unwrap();
        fs::write(world.path(NOBODY).join("config.json"), "{}").unwrap();
        world.layer("first", 1);
        world.layer("second", 2);
        world
    }

    /// A login as `docker login` leaves it.
    fn login(&self, who: &str, password: &str) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        fs::create_dir(self.path(who)).unwrap();
        let auth = STANDARD.encode(format!("{who}:{password}"));
        let config = json!({ "auths": { &self.host: { "auth": auth } } });
        fs::write(self.path(who).join("config.json"), config.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// A tar of one file that nothing else contains.
    fn layer(&self, name: &str, fill: u8) {
        let folder = self.path(&format!("{name}.d"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("model.bin"), vec![fill; 2_000_000]).unwrap();
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--mtime=@0", "-cf"]).arg(self.path(&format!("{name}.tar")));
        assert!(command.arg("-C").arg(folder).arg(".").status().unwrap().success());
    }

    /// Runs a client with somebody's login.
    pub(crate) fn run(&self, who: &str, program: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("DOCKER_CONFIG", self.path(who)).env("HOME", self.dir.path());
        command.env("REGISTRY_AUTH_FILE", self.path(who).join("config.json"));
        command.env("COSIGN_PASSWORD", "").env("XDG_RUNTIME_DIR", self.dir.path());
        command.output().unwrap()
    }

    /// The stdout of a client that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, who: &str, program: &Path, args: &[&str]) -> String {
        let out = self.run(who, program, args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = program.display();
        assert!(out.status.success(), "{who}: {shown} {args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// What a client says that must fail.
    #[track_caller]
    pub(crate) fn fails(&self, who: &str, program: &Path, args: &[&str]) -> String {
        let out = self.run(who, program, args);
        let said = [out.stderr, out.stdout].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!out.status.success(), "{who}: {} {args:?} should fail: {said}", program.display());
        assert!(!said.contains(&token(ADMIN)) && !said.contains(&token(CI)), "a token is shown");
        said
    }

    /// Removes everything that has no tag and belongs to nothing that has one, at once.
    pub(crate) fn collect(&self) -> Collected {
        let (grace, untagged) = (Duration::ZERO, Some(Duration::ZERO));
        let options = CollectOptions { grace, untagged, dry_run: false };
        let registry = Arc::clone(&self.registry);
        let nothing = || Ok(HashSet::new());
        thread::spawn(move || registry.collect(&options, &nothing)).join().unwrap().unwrap()
    }

    /// Ends the registry; its folder must be as it has to be.
    pub(crate) fn end(self) {
        let Self { dir, registry, runtime, .. } = self;
        runtime.shutdown_timeout(Duration::from_secs(5));
        assert!(Arc::into_inner(registry).is_some(), "a connection holds the registry");
        assert_eq!(check(&dir.path().join("registry")).unwrap(), [""; 0]);
    }
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A program from target/peers or the system; where it is missing, says so.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found =
        std::iter::once(peers).chain(system).map(|dir| dir.join(name)).find(|f| f.is_file());
    if found.is_none() {
        skip(&format!("{name} is missing: run scripts/peers.sh"));
    }
    found
}

/// Says that something could not be tested here; CI must be able to test everything.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but {why}");
    eprintln!("SKIP: {why}");
}
