//! What happened: `Event`, and the facts of each kind.
//!
//! Events are kept in the service's store until they are told, so they are a format: fields may
//! be added with a default, none may be renamed.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::text::shorten;

/// Longest name that is kept: repository, tag, car and the like (characters).
pub const MAX_NAME: usize = 255;
/// Longest text for people that is kept (characters).
pub const MAX_TEXT: usize = 4000;
/// Most links of an event.
pub const MAX_LINKS: usize = 8;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// The same whenever the same fact is told: receivers drop what they have seen.
    pub id: EventId,
    /// When it happened.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Whom it is about.
    pub about: About,
    /// What it is.
    pub what: What,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// Stands for one fact: 32 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct EventId(String);

impl EventId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == 32 && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => {
                Err(format!("`{}` is no event id: want 32 hexadecimal digits", shorten(text, 40)))
            }
        }
    }
}

impl TryFrom<String> for EventId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom an event is about; what is not known is absent. Names are as the senders wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct About {
    /// The run's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Name of the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Source repository, `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The release's counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// The kind of car.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub car_kind: Option<String>,
}

/// What happened. Images are `REPOSITORY@sha256:…`, digests `sha256:…`, durations milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields say it, with the units above")]
pub enum What {
    /// A run waits for its turn.
    RunQueued { rollback: bool },
    /// A step finished.
    StepFinished { step: String, duration_ms: u64 },
    /// A step ended with an error; `again` says whether it is tried again by itself.
    StepFailed {
        step: String,
        code: String,
        message: String,
        hint: String,
        attempt: u32,
        again: bool,
    },
    /// A release is out: checked as the car would, tagged.
    RunReleased {
        image: String,
        /// Platform → manifest.
        #[serde(default)]
        platforms: BTreeMap<String, String>,
        duration_ms: u64,
    },
    /// The candidate was judged, and the answer is no.
    RunRefused { step: String, code: String, message: String, hint: String },
    /// Somebody moved a tag that was released.
    TagMoved { was: String, now: String },
    /// The GitOps repository names the release.
    Promoted { target: String, commit: String, from: Option<String>, to: String },
    /// An old release has a new statement.
    RolledBack { image: String },
    /// A gate said no.
    GateFailed {
        gate: String,
        message: String,
        /// Severity → how many.
        #[serde(default)]
        findings: BTreeMap<String, u64>,
    },
    /// A car drives it, and has raised its floor.
    CarConfirmed { car: String, image: String },
    /// A car will not drive it.
    CarRefused { car: String, image: String, code: String, message: String },
    /// A car cannot go on to it: it could not decide, or it went back.
    CarBlocked { car: String, image: String, code: String, message: String },
}

/// The kinds of events, as filters and topics name them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is a variant of `What`, and described there")]
pub enum Kind {
    RunQueued,
    StepFinished,
    StepFailed,
    RunReleased,
    RunRefused,
    TagMoved,
    Promoted,
    RolledBack,
    GateFailed,
    CarConfirmed,
    CarRefused,
    CarBlocked,
}

/// How much an event matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Progress: steps.
    Debug,
    /// What was wanted: queued, released, promoted, confirmed.
    #[default]
    Info,
    /// Somebody should look: refusals, moved tags, what is tried again.
    Warning,
    /// Something broke.
    Error,
}

/// Where to read more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Link {
    /// What is there.
    pub title: String,
    /// `https://…` or `http://…`.
    pub url: String,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::RunQueued,
        Self::StepFinished,
        Self::StepFailed,
        Self::RunReleased,
        Self::RunRefused,
        Self::TagMoved,
        Self::Promoted,
        Self::RolledBack,
        Self::GateFailed,
        Self::CarConfirmed,
        Self::CarRefused,
        Self::CarBlocked,
    ];

    /// Its name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunQueued => "run-queued",
            Self::StepFinished => "step-finished",
            Self::StepFailed => "step-failed",
            Self::RunReleased => "run-released",
            Self::RunRefused => "run-refused",
            Self::TagMoved => "tag-moved",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
            Self::GateFailed => "gate-failed",
            Self::CarConfirmed => "car-confirmed",
            Self::CarRefused => "car-refused",
            Self::CarBlocked => "car-blocked",
        }
    }
}

impl What {
    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::RunQueued { .. } => Kind::RunQueued,
            Self::StepFinished { .. } => Kind::StepFinished,
            Self::StepFailed { .. } => Kind::StepFailed,
            Self::RunReleased { .. } => Kind::RunReleased,
            Self::RunRefused { .. } => Kind::RunRefused,
            Self::TagMoved { .. } => Kind::TagMoved,
            Self::Promoted { .. } => Kind::Promoted,
            Self::RolledBack { .. } => Kind::RolledBack,
            Self::GateFailed { .. } => Kind::GateFailed,
            Self::CarConfirmed { .. } => Kind::CarConfirmed,
            Self::CarRefused { .. } => Kind::CarRefused,
            Self::CarBlocked { .. } => Kind::CarBlocked,
        }
    }

    /// How much it matters.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::StepFinished { .. } => Severity::Debug,
            Self::RunQueued { .. }
            | Self::RunReleased { .. }
            | Self::Promoted { .. }
            | Self::RolledBack { .. }
            | Self::CarConfirmed { .. } => Severity::Info,
            Self::StepFailed { again: true, .. }
            | Self::RunRefused { .. }
            | Self::TagMoved { .. }
            | Self::GateFailed { .. }
            | Self::CarRefused { .. } => Severity::Warning,
            Self::StepFailed { .. } | Self::CarBlocked { .. } => Severity::Error,
        }
    }

    /// The car it is about, if any.
    pub fn car(&self) -> Option<&str> {
        match self {
            Self::CarConfirmed { car, .. }
            | Self::CarRefused { car, .. }
            | Self::CarBlocked { car, .. } => Some(car),
            _ => None,
        }
    }

    /// Cuts what strangers wrote to what is kept.
    fn shorten(&mut self) {
        let cut = |text: &mut String, most| {
            if text.chars().nth(most).is_some() {
                *text = shorten(text, most);
            }
        };
        match self {
            Self::StepFailed { message, hint, .. } | Self::RunRefused { message, hint, .. } => {
                cut(message, MAX_TEXT);
                cut(hint, MAX_TEXT);
            }
            Self::GateFailed { message, .. } => cut(message, MAX_TEXT),
            Self::CarRefused { car, code, message, .. }
            | Self::CarBlocked { car, code, message, .. } => {
                cut(car, MAX_NAME);
                cut(code, MAX_NAME);
                cut(message, MAX_TEXT);
            }
            Self::CarConfirmed { car, .. } => cut(car, MAX_NAME),
            Self::TagMoved { was, now } => {
                cut(was, MAX_NAME);
                cut(now, MAX_NAME);
            }
            Self::RunQueued { .. }
            | Self::StepFinished { .. }
            | Self::RunReleased { .. }
            | Self::Promoted { .. }
            | Self::RolledBack { .. } => {}
        }
    }
}

impl Event {
    /// An event. `occurrence` tells it from the same fact at another time, where that is another
    /// fact: a report's id, a day; the number of an attempt is in [`What`] already. The time is
    /// no part of the id, so that who makes the event again after a crash makes the same one.
    pub fn new(what: What, about: About, occurrence: &str, time: Timestamp) -> Self {
        let (mut what, mut about) = (what, about);
        what.shorten();
        let About { run, pipeline, repository, tag, commit, counter: _, car_kind } = &mut about;
        for name in [run, pipeline, repository, tag, commit, car_kind].into_iter().flatten() {
            if name.chars().nth(MAX_NAME).is_some() {
                *name = shorten(name, MAX_NAME);
            }
        }
        let mut hash = Sha256::new();
        // Maps are sorted and fields are in order, so the same fact has the same text.
        let text = serde_json::json!([&what, &about, occurrence]).to_string();
        hash.update(text);
        let id = EventId(hex::encode(&hash.finalize()[..16]));
        Self { id, time, about, what, links: Vec::new() }
    }

    /// Adds a link; what is no web address is left out, and so is what is too much.
    #[must_use]
    pub fn link(mut self, title: &str, url: &str) -> Self {
        let web = url.starts_with("https://") || url.starts_with("http://");
        if web && self.links.len() < MAX_LINKS && url.len() <= 2000 {
            self.links.push(Link { title: shorten(title, MAX_NAME), url: url.to_owned() });
        }
        self
    }

    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        self.what.kind()
    }

    /// How much it matters.
    pub const fn severity(&self) -> Severity {
        self.what.severity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::samples;

    #[test]
    fn the_same_fact_has_the_same_id_and_another_has_another() {
        let samples = samples();
        for (number, event) in samples.iter().enumerate() {
            let later: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
            let again = Event::new(event.what.clone(), event.about.clone(), "", later);
            assert_eq!(again.id, event.id);
            let other = Event::new(event.what.clone(), event.about.clone(), "2", event.time);
            assert_ne!(other.id, event.id);
            for another in &samples[number + 1..] {
                assert_ne!(another.id, event.id);
            }
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else() {
        let mut names = Vec::new();
        for event in samples() {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
            let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["what"]["kind"], event.kind().name());
            names.push(event.kind());
            value["what"]["surprise"] = 1.into();
            assert!(serde_json::from_value::<Event>(value).is_err());
        }
        assert_eq!(names, Kind::ALL, "a sample of each kind");
        assert!(serde_json::from_str::<EventId>("\"../../x\"").is_err());
    }

    #[test]
    fn what_strangers_write_is_cut() {
        let about = About { tag: Some("v".repeat(100_000)), ..About::default() };
        let what = What::CarRefused {
            car: "c".repeat(9000),
            image: String::new(),
            code: String::new(),
            message: "m".repeat(1 << 20),
        };
        let event = Event::new(what, about, "", Timestamp::UNIX_EPOCH);
        assert!(serde_json::to_string(&event).unwrap().len() < 6000);
        let event = event.link("x", "javascript:alert(1)").link("y", "https://y.example/");
        assert_eq!(event.links.len(), 1);
    }
}
