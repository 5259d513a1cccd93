//! The sigstore conformance suite's bundles, through the program, as its own runner does.
//!
//! Cases come from `conformance/bundle-verify` and `bundle-extra` in the shared data. Every folder
//! is a case; one whose name ends in `_fail` must be refused, others must verify, both by path and
//! by digest. A crash, a signal, a time-out or an undecided answer is never a correct refusal.

#[cfg(test)]
mod cases {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use pitlane_release::Digest;

    /// Longest one verification may take; it needs a hundredth of it.
    const LIMIT: Duration = Duration::from_secs(10);
    /// How often the program is looked at.
    const LOOK: Duration = Duration::from_millis(2);
    /// Fewer cases mean that the data is not all there.
    const LEAST: usize = 40;
    /// The suite's defaults (`test/client.py`).
    const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";

    /// The shared data, or why there is none.
    fn shared() -> Option<PathBuf> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let dir = env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
        let dir = dir.join("conformance");
        if dir.is_dir() {
            return Some(dir);
        }
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "CI=true, but {} is missing: set PITLANE_SHARED",
            dir.display()
        );
        eprintln!("SKIP: {} is missing (set PITLANE_SHARED)", dir.display());
        None
    }

    struct Case {
        name: String,
        accept: bool,
        dir: PathBuf,
        artifact: Option<PathBuf>,
        digest: String,
    }

    impl Case {
        fn open(dir: PathBuf) -> Self {
            let name = dir.file_name().unwrap().to_string_lossy().into_owned();
            let own = dir.join("artifact");
            let artifact = if own.exists() { own } else { dir.join("../a.txt") };
            let artifact = (!dir.join("digest").exists()).then_some(artifact);
            let digest = match &artifact {
                Some(file) => Digest::of(fs::read(file).unwrap()).to_string(),
                None => fs::read_to_string(dir.join("digest")).unwrap().trim().to_owned(),
            };
            Self { accept: !name.ends_with("_fail"), name, dir, artifact, digest }
        }

        fn text(&self, name: &str, default: &str) -> String {
            let text = fs::read_to_string(self.dir.join(name));
            text.map_or_else(|_| default.to_owned(), |text| text.trim_end().to_owned())
        }

        /// The command line, with the options in the protocol's order.
        fn command(&self, subject: &str) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pitlane-verifier"));
            command.arg("verify-bundle").arg("--bundle").arg(self.dir.join("bundle.sigstore.json"));
            let key = self.dir.join("key.pub");
            let both = self.name.contains("managed-key-and-client-identity");
            if key.exists() {
                command.arg("--key").arg(key);
            }
            if both || !self.dir.join("key.pub").exists() {
                command.arg("--certificate-identity").arg(self.text("identity", IDENTITY));
                command.arg("--certificate-oidc-issuer").arg(self.text("issuer", ISSUER));
            }
            let root = self.dir.join("trusted_root.json");
            if root.exists() {
                command.arg("--trusted-root").arg(root);
            }
            command.arg(subject);
            command
        }

        /// What is wrong with the answer; nothing when it is right.
        fn judge(&self, subject: &str) -> Option<String> {
            let (code, said) = run(self.command(subject));
            // Two kinds of signer at once are no question; the suite counts that as refused.
            let usage = self.name.contains("managed-key-and-client-identity") && code == Some(2);
            let right = code == Some(if self.accept { 0 } else { 10 }) || usage;
            (!right).then(|| format!("{} ({subject}): {code:?}\n{said}", self.name))
        }
    }

    /// The exit code (none: a signal, or past the limit) and what was printed.
    fn run(mut command: Command) -> (Option<i32>, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > LIMIT {
                child.kill().unwrap();
            }
            std::thread::sleep(LOOK);
        }
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    fn cases(dir: &Path) -> Vec<Case> {
        let mut dirs: Vec<PathBuf> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        dirs.retain(|dir| dir.join("bundle.sigstore.json").exists());
        dirs.sort();
        dirs.into_iter().map(Case::open).collect()
    }

    #[test]
    fn conformance_suite() {
        let Some(shared) = shared() else { return };
        let mut cases = cases(&shared.join("bundle-verify"));
        cases.extend(self::cases(&shared.join("bundle-extra")));
        assert!(cases.len() >= LEAST, "only {} cases in {}", cases.len(), shared.display());
        let (mut runs, mut wrong) = (0, Vec::new());
        for case in &cases {
            let path = case.artifact.as_ref().map(|file| file.to_string_lossy().into_owned());
            for subject in [path.as_deref(), Some(case.digest.as_str())].into_iter().flatten() {
                runs += 1;
                wrong.extend(case.judge(subject));
            }
        }
        let accepted = cases.iter().filter(|case| case.accept).count();
        eprintln!(
            "{} cases ({accepted} to accept), {runs} runs, {} wrong",
            cases.len(),
            wrong.len()
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
