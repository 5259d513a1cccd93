//! `pitlane-github-lab`: a lab as a program, for scripts and trials by hand.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use pitlane_github_lab::{Form, Lab};

/// What the App and the token may do.
const GRANTED: &str = "checks=write contents=write deployments=write metadata=read \
                       pull_requests=write repository_hooks=write statuses=write";
/// How often deliveries are sent.
const EVERY: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let usage = "usage: pitlane-github-lab --dir OUT --repository OWNER/NAME [--hook URL SECRET]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folder, repository, hook) = match words.as_slice() {
        ["--dir", folder, "--repository", name] => (PathBuf::from(folder), *name, None),
        ["--dir", folder, "--repository", name, "--hook", url, secret] => {
            (PathBuf::from(folder), *name, Some((*url, *secret)))
        }
        _ => anyhow::bail!(usage),
    };
    let lab = Lab::start(&folder)?;
    lab.repository(repository, true)?;
    let app = lab.app(GRANTED, &[repository])?;
    let key = folder.join("app.pem");
    let mut options = std::fs::OpenOptions::new();
    // As private as the service wants it.
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&key);
    let written = file.and_then(|mut file| file.write_all(app.pem.as_bytes()));
    written.with_context(|| key.display().to_string())?;
    if let Some((url, secret)) = hook {
        lab.hook(repository, url, secret, Form::Json)?;
    }
    lab.deliver_always(EVERY);
    // One line, which says that it is ready.
    let line = serde_json::json!({
        "listening": true, "api": lab.url(), "enterpriseApi": lab.enterprise_api(),
        "cloneUrl": lab.clone_url(repository), "pushUrl": format!("{}/_lab/push", lab.url()), "appId": app.id,
        "installation": app.installation, "appKey": key,
        "token": lab.token(GRANTED, &[repository]),
    });
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").context("stdout")?;
    stdout.flush()?;
    // Until it is ended.
    loop {
        std::thread::park();
    }
}
