//! Messages for Slack-compatible incoming webhooks: Slack, and Mattermost, which reads `text`.
//! Pure.
//!
//! Values of others stand in code spans: neither takes what is in one for a mention, a link, or
//! formatting. Slack parses `<…>` even there, hence the entities. Slack is told to look for
//! nothing by itself, too (`verbatim`, `parse: none`).
//!
//! Sources: Slack's "Formatting message text" and "Block Kit: section, context" reference pages;
//! Mattermost's "Incoming webhooks" page.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    event::{Event, Link, Severity},
    headline::{Part, facts, sentence},
    text,
};

/// Longest address of a link (characters); longer ones are left out.
const MAX_URL: usize = 1000;

/// The message of an event.
pub fn message(event: &Event) -> Value {
    let first = format!("{} {}", mark(event.severity()), head(event));
    let facts: Vec<(&str, String)> =
        facts(event).into_iter().map(|(name, value)| (name, span(&value))).collect();
    let links: Vec<String> = event.links.iter().filter_map(link).collect();

    let mut whole = vec![first.clone()];
    whole.extend(facts.iter().map(|(name, value)| format!("{name}: {value}")));
    if !links.is_empty() {
        whole.push(links.join(" · "));
    }
    let mrkdwn = |text: &str| json!({ "type": "mrkdwn", "text": text, "verbatim": true });
    let mut blocks = vec![json!({ "type": "section", "text": mrkdwn(&first) })];
    if !facts.is_empty() {
        let fields = facts.iter().map(|(name, value)| mrkdwn(&format!("*{name}*\n{value}")));
        let fields: Vec<Value> = fields.collect();
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if !links.is_empty() {
        let elements = [mrkdwn(&links.join(" · "))];
        blocks.push(json!({ "type": "context", "elements": elements }));
    }
    json!({
        "text": whole.join("\n"),
        "blocks": blocks,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// Characters, not `:names:`, which only some know.
fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Debug => "▫️",
        Severity::Info => "✅",
        Severity::Warning => "⚠️",
        Severity::Error => "🛑",
    }
}

fn head(event: &Event) -> String {
    let parts = sentence(event).into_iter().map(|part| match part {
        Part::Word(word) => word.to_owned(),
        Part::Value(value) => span(&value),
    });
    parts.collect()
}

/// A value in a code span of one line.
fn span(value: &str) -> String {
    let line = text::line(value, usize::MAX);
    // A backtick would end the span, whatever entity or backslash stood for it.
    let line = line.replace('`', "'");
    let line = if line.is_empty() { "–" } else { &line };
    format!("`{}`", entities(line))
}

/// Slack's three control characters.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `<address|title>`; none for what would not stay inside of that.
fn link(link: &Link) -> Option<String> {
    let url = reqwest::Url::parse(&link.url).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.as_str().chars().count() > MAX_URL {
        return None;
    }
    let mut address = String::new();
    for c in url.as_str().chars() {
        match c {
            // What ends the address here, or is formatting to Markdown.
            '|' | '<' | '>' | '`' | '*' | '(' | ')' | '[' | ']' | '~' | '@' | '!' => {
                let _ = write!(address, "%{:02X}", u32::from(c));
            }
            _ => address.push(c),
        }
    }
    // A title is one of ours, but it comes by the store: letters, digits, spaces.
    let title: String =
        link.title.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let title = text::line(&title, 80);
    let title = if title.is_empty() { "more" } else { &title };
    Some(format!("<{}|{title}>", address.replace('&', "&amp;")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{About, What, text::tests::samples};

    #[test]
    fn messages_as_they_are_sent() {
        let texts: Vec<String> = samples()
            .iter()
            .map(|event| {
                let message = message(event);
                let blocks = message["blocks"].as_array().unwrap();
                assert!(blocks.iter().all(|block| {
                    block["fields"].as_array().is_none_or(|fields| fields.len() <= 10)
                }));
                message["text"].as_str().unwrap().to_owned()
            })
            .collect();
        let texts = [&texts[2], &texts[3], &texts[10]].map(String::as_str);
        insta::assert_snapshot!(texts.join("\n\n"), @r#"
        ⚠️ `v1.0.0` of `team/car`: failed in `push`, and is tried again
        code: `push-failed`
        why: `127.0.0.1:5000: connection refused`
        next: `look at the registry`
        attempt: `2`
        counter: `3`
        commit: `af433fff2d93aed104018193e87f5ad31ec80ab0`
        pipeline: `donkeycar`
        run: `r12-5f3a9c01`
        <https://pitlane.example/runs/r12-5f3a9c01|run>

        ✅ `v1.0.0` of `team/car` is released
        image: `127.0.0.1:5000/team/car@sha256:403b300f1f7cbb6c5c0e1b4ac9a6a7f0e8a2d5d1b0c9f8e7d6c5b4a392817065`
        took: `9.530 s`
        counter: `3`
        commit: `af433fff2d93aed104018193e87f5ad31ec80ab0`
        pipeline: `donkeycar`
        run: `r12-5f3a9c01`
        <https://pitlane.example/runs/r12-5f3a9c01|run>

        ⚠️ `car-7` refuses `v1.0.0` of `team/car`: `rollback`
        why: `counter 3, the floor is 5`
        image: `127.0.0.1:5000/team/car@sha256:403b300f1f7cbb6c5c0e1b4ac9a6a7f0e8a2d5d1b0c9f8e7d6c5b4a392817065`
        counter: `3`
        commit: `af433fff2d93aed104018193e87f5ad31ec80ab0`
        pipeline: `donkeycar`
        run: `r12-5f3a9c01`
        <https://pitlane.example/runs/r12-5f3a9c01|run>
        "#);
    }

    #[test]
    fn blocks_as_they_are_sent() {
        let released = message(&samples()[3]);
        insta::assert_snapshot!(serde_json::to_string_pretty(&released).unwrap(), @r#"
        {
          "blocks": [
            {
              "text": {
                "text": "✅ `v1.0.0` of `team/car` is released",
                "type": "mrkdwn",
                "verbatim": true
              },
              "type": "section"
            },
            {
              "fields": [
                {
                  "text": "*image*\n`127.0.0.1:5000/team/car@sha256:403b300f1f7cbb6c5c0e1b4ac9a6a7f0e8a2d5d1b0c9f8e7d6c5b4a392817065`",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*took*\n`9.530 s`",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*counter*\n`3`",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*commit*\n`af433fff2d93aed104018193e87f5ad31ec80ab0`",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*pipeline*\n`donkeycar`",
                  "type": "mrkdwn",
                  "verbatim": true
                },
                {
                  "text": "*run*\n`r12-5f3a9c01`",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "section"
            },
            {
              "elements": [
                {
                  "text": "<https://pitlane.example/runs/r12-5f3a9c01|run>",
                  "type": "mrkdwn",
                  "verbatim": true
                }
              ],
              "type": "context"
            }
          ],
          "link_names": false,
          "parse": "none",
          "text": "✅ `v1.0.0` of `team/car` is released\nimage: `127.0.0.1:5000/team/car@sha256:403b300f1f7cbb6c5c0e1b4ac9a6a7f0e8a2d5d1b0c9f8e7d6c5b4a392817065`\ntook: `9.530 s`\ncounter: `3`\ncommit: `af433fff2d93aed104018193e87f5ad31ec80ab0`\npipeline: `donkeycar`\nrun: `r12-5f3a9c01`\n<https://pitlane.example/runs/r12-5f3a9c01|run>",
          "unfurl_links": false,
          "unfurl_media": false
        }
        "#);
    }

    /// What is left of a text without its code spans and the links that we make.
    fn outside(text: &str) -> String {
        let mut rest = String::new();
        for (number, piece) in text.split('`').enumerate() {
            if number % 2 == 0 {
                rest.push_str(piece);
            } else {
                assert!(!piece.contains(['<', '>', '\n']), "{piece}");
                assert!(!piece.is_empty(), "an empty span is none");
            }
        }
        assert_eq!(text.matches('`').count() % 2, 0, "a span is open: {text}");
        rest.replace("<https://pitlane.example/runs/r12-5f3a9c01|run>", "")
    }

    fn harmless(event: &Event) {
        let message = message(event);
        let mut texts = vec![message["text"].as_str().unwrap().to_owned()];
        let blocks = message["blocks"].as_array().unwrap();
        for block in blocks {
            let more = ["fields", "elements"].iter().filter_map(|name| block[*name].as_array());
            for text in more.flatten().chain(block.get("text")) {
                let text = text["text"].as_str().unwrap();
                // Slack's limits of fields and of texts.
                let most = if block["fields"].is_array() { 2000 } else { 3000 };
                assert!(text.chars().count() <= most, "{}", text.chars().count());
                texts.push(text.to_owned());
            }
        }
        for text in texts {
            let rest = outside(&text);
            for word in ["<", ">", "@", "://", "!", "[", "]", "www."] {
                assert!(!rest.contains(word), "`{word}` in {rest}");
            }
        }
    }

    fn hostile(text: &str) -> Vec<Event> {
        let about = About {
            tag: Some(text.to_owned()),
            repository: Some(text.to_owned()),
            pipeline: Some(text.to_owned()),
            run: Some(text.to_owned()),
            ..About::default()
        };
        let s = || text.to_owned();
        let whats = [
            What::CarRefused { car: s(), image: s(), code: s(), message: s() },
            What::TagMoved { was: s(), now: s() },
            What::GateFailed { gate: s(), message: s(), findings: [(s(), 1)].into() },
            What::RunRefused { step: s(), code: s(), message: s(), hint: s() },
        ];
        let events = whats.into_iter();
        let events = events.map(|w| Event::new(w, about.clone(), "", jiff::Timestamp::UNIX_EPOCH));
        events.map(|event| event.link("run", "https://pitlane.example/runs/r12-5f3a9c01")).collect()
    }

    #[test]
    fn what_people_try() {
        for text in [
            "<!channel>",
            "<!here|x>",
            "<@U024BE7LH>",
            "@channel @all @here",
            "`<!channel>`",
            "``` \n@all\n```",
            "<https://evil.example|click>",
            "[click](https://evil.example)",
            "v1\n@channel",
            "v1\u{2028}@channel",
            "\\`@all",
            "&lt;!channel&gt;",
            "\u{200b}`\u{200b}@all",
            "",
            "`",
            "``",
        ] {
            hostile(text).iter().for_each(harmless);
        }
        for long in ["&".repeat(9000), "<@all>".repeat(2000), "\u{1f3ce}".repeat(5000)] {
            hostile(&long).iter().for_each(harmless);
        }
        // The check finds what is not escaped.
        assert!(outside("a <!channel> b").contains('<'));
        assert!(std::panic::catch_unwind(|| outside("`a")).is_err());
    }

    #[test]
    fn links_stay_inside() {
        let made = |url: &str| link(&Link { title: "a|b>c".into(), url: url.into() });
        assert_eq!(made("javascript:alert(1)"), None);
        assert_eq!(made("no url"), None);
        assert_eq!(made(&format!("https://x.example/{}", "a".repeat(2000))), None);
        let all = made("https://x.example/a|b>c<d`e?f=@g&h=(1)").unwrap();
        assert_eq!(all, "<https://x.example/a%7Cb%3Ec%3Cd%60e?f=%40g&amp;h=%281%29|a b c>");
    }

    proptest! {
        #[test]
        fn no_text_gets_out_of_its_span(text in "[`<>@!|&a-c\\\\\\n\\[\\]()*_~:/. \u{200b}\u{2028}]{0,40}") {
            hostile(&text).iter().for_each(harmless);
        }

        #[test]
        fn nor_does_any_other(text in "\\PC{0,60}|.{0,60}") {
            hostile(&text).iter().for_each(harmless);
        }
    }
}
