//! A broker as a channel: the latest event of each pipeline retained, every event if asked for.
//!
//! The client of `rumqttc` brings a TLS stack of its own that is behind on fixes, and keeps trying
//! on its own terms. We need a publisher that says when a message is acknowledged: its packets by
//! that crate's codec ([`wire`]), TLS by rustls as everywhere ([`tls`]), and a [`session`] that
//! is open while there is something to say.

mod session;
mod tls;
pub mod topic;
mod wire;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::pki_types::ServerName;

use self::{session::Session, topic::Template, wire::Hello};
use crate::{
    Failure,
    cloud_event::{self, cloud_event},
    config,
    event::Event,
    secret::{SecretError, read_secret},
};

/// Longest time to connect, TLS and the broker's word included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest time until a message is acknowledged.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// After this time without a message the connection is made anew: brokers close silent ones.
const IDLE: Duration = Duration::from_secs(20);
/// Largest message (bytes).
const MAX_MESSAGE: usize = 256 * 1024;

/// Why a broker cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says it in its text")]
pub enum MqttError {
    #[error("`{broker}` is no broker: want HOST:PORT, e.g. broker.example:8883")]
    Broker { broker: String },
    #[error(
        "`{broker}` would be spoken to without TLS, and is not this machine; use tls, or allowPlain: true"
    )]
    Plain { broker: String },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Tls(String),
}

/// One broker.
pub(crate) struct Broker {
    address: String,
    tls: Option<(tokio_rustls::TlsConnector, ServerName<'static>)>,
    hello: Hello,
    state: Option<Template>,
    events: Option<Template>,
    session: Option<(Session, Instant)>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the password.
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    pub(crate) fn new(config: &config::Mqtt, name: &str) -> Result<Self, MqttError> {
        let wrong = || MqttError::Broker { broker: config.broker.clone() };
        let (host, port) = config.broker.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        port.parse::<u16>().map_err(|_| wrong())?;
        let server = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let local = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let tls = match config.tls {
            true => Some((tls::connector(config)?, server)),
            false if local || config.allow_plain => None,
            false => return Err(MqttError::Plain { broker: config.broker.clone() }),
        };
        let password = config.password_file.as_deref().map(read_secret).transpose()?;
        let hello = Hello {
            version: config.version,
            client: config.client_id.clone().unwrap_or_else(|| format!("pitlane-{name}")),
            user: config.user.clone(),
            password,
        };
        let (state, events) = (config.state_topic.clone(), config.event_topic.clone());
        Ok(Self { address: config.broker.clone(), tls, hello, state, events, session: None })
    }

    pub(crate) fn shown(&self) -> String {
        self.address.clone()
    }

    /// Publishes an event, by an open connection or a new one.
    pub(crate) async fn deliver(&mut self, event: &Event, source: &str) -> Result<(), Failure> {
        let payload = Bytes::from(cloud_event(event, source).to_string());
        if payload.len() > MAX_MESSAGE {
            let why = format!("{} bytes, at most {MAX_MESSAGE} are sent", payload.len());
            return Err(Failure::never(why));
        }
        let mut session = match self.session.take() {
            Some((session, used)) if used.elapsed() < IDLE => session,
            _ => self.connect().await?,
        };
        // State is of a pipeline; what is about none changes none.
        let state = self.state.as_ref().filter(|_| event.about.pipeline.is_some());
        let topics = [(self.events.as_ref(), false), (state, true)];
        for (template, retain) in topics {
            let Some(template) = template else { continue };
            let topic = template.topic(event);
            let published = session.publish(&topic, payload.clone(), retain, event.id.as_str());
            match timeout(PUBLISH_LIMIT, published).await {
                Ok(published) => published?,
                Err(_) => return Err(self.later("does not acknowledge the message")),
            }
        }
        self.session = Some((session, Instant::now()));
        Ok(())
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let connected = timeout(CONNECT_LIMIT, async {
            let failed = |error: std::io::Error| self.later(&crate::text::chain(&error));
            let plain = tokio::net::TcpStream::connect(&self.address).await.map_err(failed)?;
            plain.set_nodelay(true).map_err(failed)?;
            let stream: Box<dyn session::Stream> = match &self.tls {
                None => Box::new(plain),
                Some((connector, server)) => {
                    Box::new(connector.connect(server.clone(), plain).await.map_err(failed)?)
                }
            };
            Session::open(stream, &self.hello, &self.address).await
        });
        connected.await.unwrap_or_else(|_| Err(self.later("no answer in time")))
    }

    fn later(&self, why: &str) -> Failure {
        Failure::later(format!("{}: {why}", self.address))
    }

    /// Says goodbye.
    pub(crate) async fn close(&mut self) {
        if let Some((session, _)) = self.session.take() {
            session.close().await;
        }
    }
}

/// Media type of messages, in MQTT 5.
pub(crate) const CONTENT_TYPE: &str = cloud_event::MEDIA_TYPE;

/// Reads a file of certificates or a key; here, so that `tls` needs no paths.
fn public(file: &Path) -> Result<zeroize::Zeroizing<String>, SecretError> {
    crate::secret::read_public(file)
}
