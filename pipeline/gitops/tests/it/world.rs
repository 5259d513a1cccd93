//! A GitOps repository on this disk, the people who work in it, and releases to promote.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_gitops::{
    Candidate, Environment, Forge, Outcome, PlainGit, Promote, PromoteError, Promoter, Promotion,
};
use pitlane_release::{Counter, Digest, yaml};

/// Name of the repository that releases are pushed to.
pub(crate) const REPOSITORY: &str = "r.example:5000/team/car";

/// A bare repository, and a clone that a person works in.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Promote,
}

impl World {
    /// With these files on `main`.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("copies")).unwrap();
        let bare = dir.path().join("gitops.git");
        git(dir.path(), &["init", "--quiet", "--bare", "-b", "main", "gitops.git"]);
        git(dir.path(), &["clone", "--quiet", "gitops.git", "person"]);
        let config =
            config(&format!("url: {}\nfile: car/kustomization.yaml\nimage: car\n", bare.display()));
        let world = Self { dir, config };
        for (path, text) in files {
            world.write(path, text);
        }
        world.person(&["checkout", "--quiet", "-B", "main"]);
        world.push("Start");
        world
    }

    /// With the kustomization that most tests promote into.
    pub(crate) fn new() -> Self {
        Self::with(&[("car/kustomization.yaml", &kustomization(&[("car", '0')]))])
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.dir.path().join("gitops.git")
    }

    pub(crate) fn copies(&self) -> PathBuf {
        self.dir.path().join("copies")
    }

    /// git as a person in the clone.
    pub(crate) fn person(&self, args: &[&str]) -> String {
        git(&self.dir.path().join("person"), args)
    }

    /// git in the bare repository.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.bare(), args)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("person").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A person commits everything and pushes.
    pub(crate) fn push(&self, message: &str) {
        self.person(&["add", "--all"]);
        self.person(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.person(&["push", "--quiet", "origin", "HEAD:main"]);
    }

    /// A person fetches what came.
    pub(crate) fn pull(&self) {
        self.person(&["fetch", "--quiet", "origin"]);
        self.person(&["reset", "--quiet", "--hard", "origin/main"]);
    }

    /// A file on `main`.
    pub(crate) fn read(&self, path: &str) -> String {
        self.git(&["show", &format!("main:{path}")])
    }

    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "main"])
    }

    pub(crate) fn count(&self) -> usize {
        self.git(&["rev-list", "--count", "main"]).parse().unwrap()
    }

    /// The only environment.
    pub(crate) fn only(&self) -> Environment {
        self.config.environments().remove(0)
    }

    pub(crate) async fn promote(&self, counter: u64) -> Promotion {
        self.try_promote(&candidate(counter)).await.unwrap()
    }

    pub(crate) async fn try_promote(
        &self,
        candidate: &Candidate,
    ) -> Result<Promotion, PromoteError> {
        self.promote_by(&PlainGit, candidate).await
    }

    pub(crate) async fn promote_by(
        &self,
        forge: &impl Forge,
        candidate: &Candidate,
    ) -> Result<Promotion, PromoteError> {
        let promoter = Promoter { config: &self.config, forge, dir: &self.copies() };
        let promotion = promoter.promote(&self.only(), candidate).await;
        let left = fs::read_dir(self.copies()).unwrap().count();
        assert_eq!(left, 0, "copies are left over");
        promotion
    }
}

pub(crate) fn config(text: &str) -> Promote {
    let config: Promote = yaml::read(text, 10_000).unwrap();
    config.check().unwrap();
    config
}

/// A kustomization with these images, each at the digest of one digit.
pub(crate) fn kustomization(images: &[(&str, char)]) -> String {
    let entries = images.iter().map(|(name, digit)| {
        let digest = digit.to_string().repeat(64);
        format!("  # releases of {name}\n  - name: {name}\n    newName: {REPOSITORY}\n    digest: sha256:{digest} # by Pitlane\n")
    });
    format!("kind: Kustomization # keep me\nimages:\n{}", entries.collect::<String>())
}

/// A release with this counter; its image's digest is that of the counter's text.
pub(crate) fn candidate(counter: u64) -> Candidate {
    let repository: pitlane_release::Repository = REPOSITORY.parse().unwrap();
    Candidate {
        car_kind: "donkeycar".parse().unwrap(),
        source: "team/donkeycar".parse().unwrap(),
        tag: format!("v{counter}.0.0").parse().unwrap(),
        commit: "1".repeat(40).parse().unwrap(),
        counter: Counter::new(counter).unwrap(),
        image: repository.pin(digest(counter)),
        platforms: BTreeMap::new(),
        model: Digest::of("model"),
        run: format!("run-{counter}"),
        rollback: false,
        drives: Vec::new(),
    }
}

pub(crate) fn digest(counter: u64) -> Digest {
    Digest::of(counter.to_string())
}

/// The commit of a promotion that was made or found.
pub(crate) fn commit_of(promotion: &Promotion) -> &str {
    match &promotion.outcome {
        Outcome::Committed { commit } | Outcome::Proposed { commit, .. } => commit,
        other => panic!("no commit: {other:?}"),
    }
}

/// Why a promotion was held.
pub(crate) fn held(promotion: &Promotion) -> &'static str {
    match &promotion.outcome {
        Outcome::Held { held } => held.code(),
        other => panic!("not held: {other:?}"),
    }
}

/// git as a person has it, without this machine's settings.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let ran = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org"])
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "git {args:?}: {said}");
    String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
}
