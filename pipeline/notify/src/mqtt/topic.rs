//! Topics: a template, and the values of others in it, escaped. Pure.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Longest template (bytes).
const MAX_TEMPLATE: usize = 256;
/// Stands for a value that the event does not have.
const NONE: &str = "_";

/// A topic with places for values: `pitlane/{pipeline}/state`.
///
/// Places are `{pipeline}`, `{repository}`, `{tag}`, `{kind}` (of car), `{car}` and `{event}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Pipeline,
    Repository,
    Tag,
    Kind,
    Car,
    Event,
}

impl Place {
    const ALL: [(&'static str, Self); 6] = [
        ("pipeline", Self::Pipeline),
        ("repository", Self::Repository),
        ("tag", Self::Tag),
        ("kind", Self::Kind),
        ("car", Self::Car),
        ("event", Self::Event),
    ];

    fn value(self, event: &Event) -> Option<&str> {
        let about = &event.about;
        match self {
            Self::Pipeline => about.pipeline.as_deref(),
            Self::Repository => about.repository.as_deref(),
            Self::Tag => about.tag.as_deref(),
            Self::Kind => about.car_kind.as_deref(),
            Self::Car => event.what.car(),
            Self::Event => Some(event.kind().name()),
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: String| Err(format!("`{}` is no topic: {why}", crate::text::line(text, 80)));
        if text.is_empty() || text.len() > MAX_TEMPLATE {
            return wrong(format!("want 1 to {MAX_TEMPLATE} bytes"));
        }
        if let Some(c) = text.chars().find(|c| matches!(c, '#' | '+') || c.is_control()) {
            return wrong(format!("`{}` has no place in it", c.escape_debug()));
        }
        if text.starts_with(['$', '/']) {
            return wrong("it begins with / or $, which is the broker's own".into());
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return wrong("a { is not closed".into());
            };
            let Some((_, place)) = Place::ALL.iter().find(|(known, _)| *known == name) else {
                return wrong(format!(
                    "{{{name}}} is unknown; there are {}",
                    Place::ALL.map(|(name, _)| format!("{{{name}}}")).join(" ")
                ));
            };
            pieces.extend([Piece::Text(before.to_owned()), Piece::Place(*place)]);
            rest = after;
        }
        if rest.contains('}') {
            return wrong("a } was not opened".into());
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }
}

impl Template {
    /// The topic of an event.
    pub(crate) fn topic(&self, event: &Event) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Place(place) => level(place.value(event)),
        });
        pieces.collect()
    }
}

/// A value as one level or a part of one: everything but RFC 3986's unreserved characters is
/// percent-encoded, so that no value makes levels, wildcards, or another value's topic.
fn level(value: Option<&str>) -> String {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return NONE.to_owned() };
    // Would be what stands for no value.
    if value == NONE {
        return "%5F".to_owned();
    }
    let mut level = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            level.push(char::from(byte));
        } else {
            let _ = write!(level, "%{byte:02X}");
        }
    }
    level
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Place(place) => {
                    let name = Place::ALL.iter().find(|(_, known)| known == place);
                    write!(f, "{{{}}}", name.map_or("", |(name, _)| name))?;
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl schemars::JsonSchema for Template {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a topic; {pipeline}, {repository}, {tag}, {kind}, {car} and {event} \
                stand for the event's",
            "pattern": "^[^$/#+][^#+]*$",
            "maxLength": MAX_TEMPLATE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, What, text::tests::samples};

    #[test]
    fn topics() {
        let events = samples();
        for (template, number, want) in [
            ("pitlane/{pipeline}/state", 3, "pitlane/donkeycar/state"),
            ("p/{repository}/{tag}/{event}", 3, "p/team%2Fcar/v1.0.0/run-released"),
            ("p/{car}/{kind}", 9, "p/car-7/donkeycar"),
            ("p/{car}", 3, "p/_"),
            ("{event}", 0, "run-queued"),
        ] {
            let parsed: Template = template.parse().unwrap();
            assert_eq!(parsed.to_string(), template);
            assert_eq!(parsed.topic(&events[number]), want);
        }
        for bad in ["", "a/#", "+/a", "$SYS/a", "/a", "a\0", "{", "}", "{pipelines}", "a}{b"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
        assert!("a".repeat(257).parse::<Template>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn values_stay_in_their_level(one in "\\PC{0,30}|[/#+%$_\\x00a-b]{0,8}", two in "[/#+%$_a-b]{0,8}") {
            let template: Template = "p/{tag}/{car}".parse().unwrap();
            let topic = |tag: &str, car: &str| {
                let about = About { tag: Some(tag.to_owned()), ..About::default() };
                let what = What::CarConfirmed { car: car.to_owned(), image: String::new() };
                template.topic(&Event::new(what, about, "", jiff::Timestamp::UNIX_EPOCH))
            };
            let made = topic(&one, &two);
            proptest::prop_assert_eq!(made.split('/').count(), 3);
            proptest::prop_assert!(!made.contains(['#', '+', '$']) && made.is_ascii());
            proptest::prop_assert!(made.split('/').all(|level| !level.is_empty()));
            if one != two {
                proptest::prop_assert_ne!(topic(&one, "x"), topic(&two, "x"));
            }
        }
    }
}
