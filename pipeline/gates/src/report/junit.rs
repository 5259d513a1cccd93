//! `JUnit`'s XML, as pytest, cargo-nextest, gotestsum, surefire and others write it. There is no
//! standard; what is read is what they have in common. A document type is refused, so that no
//! entity is ever expanded.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use super::{ReportError, invalid};
use crate::{
    finding::{Finding, Fix, MAX_FINDINGS, MAX_TEXT, Report, Severity},
    text,
};

const FORMAT: &str = "JUnit report";
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Most attributes of an element.
const MAX_ATTRIBUTES: usize = 64;
/// Most names of tests that passed that are kept.
const MAX_PASSED: usize = 1000;

/// What is open while the document is read.
enum Open {
    /// What the suite says it has in it, and how many were seen before it.
    Suite {
        declared: u64,
        before: usize,
    },
    Case(Case),
    Other,
}

struct Case {
    name: String,
    place: String,
    failure: Option<String>,
    skipped: bool,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
    let document = std::str::from_utf8(bytes).map_err(|error| invalid(FORMAT, error))?;
    let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}').trim_start());
    let mut report = Report { tool: "junit".into(), ..Report::default() };
    let mut stack: Vec<Open> = Vec::new();
    let mut rooted = false;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event();
        match event.map_err(|error| invalid(FORMAT, format!("byte {at}: {error}")))? {
            Event::Start(element) => {
                let open = start(&element, &mut stack, &mut rooted, &report)?;
                if stack.len() == MAX_DEPTH {
                    return Err(invalid(FORMAT, format!("more than {MAX_DEPTH} levels deep")));
                }
                stack.push(open);
            }
            Event::Empty(element) => {
                let open = start(&element, &mut stack, &mut rooted, &report)?;
                end(open, &mut report)?;
            }
            Event::End(_) => {
                let Some(open) = stack.pop() else {
                    return Err(invalid(FORMAT, "an element ends that was not begun"));
                };
                end(open, &mut report)?;
            }
            Event::DocType(_) => {
                return Err(invalid(FORMAT, "it has a document type, which is refused"));
            }
            // What a test said: read over, not kept.
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
            Event::Eof if !stack.is_empty() => return Err(invalid(FORMAT, "it ends too early")),
            Event::Eof if !rooted => return Err(invalid(FORMAT, "it has no element")),
            Event::Eof => return Ok(report),
        }
    }
}

fn start(
    element: &BytesStart<'_>,
    stack: &mut [Open],
    rooted: &mut bool,
    report: &Report,
) -> Result<Open, ReportError> {
    let name = element.name();
    let name: &str = name.as_ref();
    if stack.is_empty() {
        if *rooted || !matches!(name, "testsuites" | "testsuite") {
            return Err(invalid(
                FORMAT,
                format!("`{name}` at its top, want one testsuites or testsuite"),
            ));
        }
        *rooted = true;
    }
    Ok(match name {
        "testsuites" | "testsuite" => {
            let number = |name| -> Result<u64, ReportError> {
                let Some(text) = attribute(element, &[name])? else { return Ok(0) };
                let wrong = |_| invalid(FORMAT, format!("{name}=\"{text}\" is no number"));
                if text.is_empty() { Ok(0) } else { text.parse().map_err(wrong) }
            };
            let declared = number("failures")?.saturating_add(number("errors")?);
            Open::Suite { declared, before: report.findings.len() }
        }
        "testcase" => {
            let class = attribute(element, &["classname"])?.filter(|class| !class.is_empty());
            let test = attribute(element, &["name"])?.unwrap_or_default();
            let name = match class {
                Some(class) => text::line(&format!("{class}::{test}"), MAX_TEXT),
                None => test,
            };
            let file = attribute(element, &["file"])?;
            let place = match (file, attribute(element, &["line"])?) {
                (Some(file), Some(line)) => text::line(&format!("{file}:{line}"), MAX_TEXT),
                (Some(file), None) => file,
                (None, _) => String::new(),
            };
            Open::Case(Case { name, place, failure: None, skipped: false })
        }
        "failure" | "error" | "skipped" => {
            let why = attribute(element, &["message", "type"])?.unwrap_or_default();
            match stack.last_mut() {
                Some(Open::Case(case)) if name == "skipped" => case.skipped = true,
                Some(Open::Case(case)) => {
                    case.failure.get_or_insert(if why.is_empty() { name.to_owned() } else { why });
                }
                // An error of a whole suite: none of its tests can be trusted.
                Some(Open::Suite { .. }) if name != "skipped" => {
                    return Ok(Open::Case(Case {
                        name: "the suite itself".into(),
                        place: String::new(),
                        failure: Some(if why.is_empty() { name.to_owned() } else { why }),
                        skipped: false,
                    }));
                }
                _ => {}
            }
            Open::Other
        }
        _ => Open::Other,
    })
}

fn end(open: Open, report: &mut Report) -> Result<(), ReportError> {
    match open {
        Open::Other => {}
        Open::Suite { declared, before } => {
            let shown = (report.findings.len() - before) as u64;
            if declared > shown {
                let why = format!("a suite says that {declared} tests failed, but shows {shown}");
                return Err(invalid(FORMAT, why));
            }
        }
        Open::Case(case) => {
            let total = report.findings.len() as u64 + report.passed_count + report.skipped;
            if total >= MAX_FINDINGS as u64 {
                return Err(ReportError::TooMany);
            }
            match case.failure {
                Some(why) => report.findings.push(Finding {
                    id: if case.name.is_empty() { "unnamed".into() } else { case.name },
                    severity: Some(Severity::High),
                    title: why,
                    place: case.place,
                    fix: Fix::Unknown,
                    fingerprint: None,
                    set_aside: None,
                }),
                None if case.skipped => report.skipped += 1,
                None => {
                    report.passed_count += 1;
                    if report.passed.len() < MAX_PASSED {
                        report.passed.push(case.name);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The first of these attributes that there is, with XML's own entities alone, on one short line.
fn attribute(element: &BytesStart<'_>, names: &[&str]) -> Result<Option<String>, ReportError> {
    for name in names {
        // Ours is the count; the library's search for duplicates is quadratic.
        for (number, attribute) in element.attributes().with_checks(false).enumerate() {
            if number == MAX_ATTRIBUTES {
                return Err(invalid(
                    FORMAT,
                    format!("an element has more than {MAX_ATTRIBUTES} attributes"),
                ));
            }
            let attribute = attribute.map_err(|error| invalid(FORMAT, error))?;
            if attribute.key.as_ref() == *name {
                let value = quick_xml::escape::unescape(&attribute.value);
                let value = value.map_err(|error| invalid(FORMAT, error))?;
                return Ok(Some(text::line(&value, MAX_TEXT)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u64, Vec<String>, u64), String> {
        let report = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let failed = report.findings.iter().map(|f| format!("{} {} {}", f.id, f.place, f.title));
        Ok((report.passed_count, failed.collect(), report.skipped))
    }

    #[test]
    fn tests_that_passed_failed_and_were_not_run() {
        let text = r#"<?xml version="1.0" encoding="utf-8"?>
            <testsuites><testsuite name="s" tests="4" failures="1" errors="1" skipped="1">
              <properties><property name="a" value="b"/></properties>
              <testcase classname="c" name="good" time="0.1"><system-out>x &amp; y</system-out></testcase>
              <testcase classname="c" name="bad" file="t.py" line="7"><failure message="1 &lt; 2">
                 <![CDATA[ <error/> ]]></failure></testcase>
              <testcase name="broken"><error type="E"/></testcase>
              <testcase name="later"><skipped/></testcase>
            </testsuite></testsuites>"#;
        let failed = vec!["c::bad t.py:7 1 < 2".to_owned(), "broken  E".to_owned()];
        assert_eq!(read(text), Ok((1, failed, 1)));
    }

    #[test]
    fn what_is_no_report() {
        let bomb = "<!DOCTYPE a [<!ENTITY x 'y'>]><testsuite><testcase name='&x;'/></testsuite>";
        let attributes: Vec<String> = (0..100).map(|n| format!("a{n}=''")).collect();
        let attributes = attributes.join(" ");
        for (text, want) in [
            (bomb, "document type"),
            ("<testsuite><testcase name='&x;'/></testsuite>", "x"),
            (
                "<testsuite failures='2'><testcase name='a'><failure/></testcase></testsuite>",
                "shows 1",
            ),
            ("<testsuites failures='1'><testsuite/></testsuites>", "shows 0"),
            ("<testsuite failures='-1'/>", "no number"),
            ("<testsuite><testcase name='a'>", "too early"),
            ("<testsuite></testsuites>", "testsuite"),
            ("<testsuite/><testsuite/>", "at its top"),
            ("<html/>", "at its top"),
            ("", "no element"),
            ("PASS", "no element"),
            (&format!("<testsuite><testcase {attributes}/></testsuite>"), "attributes"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let suite = "<testsuite><error message='no fixture'/></testsuite>";
        assert_eq!(read(suite).unwrap().1, ["the suite itself  no fixture"]);
    }
}
