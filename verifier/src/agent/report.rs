//! Tells the pipeline's service how releases stand on this car, where the configuration names one.
//!
//! A word is about now: only the newest counts, a lost one is made up for by the next, and a
//! service that is away holds nothing up. Nothing that comes back is believed: the car only talks.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::diary::{Decision, Diary};

/// Longest that one try may take.
const TRY: Duration = Duration::from_secs(10);
/// Pauses after a try that failed: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// The same word is said again after this long: the service may have been set up anew.
const AGAIN: Duration = Duration::from_mins(5);
/// Largest token file (bytes).
const MAX_TOKEN: usize = 4096;
/// Outcomes of the diary that say that nothing was decided, or that the car went back.
const BLOCKED: [&str; 4] = ["error", "unhealthy", "stopped", "safety-stop"];

/// Where a car reports to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportTo {
    /// The service's API, `https://…`; plain `http://` to this machine alone, unless `plainHttp`.
    pub url: String,
    /// File with this car's token; mode 0600.
    pub token_file: PathBuf,
    /// Certificates (PEM) that are trusted instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether the token may travel without TLS.
    #[serde(default)]
    pub plain_http: bool,
}

/// What the service is told (docs/gitops.md, "Cars").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    state: &'static str,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What is to be told as things stand: a no about the newest wish comes before what drives.
pub fn word(diary: &Diary) -> Option<Word> {
    let no = diary.decisions.back().and_then(no);
    if no.is_some() {
        return no;
    }
    let driving = diary.driving.as_ref()?;
    let state = if driving.confirmed { "confirmed" } else { "driving" };
    let (image, counter) = (driving.image.clone(), Some(driving.counter));
    Some(Word { state, image, counter, code: None, message: None })
}

/// A decision as a no, if it is one about an image.
fn no(decision: &Decision) -> Option<Word> {
    let Decision { image, outcome, message, .. } = decision;
    if matches!(outcome.as_str(), "admitted" | "confirmed") || !image.contains('@') {
        return None;
    }
    let state = if BLOCKED.contains(&outcome.as_str()) { "blocked" } else { "refused" };
    let (code, message) = (Some(outcome.clone()), Some(message.clone()));
    Some(Word { state, image: image.clone(), counter: None, code, message })
}

/// The task that tells; it ends with the value.
#[derive(Debug)]
pub struct Reporter {
    word: watch::Sender<Option<Word>>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Reads the token and starts the task, within a Tokio runtime.
    pub fn start(to: &ReportTo) -> anyhow::Result<Self> {
        let sender = Sender::new(to)?;
        let (word, heard) = watch::channel(None);
        Ok(Self { word, task: tokio::spawn(sender.run(heard)) })
    }

    /// This is how things stand.
    pub fn tell(&self, word: Option<Word>) {
        self.word.send_if_modified(|told| {
            let news = word.is_some() && *told != word;
            if news {
                *told = word;
            }
            news
        });
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sender {
    http: reqwest::Client,
    url: reqwest::Url,
    token: String,
}

impl Sender {
    fn new(to: &ReportTo) -> anyhow::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let base = to.url.trim_end_matches('/');
        let url: reqwest::Url =
            format!("{base}/cars/status").parse().context("field `report.url`: no address")?;
        let local = url.host_str().is_some_and(pitlane_fetch::registry::is_loopback);
        if url.scheme() != "https" && !local && !to.plain_http {
            bail!(
                "field `report.url`: the token would travel without TLS; use https, or set `plainHttp`"
            );
        }
        let shown = to.token_file.display();
        let meta = std::fs::metadata(&to.token_file).with_context(|| shown.to_string())?;
        if meta.mode() & 0o077 != 0 {
            bail!("{shown}: others may read this token; run chmod 600 {shown}");
        }
        let text = std::fs::read_to_string(&to.token_file).with_context(|| shown.to_string())?;
        let token = text.trim().to_owned();
        if token.is_empty() || token.len() > MAX_TOKEN {
            bail!("{shown}: holds no token");
        }
        let mut http = reqwest::Client::builder()
            .timeout(TRY)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("pitlane-verifier");
        if local && url.scheme() == "http" {
            http = http.tls_certs_only([]).no_proxy();
        } else if let Some(file) = &to.ca_file {
            let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)?;
            http = http.tls_certs_only(roots);
        }
        Ok(Self { http: http.build()?, url, token })
    }

    async fn run(self, mut heard: watch::Receiver<Option<Word>>) {
        let mut pause = PAUSE;
        loop {
            let word = heard.borrow_and_update().clone();
            let wait = match &word {
                None => AGAIN,
                Some(word) => match self.say(word).await {
                    Ok(()) => {
                        pause = PAUSE;
                        AGAIN
                    }
                    Err(error) => {
                        let now = pause;
                        pause = pause.saturating_mul(2).min(LONGEST);
                        tracing::debug!("not reported: {error:#}");
                        now
                    }
                },
            };
            tokio::select! {
                changed = heard.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    async fn say(&self, word: &Word) -> anyhow::Result<()> {
        let request = self.http.post(self.url.clone()).bearer_auth(&self.token);
        let request = request.header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(word)?);
        let status = request.send().await?.status();
        anyhow::ensure!(status.is_success(), "the service answered {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::diary::Driving;

    const IMAGE: &str = "r.example/car@sha256:1";

    fn diary(outcomes: &[&str], confirmed: Option<bool>) -> Diary {
        let driving = confirmed.map(|confirmed| Driving {
            image: "r.example/car@sha256:0".into(),
            counter: 3,
            container: "c".into(),
            confirmed,
            status: serde_json::Value::Null,
        });
        let decision = |outcome: &&str| Decision::new("c", IMAGE, outcome, "why".into());
        Diary { driving, floor: 3, decisions: outcomes.iter().map(decision).collect() }
    }

    #[test]
    fn the_newest_word_is_told() {
        let state = |outcomes: &[&str], confirmed| {
            word(&diary(outcomes, confirmed)).map(|word| (word.state, word.image, word.code))
        };
        let old = "r.example/car@sha256:0".to_owned();
        assert_eq!(state(&[], None), None);
        assert_eq!(state(&["admitted"], Some(false)), Some(("driving", old.clone(), None)));
        assert_eq!(state(&["admitted", "confirmed"], Some(true)), Some(("confirmed", old, None)));
        let no = |outcome: &str| Some(outcome.to_owned());
        // While an older release drives on.
        let refused = state(&["confirmed", "signature"], Some(true));
        assert_eq!(refused, Some(("refused", IMAGE.into(), no("signature"))));
        for outcome in BLOCKED {
            let blocked = state(&[outcome], Some(true));
            assert_eq!(blocked, Some(("blocked", IMAGE.into(), no(outcome))));
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, "t\n").unwrap();
        let to = |url: &str| ReportTo {
            url: url.into(),
            token_file: token_file.clone(),
            ca_file: None,
            plain_http: false,
        };
        let mode = |bits| std::fs::set_permissions(&token_file, PermissionsExt::from_mode(bits));
        mode(0o644).unwrap();
        assert!(Reporter::start(&to("https://lane.example")).is_err(), "others may read it");
        mode(0o600).unwrap();
        assert!(Reporter::start(&to("https://lane.example")).is_ok());
        assert!(Reporter::start(&to("http://127.0.0.1:9011/")).is_ok());
        assert!(Reporter::start(&to("http://lane.example")).is_err(), "no TLS");
        assert!(
            Reporter::start(&ReportTo { plain_http: true, ..to("http://lane.example") }).is_ok()
        );
        assert!(Reporter::start(&to("lane")).is_err());
    }
}
