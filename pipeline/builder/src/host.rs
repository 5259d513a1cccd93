//! Where the engine is: a socket of this machine, TLS, or a tunnel of ssh.

use std::path::{Path, PathBuf};

use bollard::{API_DEFAULT_VERSION, Docker};

use crate::tunnel::Tunnel;

/// Seconds for an answer to begin. Builds have their own limit; this one is for a dead host, and
/// has room for a context on its way.
const ANSWER_SECONDS: u64 = 900;
/// Where Docker listens, without another word.
const SOCKET: &str = "/var/run/docker.sock";

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket of this machine: Docker's, or Podman's (`podman system service`).
    Unix(PathBuf),
    /// Docker over TLS, both sides with certificates.
    Tls {
        /// `host:port`.
        address: String,
        /// The certificates.
        tls: Tls,
    },
    /// A socket of another machine, through ssh with keys (no passwords, and only hosts that are
    /// known: fill `known_hosts` first).
    Ssh {
        /// `[user@]host`.
        destination: String,
        /// The port; ssh's own choice without it.
        port: Option<u16>,
        /// The socket over there.
        socket: PathBuf,
        /// Options of ssh as a file (`ssh -F`), for keys and known hosts of the service.
        config: Option<PathBuf>,
    },
}

/// The files of a TLS client, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who signed the engine's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An address that is none, or where nobody answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The address cannot be read.
    #[error("`{url}` is no address of a container engine: {why}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The connection failed.
    #[error("{host} does not answer; is the engine running, and may this user use it?")]
    Connect {
        /// The engine.
        host: String,
        /// What happened.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// ssh could not make the tunnel.
    #[error("{host}: ssh: {why}")]
    Tunnel {
        /// The engine.
        host: String,
        /// What ssh said.
        why: String,
    },
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFacts {
    /// `Docker Engine 20.10.24`, `Podman Engine 4.3.1`.
    pub name: String,
    /// GOARCH of its machine.
    pub architecture: String,
    /// Whether it has the second builder, with secrets.
    pub buildkit: bool,
}

impl Host {
    /// Reads `unix://PATH`, `tcp://HOST:PORT` (with `tls`) or `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    pub fn parse(url: &str, tls: Option<Tls>) -> Result<Self, HostError> {
        let wrong = |why| HostError::Url { url: url.chars().take(200).collect(), why };
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("it has a blank in it"));
        }
        if let Some(path) = url.strip_prefix("unix://") {
            let path = Path::new(path);
            return match path.is_absolute() {
                true => Ok(Self::Unix(path.into())),
                false => Err(wrong("write unix:// and an absolute path")),
            };
        }
        if let Some(address) = url.strip_prefix("tcp://") {
            // Whoever reaches an engine is root on its machine.
            let tls = tls.ok_or_else(|| wrong("tcp:// needs ca, cert and key"))?;
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            return match port {
                Some(_) => Ok(Self::Tls { address: address.into(), tls }),
                None => Err(wrong("write tcp://host:port")),
            };
        }
        if let Some(rest) = url.strip_prefix("ssh://") {
            let (authority, socket) = match rest.split_once('/') {
                Some((authority, "")) => (authority, SOCKET.into()),
                Some((authority, socket)) => (authority, format!("/{socket}")),
                None => (rest, SOCKET.into()),
            };
            let (destination, port) = match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong("no port"))?)),
                None => (authority, None),
            };
            // A leading dash would be an option of ssh; a colon another forwarding.
            if destination.is_empty() || destination.starts_with('-') || socket.contains(':') {
                return Err(wrong("write ssh://user@host"));
            }
            let destination = destination.into();
            return Ok(Self::Ssh { destination, port, socket: socket.into(), config: None });
        }
        Err(wrong("write unix://, tcp:// or ssh://"))
    }

    /// For messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{}", path.display()),
            Self::Tls { address, .. } => format!("tcp://{address}"),
            Self::Ssh { destination, .. } => format!("ssh://{destination}"),
        }
    }

    /// Opens the way there.
    pub(crate) async fn open(&self) -> Result<(Docker, Option<Tunnel>), HostError> {
        let refused = |source| HostError::Connect { host: self.shown(), source: Box::new(source) };
        let (docker, tunnel) = match self {
            Self::Unix(path) => (unix(path).map_err(refused)?, None),
            Self::Tls { address, tls } => {
                let Tls { ca, cert, key } = tls;
                let version = API_DEFAULT_VERSION;
                let made =
                    Docker::connect_with_ssl(address, key, cert, ca, ANSWER_SECONDS, version);
                (made.map_err(refused)?, None)
            }
            Self::Ssh { destination, port, socket, config } => {
                let tunnel = Tunnel::open(destination, *port, socket, config.as_deref()).await;
                let tunnel = tunnel.map_err(|why| HostError::Tunnel { host: self.shown(), why })?;
                (unix(tunnel.socket()).map_err(refused)?, Some(tunnel))
            }
        };
        Ok((docker.negotiate_version().await.map_err(refused)?, tunnel))
    }
}

fn unix(path: &Path) -> Result<Docker, bollard::errors::Error> {
    Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION)
}

/// Asks an engine what it is.
pub(crate) async fn facts(docker: &Docker) -> Result<EngineFacts, bollard::errors::Error> {
    let version = docker.version().await?;
    let first = version.components.unwrap_or_default().into_iter().next();
    let name = first.map_or_else(|| "Docker".to_owned(), |component| component.name);
    let name = match name.as_str() {
        "Engine" => "Docker Engine".to_owned(),
        _ => name,
    };
    let number = version.version.unwrap_or_default();
    let podman = name.contains("Podman");
    Ok(EngineFacts {
        name: format!("{name} {number}"),
        architecture: version.arch.unwrap_or_default(),
        // Podman takes the parameter and builds with Buildah, without the session.
        buildkit: !podman,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_bad_ones_refused() {
        let tls = || Some(Tls { ca: "ca".into(), cert: "c".into(), key: "k".into() });
        assert_eq!(Host::parse("unix:///s", None).unwrap(), Host::Unix("/s".into()));
        let ssh = |destination: &str, port, socket: &str| Host::Ssh {
            destination: destination.into(),
            port,
            socket: socket.into(),
            config: None,
        };
        assert_eq!(
            Host::parse("ssh://me@h:22/run/p.sock", None).unwrap(),
            ssh("me@h", Some(22), "/run/p.sock")
        );
        assert_eq!(Host::parse("ssh://h", None).unwrap(), ssh("h", None, SOCKET));
        assert!(Host::parse("tcp://h:2376", tls()).is_ok());
        for (url, tls) in [
            ("tcp://h:2375", None),
            ("tcp://h", tls()),
            ("unix://s", None),
            ("ssh://-oProxyCommand=x", None),
            ("ssh://h:x", None),
            ("ssh://", None),
            ("ssh://h/a:b", None),
            ("http://h", None),
            ("unix:///a b", None),
        ] {
            assert!(Host::parse(url, tls).is_err(), "{url}");
        }
    }
}
