//! The section `notify:` of the service's configuration (docs/notify.md).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{filter::Filter, mqtt::topic::Template, retry::Retry};

/// Most channels.
pub const MAX_CHANNELS: usize = 32;
/// Most deliveries that wait for one channel.
pub const MAX_QUEUE: usize = 100_000;

/// Who is told what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Notify {
    /// URI that stands for this instance: `source` of `CloudEvents`.
    pub source: Option<String>,
    /// Where events go.
    pub channels: Vec<Channel>,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Channel {
    /// Its name: lower-case letters, digits and `-`. Pending deliveries are kept by it.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// Which events it gets.
    #[serde(default)]
    pub filter: Filter,
    /// How long it is tried.
    #[serde(default)]
    pub retry: Retry,
    /// Deliveries that may wait; the oldest are dropped, counted and logged beyond that.
    #[serde(default = "default_queue")]
    #[schemars(range(min = 1, max = 100_000))]
    pub queue: usize,
    /// A Slack-compatible incoming webhook.
    #[serde(default)]
    pub slack: Option<Slack>,
    /// `CloudEvents` by HTTP.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// A broker.
    #[serde(default)]
    pub mqtt: Option<Mqtt>,
}

fn default_queue() -> usize {
    1000
}

/// A Slack-compatible incoming webhook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slack {
    /// File with the webhook's address, which is its secret; mode 0600.
    pub url_file: PathBuf,
    /// Certificates (PEM) that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether plain http to other machines is allowed (to this one it always is).
    #[serde(default)]
    pub allow_plain_http: bool,
}

/// `CloudEvents` by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// The address, where it is no secret.
    #[serde(default)]
    pub url: Option<String>,
    /// File with the address, where it is; mode 0600.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// File with the secret that deliveries are signed with; mode 0600. Unsigned when absent.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether plain http to other machines is allowed (to this one it always is).
    #[serde(default)]
    pub allow_plain_http: bool,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mqtt {
    /// `HOST:PORT`; usual are 8883 with TLS and 1883 without.
    pub broker: String,
    /// The protocol.
    #[serde(default)]
    pub version: Version,
    /// The client's id, one for each instance; made of the channel's name when absent.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Off: without TLS, and only to this machine unless `allowPlain` says otherwise.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Whether going without TLS to other machines is allowed.
    #[serde(default)]
    pub allow_plain: bool,
    /// Certificates (PEM) that are trusted instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The client's certificate chain (PEM).
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// The key of `clientCertificate` (PEM); mode 0600.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// User name.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password; mode 0600.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Topic of the latest event of each pipeline, retained by the broker.
    #[serde(default = "state_topic")]
    pub state_topic: Option<Template>,
    /// Topic of every event, not retained; none when absent.
    #[serde(default)]
    pub event_topic: Option<Template>,
}

fn yes() -> bool {
    true
}

fn state_topic() -> Option<Template> {
    "pitlane/{pipeline}/state".parse().ok()
}

/// Versions of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Version {
    /// 5.0.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// 3.1.1: a broker cannot say there that it takes a message from nobody.
    #[serde(rename = "3.1.1")]
    V311,
}

/// Why a section cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `notify.{field}`: {why}")]
pub struct ConfigError {
    field: String,
    why: String,
}

impl Notify {
    /// Makes relative paths relative to a folder: that of the configuration.
    pub fn rebase(&mut self, dir: &Path) {
        for channel in &mut self.channels {
            let Channel { slack, webhook, mqtt, .. } = channel;
            let slack = slack.iter_mut().flat_map(|s| [Some(&mut s.url_file), s.ca_file.as_mut()]);
            let webhook = webhook
                .iter_mut()
                .flat_map(|w| [w.url_file.as_mut(), w.secret_file.as_mut(), w.ca_file.as_mut()]);
            let mqtt = mqtt.iter_mut().flat_map(|m| {
                let tls = [m.ca_file.as_mut(), m.client_certificate.as_mut()];
                tls.into_iter().chain([m.client_key_file.as_mut(), m.password_file.as_mut()])
            });
            let paths = slack.chain(webhook).chain(mqtt).flatten();
            paths.for_each(|path| *path = dir.join(&*path));
        }
    }

    /// Checks what the types cannot: names, and that a channel is of one kind.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, why: String| Err(ConfigError { field: field.to_owned(), why });
        if self.source.as_ref().is_some_and(|source| source.is_empty() || source.len() > 500) {
            return wrong("source", "want a URI of at most 500 characters".into());
        }
        if self.channels.len() > MAX_CHANNELS {
            let why = format!("{} of them, at most {MAX_CHANNELS}", self.channels.len());
            return wrong("channels", why);
        }
        for (number, channel) in self.channels.iter().enumerate() {
            let name = &channel.name;
            let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let named = (1..=63).contains(&name.len())
                && name.bytes().all(|b| letter(b) || b == b'-')
                && !name.starts_with('-');
            if !named {
                let why = format!("`{name}`: want at most 63 lower-case letters, digits and -");
                return wrong(&format!("channels[{number}].name"), why);
            }
            if self.channels[..number].iter().any(|other| other.name == *name) {
                return wrong(&format!("channels[{number}].name"), format!("`{name}` twice"));
            }
            if let Err((field, why)) = channel.check() {
                return wrong(&format!("channels.{name}.{field}"), why.into());
            }
        }
        Ok(())
    }
}

impl Channel {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { slack, webhook, mqtt, retry, queue, .. } = self;
        let kinds = [slack.is_some(), webhook.is_some(), mqtt.is_some()];
        if kinds.iter().filter(|is| **is).count() != 1 {
            return Err(("slack", "want exactly one of slack, webhook and mqtt"));
        }
        if !(1..=MAX_QUEUE).contains(queue) {
            return Err(("queue", "want 1 to 100000"));
        }
        if !(1..=crate::retry::MAX_ATTEMPTS).contains(&retry.attempts) {
            return Err(("retry.attempts", "want 1 to 100"));
        }
        if webhook.as_ref().is_some_and(|w| w.url.is_some() == w.url_file.is_some()) {
            return Err(("webhook.url", "want exactly one of url and urlFile"));
        }
        let Some(mqtt) = mqtt else { return Ok(()) };
        if mqtt.client_certificate.is_some() != mqtt.client_key_file.is_some() {
            return Err(("mqtt.clientKeyFile", "goes together with clientCertificate"));
        }
        if mqtt.user.is_none() && mqtt.password_file.is_some() {
            return Err(("mqtt.user", "is missing beside passwordFile"));
        }
        if mqtt.client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 128) {
            return Err(("mqtt.clientId", "want 1 to 128 bytes"));
        }
        if mqtt.state_topic.is_none() && mqtt.event_topic.is_none() {
            return Err(("mqtt.stateTopic", "want a topic: stateTopic, eventTopic or both"));
        }
        if !mqtt.tls && (mqtt.ca_file.is_some() || mqtt.client_certificate.is_some()) {
            return Err(("mqtt.tls", "is off, but there are certificates"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of docs/notify.md.
    pub(crate) fn example() -> String {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/notify.md");
        let page = std::fs::read_to_string(page).unwrap();
        let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        yaml.replace("notify:\n", "")
            .lines()
            .map(|l| l.strip_prefix("  ").unwrap_or(l))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn parse(yaml: &str) -> Result<Notify, String> {
        let parsed: Notify =
            pitlane_release::yaml::read(yaml, 10_000).map_err(|error| error.to_string())?;
        parsed.check().map_err(|error| error.to_string())?;
        Ok(parsed)
    }

    #[test]
    fn the_documented_example_is_read() {
        let mut read = parse(&example()).unwrap();
        assert!(read.channels.len() >= 4, "{read:?}");
        read.rebase(Path::new("/etc/pitlane"));
        let slack = read.channels.iter().find_map(|channel| channel.slack.as_ref()).unwrap();
        assert!(slack.url_file.starts_with("/etc/pitlane"));
        let mqtt = read.channels.iter().find_map(|channel| channel.mqtt.as_ref()).unwrap();
        assert!(mqtt.password_file.as_ref().unwrap().is_absolute());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let channel = |rest: &str| format!("channels:\n- name: a\n{rest}");
        for (yaml, want) in [
            ("sources: x".to_owned(), "unknown field"),
            ("source: ''".to_owned(), "notify.source"),
            (channel(""), "exactly one of slack"),
            (channel("  slack: {urlFile: a}\n  webhook: {url: b}"), "exactly one of slack"),
            (channel("  slack: {url: a}"), "unknown field"),
            (channel("  slack: {urlFile: a}\n  queue: 0"), "channels.a.queue"),
            (channel("  slack: {urlFile: a}\n  retry: {attempts: 0}"), "channels.a.retry.attempts"),
            (channel("  slack: {urlFile: a}\n- name: a\n  slack: {urlFile: a}"), "twice"),
            ("channels:\n- name: A/b\n  slack: {urlFile: a}".to_owned(), "lower-case"),
            (channel("  webhook: {}"), "exactly one of url"),
            (channel("  mqtt: {broker: b, passwordFile: p}"), "mqtt.user"),
            (channel("  mqtt: {broker: b, clientCertificate: p}"), "clientKeyFile"),
            (channel("  mqtt: {broker: b, stateTopic: null}"), "stateTopic"),
            (channel("  mqtt: {broker: b, stateTopic: 'a/#'}"), "`#`"),
            (channel("  mqtt: {broker: b, stateTopic: 'a/{what}'}"), "{what}"),
            (channel("  mqtt: {broker: b, version: '4'}"), "4"),
            (channel("  mqtt: {broker: b, tls: false, caFile: c}"), "mqtt.tls"),
        ] {
            let error = parse(&yaml).unwrap_err();
            assert!(error.contains(want), "{yaml}\n{error}");
        }
        let many = (0..33).map(|n| format!("- name: c{n}\n  slack: {{urlFile: a}}\n"));
        assert!(parse(&format!("channels:\n{}", many.collect::<String>())).is_err());
    }

    fn schema<T: JsonSchema>() -> String {
        let settings = schemars::generate::SchemaSettings::draft2020_12();
        let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        serde_json::to_string_pretty(&schema).unwrap() + "\n"
    }

    /// The files in `schemas` are those of the types; `UPDATE_SCHEMAS=1` writes them anew.
    #[test]
    fn the_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let update = std::env::var_os("UPDATE_SCHEMAS").is_some_and(|value| value == "1");
        let schemas =
            [("notify", schema::<Notify>()), ("event", schema::<crate::cloud_event::Data<'_>>())];
        for (name, text) in schemas {
            let file = folder.join(format!("{name}.json"));
            if update {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(found == text, "{name}.json is out of date: make schemas");
        }
    }
}
