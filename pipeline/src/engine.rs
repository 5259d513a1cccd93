//! `EngineAt`: where a container engine is, as pipeline files say it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use pitlane_builder::{Builder, Host, HostError, Tls};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lane::StepError;

/// Where Docker listens on this machine.
const LOCAL: &str = "unix:///var/run/docker.sock";

/// A container engine. Who reaches one is root on its machine, so it is the operator's to name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EngineAt {
    /// `unix://PATH`, `tcp://HOST:PORT` (with `tls`) or `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    pub host: String,
    /// The client's files for `tcp://`.
    pub tls: Option<TlsFiles>,
    /// Options of ssh as a file (`ssh -F`), for `ssh://`: keys and known hosts of the service.
    pub ssh_config: Option<PathBuf>,
}

/// Files of a TLS client, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Who signed the engine's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key; mode 0600.
    pub key: PathBuf,
}

impl Default for EngineAt {
    fn default() -> Self {
        Self { host: LOCAL.into(), tls: None, ssh_config: None }
    }
}

impl EngineAt {
    /// Makes its paths absolute.
    pub fn rebase(&mut self, dir: &Path) {
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.ca, &mut tls.cert, &mut tls.key]);
        tls.chain(&mut self.ssh_config).for_each(|path| *path = dir.join(&*path));
    }

    /// The address as the builder knows it; refuses halves and mixtures.
    pub fn host(&self) -> anyhow::Result<Host> {
        let tls = self.tls.as_ref().map(|TlsFiles { ca, cert, key }| Tls {
            ca: ca.clone(),
            cert: cert.clone(),
            key: key.clone(),
        });
        let mut parsed = Host::parse(&self.host, tls).context("field `host`")?;
        match &mut parsed {
            Host::Ssh { config, .. } => config.clone_from(&self.ssh_config),
            _ if self.ssh_config.is_some() => bail!("field `sshConfig` belongs to ssh://"),
            _ => {}
        }
        ensure!(
            self.tls.is_none() || matches!(parsed, Host::Tls { .. }),
            "field `tls` belongs to tcp://"
        );
        Ok(parsed)
    }

    /// Looks at the files that it names.
    pub fn look(&self) -> anyhow::Result<()> {
        self.host()?;
        if let Some(tls) = &self.tls {
            for path in [&tls.ca, &tls.cert] {
                std::fs::metadata(path)
                    .with_context(|| format!("{}: cannot be read", path.display()))?;
            }
            crate::config::read_secret(&tls.key)?;
        }
        if let Some(path) = &self.ssh_config {
            std::fs::metadata(path)
                .with_context(|| format!("{}: cannot be read", path.display()))?;
        }
        Ok(())
    }

    /// Connects, and says in words of a step what is wrong when that fails.
    pub async fn connect(&self) -> Result<Builder, StepError> {
        let wrong = |error: anyhow::Error| {
            let hint = "check the engine's address in the pipeline file (docs/builders.md)";
            StepError::new("engine-address", format!("{error:#}"), hint)
        };
        self.look().map_err(wrong)?;
        let host = self.host().map_err(wrong)?;
        Builder::connect(&host).await.map_err(|error| no_answer(&error))
    }
}

/// An engine that does not answer: it may do so later.
pub(crate) fn no_answer(error: &HostError) -> StepError {
    let hint = "start the engine, or name another under `engine` of the pipeline file";
    StepError::new("engine-unreachable", chain(error), hint).retryable()
}

/// An error with what is below it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        below = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Host> {
        let mut at: EngineAt = pitlane_release::yaml::read(text, 4096)?;
        at.rebase(Path::new("/etc/pitlane"));
        at.host()
    }

    #[test]
    fn addresses_are_read_with_their_files() {
        assert_eq!(read("{}").unwrap(), Host::Unix("/var/run/docker.sock".into()));
        let ssh = read("{ host: 'ssh://me@jetson', sshConfig: ssh.conf }").unwrap();
        let Host::Ssh { config, .. } = ssh else { panic!("{ssh:?}") };
        assert_eq!(config.unwrap(), Path::new("/etc/pitlane/ssh.conf"));
        let tls = "tls: { ca: ca.pem, cert: c.pem, key: /k.pem }";
        let tcp = read(&format!("{{ host: 'tcp://h:2376', {tls} }}")).unwrap();
        let Host::Tls { tls: files, .. } = tcp else { panic!("{tcp:?}") };
        assert_eq!((files.ca, files.key), ("/etc/pitlane/ca.pem".into(), "/k.pem".into()));
        for (text, want) in [
            ("{ host: 'tcp://h:2375' }", "tcp:// needs ca, cert and key"),
            (&*format!("{{ host: 'unix:///s', {tls} }}"), "`tls` belongs to tcp://"),
            ("{ sshConfig: x }", "`sshConfig` belongs to ssh://"),
            ("{ host: 'docker' }", "write unix://, tcp:// or ssh://"),
            ("{ hosts: x }", "hosts"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
