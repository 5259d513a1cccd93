//! The channels of a configuration, opened: secrets read, clients made, nothing sent.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{
    Failure, Outbox,
    cloud_event::{self, DELIVERY, MEDIA_TYPE, cloud_event, signatures},
    config::{Channel, ConfigError, Notify},
    courier::Couriers,
    event::Event,
    http::{HttpError, Poster},
    mqtt::{Broker, MqttError},
    secret::{SecretError, SecretUrl, read_secret},
    slack,
};

/// `source` where the configuration names none.
const SOURCE: &str = "urn:pitlane";

/// Why a channel cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The section cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A channel cannot.
    #[error("channel `{channel}`: {why}")]
    Channel {
        /// Its name.
        channel: String,
        /// Why; names the file or the value, and no secret.
        why: String,
    },
}

/// The channels of a configuration.
#[derive(Debug)]
pub struct Notifier {
    channels: Vec<Opened>,
}

/// A channel that can be delivered to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) config: Channel,
    source: Arc<str>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Slack(Poster),
    Webhook(Poster, Secret),
    Mqtt(Broker),
}

struct Secret(Option<Zeroizing<String>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "***" } else { "none" })
    }
}

impl Notifier {
    /// Checks the section and reads the secrets it names; its paths are absolute by now
    /// ([`Notify::rebase`]).
    pub fn open(config: &Notify) -> Result<Self, OpenError> {
        config.check()?;
        let source: Arc<str> = config.source.as_deref().unwrap_or(SOURCE).into();
        let open = |channel: &Channel| {
            let way = open(channel)
                .map_err(|why| OpenError::Channel { channel: channel.name.clone(), why })?;
            Ok(Opened { config: channel.clone(), source: source.clone(), way })
        };
        let channels = config.channels.iter().map(open).collect::<Result<_, OpenError>>()?;
        Ok(Self { channels })
    }

    /// The names of the channels that get an event. Keep a pending delivery for each.
    pub fn channels_for<'a>(&'a self, event: &Event) -> Vec<&'a str> {
        let wanted = self.channels.iter().filter(|channel| channel.config.filter.passes(event));
        wanted.map(|channel| channel.config.name.as_str()).collect()
    }

    /// The names of all channels: pending deliveries of others can be forgotten.
    pub fn names(&self) -> Vec<&str> {
        self.channels.iter().map(|channel| channel.config.name.as_str()).collect()
    }

    /// Starts one courier for each channel, within a Tokio runtime.
    pub fn start<O: Outbox>(self, outbox: &Arc<O>) -> Couriers {
        Couriers::start(self.channels, outbox)
    }
}

fn open(channel: &Channel) -> Result<Way, String> {
    let text = |error: HttpError| error.to_string();
    let secret = |error: SecretError| -> String { error.to_string() };
    if let Some(slack) = &channel.slack {
        let url = read_secret(&slack.url_file).map_err(secret)?;
        let url = SecretUrl::parse(&url, slack.allow_plain_http).map_err(secret)?;
        return Ok(Way::Slack(Poster::new(url, slack.ca_file.as_deref()).map_err(text)?));
    }
    if let Some(webhook) = &channel.webhook {
        let url = match (&webhook.url, &webhook.url_file) {
            (Some(url), _) => Zeroizing::new(url.clone()),
            (None, Some(file)) => read_secret(file).map_err(secret)?,
            (None, None) => return Err("there is no address".into()),
        };
        let url = SecretUrl::parse(&url, webhook.allow_plain_http).map_err(secret)?;
        let key = webhook.secret_file.as_deref().map(read_secret).transpose().map_err(secret)?;
        let poster = Poster::new(url, webhook.ca_file.as_deref()).map_err(text)?;
        return Ok(Way::Webhook(poster, Secret(key)));
    }
    let Some(mqtt) = &channel.mqtt else { return Err("it is of no kind".into()) };
    let broker = Broker::new(mqtt, &channel.name);
    Ok(Way::Mqtt(broker.map_err(|error: MqttError| error.to_string())?))
}

impl Opened {
    /// Where it leads, for logs.
    pub(crate) fn shown(&self) -> String {
        match &self.way {
            Way::Slack(poster) | Way::Webhook(poster, _) => poster.shown(),
            Way::Mqtt(broker) => broker.shown(),
        }
    }

    /// One try. `now` is seconds since 1970.
    pub(crate) async fn deliver(&mut self, event: &Event, now: i64) -> Result<(), Failure> {
        match &mut self.way {
            Way::Slack(poster) => {
                let body = Bytes::from(slack::message(event).to_string());
                poster.post("application/json; charset=utf-8", &[], body, None).await
            }
            Way::Webhook(poster, Secret(secret)) => {
                let body = Bytes::from(cloud_event(event, &self.source).to_string());
                let mut headers = vec![(DELIVERY, event.id.to_string())];
                match secret {
                    Some(secret) => headers.extend(signatures(secret.as_bytes(), now, &body)),
                    None => headers.push((cloud_event::TIMESTAMP, now.to_string())),
                }
                poster.post(MEDIA_TYPE, &headers, body, secret.as_ref()).await
            }
            Way::Mqtt(broker) => broker.deliver(event, &self.source).await,
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Way::Mqtt(broker) = &mut self.way {
            broker.close().await;
        }
    }
}
