//! trivy and grype over a checkout: arguments, versions, where they are. Pure but for `find`.
//!
//! Sources: trivy's and grype's command line references and `grype`'s configuration reference.
//! The jail clears the environment, so everything is an argument or a file.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::sandbox::Places;

/// The report, in the scanner's own folder.
pub const REPORT: &str = "report.json";
/// grype's configuration, in its own folder.
pub const GRYPE_CONFIG: &str = "grype.yaml";

/// A scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanner {
    /// Aqua's trivy.
    Trivy,
    /// Anchore's grype.
    Grype,
}

impl Scanner {
    /// The program's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trivy => "trivy",
            Self::Grype => "grype",
        }
    }

    /// The oldest version whose arguments are those below: `--skip-java-db-update` and
    /// `--scanners` of trivy, `db.auto-update` and `--file` of grype.
    pub const fn oldest(self) -> (u64, u64, u64) {
        match self {
            Self::Trivy => (0, 50, 0),
            Self::Grype => (0, 70, 0),
        }
    }

    /// Asks for the version.
    pub fn version_argv(self, places: &Places) -> Vec<String> {
        vec![places.tool.clone(), "--version".into()]
    }

    /// Scans the checkout into [`REPORT`].
    pub fn scan_argv(self, places: &Places, offline: bool) -> Vec<String> {
        let Places { src, work, tool, data } = places;
        let report = format!("{work}/{REPORT}");
        let mut argv: Vec<String> = vec![tool.clone()];
        let mut add = |words: &[&str]| argv.extend(words.iter().map(|&word| word.to_owned()));
        match self {
            Self::Trivy => {
                add(&["filesystem", "--quiet", "--no-progress", "--scanners", "vuln"]);
                add(&["--cache-dir", data, "--format", "json", "--output", &report]);
                // The rules decide, not the scanner: everything is told, and that is no error.
                add(&["--exit-code", "0"]);
                if offline {
                    add(&["--offline-scan", "--skip-db-update", "--skip-java-db-update"]);
                }
                add(&[src]);
            }
            Self::Grype => {
                add(&["--quiet", "--config", &format!("{work}/{GRYPE_CONFIG}")]);
                add(&["--output", "json", "--file", &report, &format!("dir:{src}")]);
            }
        }
        argv
    }

    /// A file that it needs in its own folder: name and text.
    pub fn file(self, places: &Places, offline: bool) -> Option<(&'static str, String)> {
        match self {
            Self::Trivy => None,
            Self::Grype => {
                let update = !offline;
                // JSON is YAML, and quotes the path.
                let text = serde_json::json!({
                    "check-for-app-update": false,
                    "db": {
                        "cache-dir": places.data,
                        "auto-update": update,
                        // An old database finds less: it is refused, as grype does by default.
                        "validate-age": true,
                    },
                });
                Some((GRYPE_CONFIG, text.to_string()))
            }
        }
    }

    /// Checks what it said to `--version`.
    pub fn check_version(self, said: &str) -> Result<String, String> {
        let name = self.name();
        let version = said.lines().find_map(|line| {
            let rest = match self {
                Self::Trivy => line.strip_prefix("Version:")?,
                Self::Grype => line.strip_prefix("grype ")?,
            };
            Some(rest.trim().trim_start_matches('v').to_owned())
        });
        let Some(version) = version else {
            let said = crate::text::line(said, 120);
            return Err(format!("`{name} --version` says no version: `{said}`"));
        };
        let (major, minor, patch) = self.oldest();
        match numbers(&version) {
            None => Err(format!("{name} {}: no version", crate::text::line(&version, 40))),
            Some(found) if found < self.oldest() => {
                Err(format!("{name} {version} is too old, want {major}.{minor}.{patch} or newer"))
            }
            Some(_) => Ok(version),
        }
    }
}

/// The three numbers of `1.2.3-rc1+x`.
fn numbers(version: &str) -> Option<(u64, u64, u64)> {
    let core = version.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse().ok());
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// The program of this name in the folders of a `PATH`.
pub fn find(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    let program = |folder: PathBuf| {
        let file = folder.join(name);
        let found = std::fs::metadata(&file).ok()?;
        let runs = found.is_file() && found.permissions().mode() & 0o111 != 0;
        // A relative folder means another program in another folder.
        (runs && Path::is_absolute(&file)).then_some(file)
    };
    std::env::split_paths(path).find_map(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        use Scanner::{Grype, Trivy};
        for (scanner, said, good) in [
            (Trivy, "Version: 0.58.1\nVulnerability DB:\n  Version: 2\n", true),
            (Trivy, "Version: 0.49.1\n", false),
            (Trivy, "Version: 1.0.0\n", true),
            (Trivy, "Version: dev\n", false),
            (Trivy, "trivy 0.58.1\n", false),
            (Trivy, "", false),
            (Grype, "grype 0.79.3\n", true),
            (Grype, "grype v0.80.0-rc1\n", true),
            (Grype, "grype 0.69.9\n", false),
            (Grype, "grype 0.79\n", false),
            (Grype, "grype 0.79.3.4\n", false),
        ] {
            assert_eq!(scanner.check_version(said).is_ok(), good, "{said}");
        }
    }

    #[test]
    fn arguments_of_each() {
        let at = |name: &str| format!("/{name}");
        let places = Places { src: at("src"), work: at("out"), tool: at("tool"), data: at("data") };
        assert_eq!(
            Scanner::Trivy.scan_argv(&places, true).join(" "),
            "/tool filesystem --quiet --no-progress --scanners vuln --cache-dir /data --format json \
             --output /out/report.json --exit-code 0 --offline-scan --skip-db-update \
             --skip-java-db-update /src"
        );
        assert!(!Scanner::Trivy.scan_argv(&places, false).contains(&"--offline-scan".into()));
        assert_eq!(
            Scanner::Grype.scan_argv(&places, true).join(" "),
            "/tool --quiet --config /out/grype.yaml --output json --file /out/report.json dir:/src"
        );
        let (name, text) = Scanner::Grype.file(&places, true).unwrap();
        assert_eq!(name, "grype.yaml");
        assert!(text.contains(r#""auto-update":false"#) && text.contains(r#""cache-dir":"/data""#));
    }

    #[test]
    fn programs_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trivy");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(find("trivy", &path), None, "not executable");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("trivy", &path), Some(file));
        assert_eq!(find("trivy", "relative".as_ref()), None);
    }
}
