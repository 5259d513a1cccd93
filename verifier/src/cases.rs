//! Cases for a policy: images with the verdict that is wanted.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pitlane_fetch::{Layout, Registry, RegistryOptions, Source, gather};
use pitlane_release::{Floor, ImageRef, Platform, Policy, Question, admit, yaml};
use serde::{Deserialize, Serialize};

/// Largest file of cases read (bytes).
const MAX_FILE: usize = 256 * 1024;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    cases: Vec<Case>,
    #[serde(skip)]
    dir: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    name: Option<String>,
    image: String,
    want: String,
    #[serde(default)]
    layout: Option<PathBuf>,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    floor: u64,
    #[serde(default)]
    at: Option<jiff::Timestamp>,
}

/// How a case came out.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// The case's name, or its image.
    pub name: String,
    /// What was wanted.
    pub want: String,
    /// What came out: `admitted`, `warned`, a refusal's code, `covered` or `not-covered`.
    pub found: String,
    /// Whether they are the same.
    pub right: bool,
    /// The failed check's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl CaseResult {
    /// A line for people.
    pub fn line(&self) -> String {
        let mark = if self.right { "ok  " } else { "FAIL" };
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        match self.right {
            true => format!("{mark} {}: {}{why}", self.name, self.found),
            false => format!("{mark} {}: want {}, found {}{why}", self.name, self.want, self.found),
        }
    }
}

impl Cases {
    /// Reads a file of cases.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{shown}: cannot be read"))?;
        let mut cases: Self = yaml::read(&text, MAX_FILE)
            .with_context(|| format!("{shown}: not a file of cases (docs/policy.md)"))?;
        file.parent().unwrap_or(Path::new(".")).clone_into(&mut cases.dir);
        Ok(cases)
    }

    /// Judges every case.
    ///
    /// # Errors
    /// When an image cannot be fetched: that decides nothing.
    pub async fn run(
        &self,
        policy: &Policy,
        plain_http: &[String],
    ) -> anyhow::Result<Vec<CaseResult>> {
        let mut results = Vec::new();
        for case in &self.cases {
            let judged = self.judge(case, policy, plain_http).await;
            results.push(judged.with_context(|| format!("{}: could not decide", case.image))?);
        }
        Ok(results)
    }

    async fn judge(
        &self,
        case: &Case,
        policy: &Policy,
        plain_http: &[String],
    ) -> anyhow::Result<CaseResult> {
        let image: ImageRef = case.image.parse()?;
        let name = case.name.clone().unwrap_or_else(|| case.image.clone());
        let result = |found: &str, why| {
            let (want, found) = (case.want.clone(), found.to_owned());
            let right = want == found;
            CaseResult { name, want, found, right, why }
        };
        if case.want.ends_with("covered") {
            let found = if policy.covers(&image) { "covered" } else { "not-covered" };
            return Ok(result(found, None));
        }
        let source = if let Some(layout) = &case.layout {
            Source::Layout(Layout::open(&self.dir.join(layout))?)
        } else {
            let plain_http = plain_http.to_vec();
            let options = RegistryOptions { plain_http, credentials: None };
            Source::Registry(Registry::new(options)?)
        };
        let platform = case.platform.or_else(Platform::host).context("say which `platform`")?;
        let evidence = gather(&source, policy, &image, platform).await?;
        let now = case.at.unwrap_or_else(jiff::Timestamp::now);
        let question = Question { image: &image, platform, floor: Floor(case.floor), now };
        let verdict = admit(policy, &question, &evidence);
        Ok(match &verdict.answer {
            Ok(_) => result("admitted", None),
            Err(refusal) if verdict.allowed() => result("warned", Some(refusal.to_string())),
            Err(refusal) => result(refusal.code(), Some(refusal.to_string())),
        })
    }
}
