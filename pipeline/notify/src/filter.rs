//! Which channel gets what. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Kind, Severity};

/// Which events a channel gets: those that pass all of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Filter {
    /// Only these kinds; all when absent.
    pub events: Option<Vec<Kind>>,
    /// Only what is about these pipelines (`*` stands for any characters); all when absent.
    pub pipelines: Option<Vec<String>>,
    /// Only what is about these repositories, `owner/name` (`*` as above); all when absent.
    pub repositories: Option<Vec<String>>,
    /// Only what matters as much, or more.
    pub severity: Severity,
}

impl Filter {
    /// Whether the event passes. What names no pipeline or repository (a car's word about an image
    /// that nobody here made) passes only where none are asked for.
    pub fn passes(&self, event: &Event) -> bool {
        let named = |wanted: &Option<Vec<String>>, name: Option<&str>| match (wanted, name) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(name)) => wanted.iter().any(|pattern| matches(pattern, name)),
        };
        event.severity() >= self.severity
            && self.events.as_ref().is_none_or(|kinds| kinds.contains(&event.kind()))
            && named(&self.pipelines, event.about.pipeline.as_deref())
            && named(&self.repositories, event.about.repository.as_deref())
    }
}

/// Whether the whole text is of the pattern; in linear space and at most quadratic time, both of
/// bounded texts.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star takes one more byte.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, taken)) = star {
            (p, t) = (after, taken + 1);
            star = Some((after, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::samples;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("car", "car", true),
            ("car", "cart", false),
            ("*", "", true),
            ("team/*", "team/car", true),
            ("team/*", "other/team/car", false),
            ("*/car", "a/car", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("", "a", false),
            ("**", "abc", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn filters() {
        let count = |yaml: &str| {
            let filter: Filter = pitlane_release::yaml::read(yaml, 1000).unwrap();
            samples().iter().filter(|event| filter.passes(event)).count()
        };
        for (yaml, want) in [
            ("{}", 11),
            ("severity: debug", 12),
            ("severity: warning", 6),
            ("severity: error", 1),
            ("events: [run-released, step-finished]", 1),
            ("{events: [run-released, step-finished], severity: debug}", 2),
            ("events: []", 0),
            ("pipelines: [donkey*]", 11),
            ("pipelines: [other]", 0),
            ("repositories: [team/*]", 11),
            ("repositories: [team]", 0),
        ] {
            assert_eq!(count(yaml), want, "{yaml}");
        }
        for bad in ["event: []", "severity: loud", "events: [run-eaten]"] {
            assert!(pitlane_release::yaml::read::<Filter>(bad, 1000).is_err(), "{bad}");
        }
        let mut stray = samples().remove(9);
        stray.about = crate::About::default();
        let asks = Filter { pipelines: Some(vec!["*".into()]), ..Filter::default() };
        assert!(!asks.passes(&stray) && Filter::default().passes(&stray));
    }
}
