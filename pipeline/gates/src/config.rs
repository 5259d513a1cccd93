//! A gate as the operator writes it in a pipeline file (docs/gates.md).

use std::path::{Component, Path, PathBuf};

use pitlane_release::{Digest, PinnedImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{report::Format, rules::Rules, secrets::SecretsGate};

/// Most gates of a pipeline.
pub const MAX_GATES: usize = 32;
/// Most arguments of a command.
pub const MAX_ARGUMENTS: usize = 256;
/// Longest time that a gate may be given (seconds).
pub const MAX_WALL: u64 = 4 * 3600;

/// The gates of a pipeline, in order; all of them run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Gates(pub Vec<Gate>);

/// One gate: exactly one of `command`, `image`, `trivy`, `grype` and `secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    /// Its name: lower-case letters, digits and `-`.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// A program of the pipeline's machine.
    #[serde(default)]
    pub command: Option<CommandGate>,
    /// A program of a container image.
    #[serde(default)]
    pub image: Option<ImageGate>,
    /// trivy over the checkout.
    #[serde(default)]
    pub trivy: Option<ScannerGate>,
    /// grype over the checkout.
    #[serde(default)]
    pub grype: Option<ScannerGate>,
    /// Our own scanner for secrets in the checkout.
    #[serde(default)]
    pub secrets: Option<SecretsGate>,
    /// How findings become an answer.
    #[serde(default)]
    pub rules: Rules,
    /// What the program may use.
    #[serde(default)]
    pub limits: Limits,
}

/// A program of the pipeline's machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandGate {
    /// The program, an absolute path, and its arguments; no shell. `{src}` stands for the
    /// checkout, `{work}` for the program's own folder, where it starts.
    pub argv: Vec<String>,
    /// The report that it writes.
    pub report: ReportFile,
    /// Exit codes that are in order; others are a no, whatever the report says.
    #[serde(default = "zero")]
    pub exit_codes: Vec<i32>,
}

/// A program of a container image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageGate {
    /// The image, by digest.
    pub image: PinnedImage,
    /// As for `command`; the program is a path in the image.
    pub argv: Vec<String>,
    /// The report that it writes.
    pub report: ReportFile,
    /// As for `command`.
    #[serde(default = "zero")]
    pub exit_codes: Vec<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// A report in the program's own folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportFile {
    /// Its format.
    pub format: Format,
    /// Its path in the program's own folder.
    pub path: PathBuf,
}

/// A scanner over the checkout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScannerGate {
    /// The program; found on the `PATH` when absent.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// Its database: trivy's cache folder, grype's database folder. Shown to it read-only.
    pub database: PathBuf,
    /// Whether it must not ask anybody for anything. On: the jail has no network.
    #[serde(default = "yes")]
    pub offline: bool,
}

fn yes() -> bool {
    true
}

/// What a gate's program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds by the wall clock, for the whole gate.
    #[schemars(range(min = 1, max = 14400))]
    pub wall_seconds: u64,
    /// Seconds of processor time.
    pub cpu_seconds: u64,
    /// Address space in MiB; programs in Go reserve much more than they use.
    pub memory_mib: u64,
    /// Threads at one time.
    pub threads: u64,
    /// Open files.
    pub open_files: u64,
    /// Largest file that it can write, in MiB.
    pub file_size_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_seconds: 600,
            cpu_seconds: 1200,
            memory_mib: 8192,
            threads: 128,
            open_files: 1024,
            file_size_mib: 256,
        }
    }
}

/// Why a gate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `gates.{field}`: {why}")]
pub struct ConfigError {
    field: String,
    why: String,
}

impl Gates {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: String, why: String| Err(ConfigError { field, why });
        if self.0.len() > MAX_GATES {
            return wrong("len".into(), format!("{} of them, at most {MAX_GATES}", self.0.len()));
        }
        for (number, gate) in self.0.iter().enumerate() {
            let name = &gate.name;
            let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let named = (1..=63).contains(&name.len())
                && name.bytes().all(|b| letter(b) || b == b'-')
                && !name.starts_with('-');
            if !named {
                let why = format!("`{name}`: want at most 63 lower-case letters, digits and -");
                return wrong(format!("{number}.name"), why);
            }
            if self.0[..number].iter().any(|other| other.name == *name) {
                return wrong(format!("{number}.name"), format!("`{name}` twice"));
            }
            if let Err((field, why)) = gate.check() {
                return wrong(format!("{name}.{field}"), why);
            }
        }
        Ok(())
    }

    /// Makes relative paths relative to a folder: that of the pipeline file.
    pub fn rebase(&mut self, dir: &Path) {
        for gate in &mut self.0 {
            for scanner in [&mut gate.trivy, &mut gate.grype].into_iter().flatten() {
                scanner.database = dir.join(&scanner.database);
                scanner.program.iter_mut().for_each(|program| *program = dir.join(&*program));
            }
        }
    }
}

impl Gate {
    /// Digest of what it is, for statements: of its JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Checks one gate: the field, and why.
    pub fn check(&self) -> Result<(), (String, String)> {
        let Self { command, image, trivy, grype, secrets, rules, limits, .. } = self;
        let kinds = [
            command.is_some(),
            image.is_some(),
            trivy.is_some(),
            grype.is_some(),
            secrets.is_some(),
        ];
        if kinds.iter().filter(|is| **is).count() != 1 {
            let why = "want exactly one of command, image, trivy, grype and secrets";
            return Err(("command".into(), why.into()));
        }
        if !(1..=MAX_WALL).contains(&limits.wall_seconds) {
            return Err(("limits.wallSeconds".into(), format!("want 1 to {MAX_WALL}")));
        }
        rules.check().map_err(|(field, why)| (format!("rules.{field}"), why))?;
        if let Some(command) = command {
            program(&command.argv, &command.report)
                .map_err(|(field, why)| (format!("command.{field}"), why))?;
        }
        if let Some(image) = image {
            program(&image.argv, &image.report)
                .map_err(|(field, why)| (format!("image.{field}"), why))?;
        }
        if let Some(secrets) = secrets {
            secrets.check().map_err(|(field, why)| (format!("secrets.{field}"), why))?;
        }
        Ok(())
    }
}

fn program(argv: &[String], report: &ReportFile) -> Result<(), (String, String)> {
    let wrong = |field: &str, why: &str| Err((field.to_owned(), why.to_owned()));
    match argv.first() {
        None => return wrong("argv", "empty; name a program"),
        Some(first) if !first.starts_with('/') => {
            return wrong(
                "argv",
                "the program must be an absolute path; there is no shell or PATH",
            );
        }
        Some(_) => {}
    }
    if argv.len() > MAX_ARGUMENTS {
        return wrong("argv", "too many arguments");
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return wrong("argv", "a zero byte in an argument");
    }
    let plain = report.path.components().all(|part| matches!(part, Component::Normal(_)));
    if report.path.as_os_str().is_empty() || !plain {
        return wrong("report.path", "want a plain path in the program's own folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Gates, String> {
        let gates: Gates =
            pitlane_release::yaml::read(yaml, 20_000).map_err(|error| error.to_string())?;
        gates.check().map_err(|error| error.to_string())?;
        Ok(gates)
    }

    #[test]
    fn the_documented_example_is_read() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gates.md");
        let page = std::fs::read_to_string(page).unwrap();
        let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let yaml = yaml.replace("gates:\n", "");
        let mut gates = parse(&yaml).unwrap();
        assert!(gates.0.len() >= 5);
        gates.rebase(Path::new("/etc/pitlane"));
        let trivy = gates.0.iter().find_map(|gate| gate.trivy.as_ref()).unwrap();
        assert!(trivy.database.is_absolute());
        assert_ne!(gates.0[0].digest(), gates.0[1].digest());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let report = "report: {format: sarif, path: r.sarif}";
        for (yaml, want) in [
            ("- name: a".to_owned(), "exactly one"),
            (
                format!("- name: a\n  secrets: {{}}\n  command: {{argv: [/x], {report}}}"),
                "exactly one",
            ),
            ("- name: A\n  secrets: {}".into(), "lower-case"),
            ("- name: a\n  secrets: {}\n- name: a\n  secrets: {}".into(), "twice"),
            ("- name: a\n  secret: {}".into(), "unknown field"),
            (format!("- name: a\n  command: {{argv: [], {report}}}"), "empty"),
            (format!("- name: a\n  command: {{argv: [sh, -c, x], {report}}}"), "absolute"),
            (
                "- name: a\n  command: {argv: [/x], report: {format: sarif, path: ../r}}".into(),
                "plain",
            ),
            (
                "- name: a\n  command: {argv: [/x], report: {format: sarif, path: /r}}".into(),
                "plain",
            ),
            ("- name: a\n  command: {argv: [/x], report: {format: html, path: r}}".into(), "html"),
            (
                format!("- name: a\n  image: {{image: 'r.example/a:v1', argv: [/x], {report}}}"),
                "pinned",
            ),
            ("- name: a\n  secrets: {}\n  limits: {wallSeconds: 0}".into(), "wallSeconds"),
            (
                "- name: a\n  secrets: {}\n  rules: {max: {critical: 1}}".into(),
                "rules.max.critical",
            ),
            (
                "- name: a\n  secrets: {allow: [{path: a, fingerprint: b, reason: ''}]}".into(),
                "secrets.allow",
            ),
        ] {
            let error = parse(&yaml).unwrap_err();
            assert!(error.contains(want), "{yaml}\n{error}");
        }
    }

    /// `schemas/gates.json` is that of the types; `UPDATE_SCHEMAS=1` writes it anew.
    #[test]
    fn the_schema_is_that_of_the_types() {
        let settings = schemars::generate::SchemaSettings::draft2020_12();
        let schema = settings.into_generator().into_root_schema_for::<Gates>().to_value();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/gates.json");
        if std::env::var_os("UPDATE_SCHEMAS").is_some_and(|value| value == "1") {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        assert!(std::fs::read_to_string(&file).unwrap_or_default() == text, "make schemas");
    }
}
