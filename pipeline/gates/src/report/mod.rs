//! Reports of other programs: formats, and parsers that are bounded in bytes, items and depth.
//!
//! Strict where the answer depends on it (a report that is of another version, of a program that
//! did not finish, or that contradicts itself is none), lenient where programs differ.

mod bounded;
mod cyclonedx;
mod junit;
mod sarif;
mod vuln;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{MAX_FINDINGS, Report};

/// Largest report that is read (bytes).
pub const MAX_REPORT: usize = 16 << 20;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// SARIF 2.1.0.
    Sarif,
    /// `JUnit`'s XML, as test runners write it.
    Junit,
    /// CycloneDX JSON with `vulnerabilities`: a VDR or VEX.
    Cyclonedx,
    /// Vulnerability scans: JSON of trivy or grype, or cosign's predicate around one of them.
    Vuln,
}

/// Why something is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// More bytes than are read.
    #[error("{len} bytes, at most {MAX_REPORT} are read")]
    TooLarge {
        /// Bytes found.
        len: usize,
    },
    /// More findings than are read.
    #[error("more than {MAX_FINDINGS} findings or tests")]
    TooMany,
    /// Not of the format.
    #[error("no {format}: {why}")]
    Invalid {
        /// The format, in words.
        format: &'static str,
        /// Why, with the place where the parser knows it.
        why: String,
    },
    /// The program says itself that it did not finish.
    #[error("{tool} says that it did not finish; look at what it said on standard error")]
    Unfinished {
        /// The program.
        tool: String,
    },
}

/// Reads a report.
pub fn parse(format: Format, bytes: &[u8]) -> Result<Report, ReportError> {
    if bytes.len() > MAX_REPORT {
        return Err(ReportError::TooLarge { len: bytes.len() });
    }
    let report = match format {
        Format::Sarif => sarif::parse(bytes),
        Format::Junit => junit::parse(bytes),
        Format::Cyclonedx => cyclonedx::parse(bytes),
        Format::Vuln => vuln::parse(bytes),
    }?;
    if report.findings.len() > MAX_FINDINGS {
        return Err(ReportError::TooMany);
    }
    Ok(report)
}

fn invalid(format: &'static str, why: impl std::fmt::Display) -> ReportError {
    ReportError::Invalid { format, why: crate::text::line(&why.to_string(), 300) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [Format; 4] = [Format::Sarif, Format::Junit, Format::Cyclonedx, Format::Vuln];

    /// Reports that are read, as seeds: (format, text).
    fn seeds() -> Vec<(Format, String)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let format = |name: &str| match name.split('-').next().unwrap() {
            "sarif" => Format::Sarif,
            "junit" => Format::Junit,
            "cyclonedx" => Format::Cyclonedx,
            _ => Format::Vuln,
        };
        files
            .iter()
            .map(|file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                (format(name), std::fs::read_to_string(file).unwrap())
            })
            .collect()
    }

    #[test]
    fn seeds_are_read_and_nothing_of_another_format_is() {
        let seeds = seeds();
        assert!(seeds.len() >= 7);
        for (format, text) in &seeds {
            parse(*format, text.as_bytes()).unwrap();
            for other in FORMATS.into_iter().filter(|other| other != format) {
                assert!(parse(other, text.as_bytes()).is_err(), "{format:?} as {other:?}");
            }
        }
    }

    #[test]
    fn bounds() {
        let large = vec![b' '; MAX_REPORT + 1];
        let many = |item: &str| vec![item; MAX_FINDINGS + 1].join(",");
        let sarif = format!(
            r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"t"}}}},"results":[{}]}}]}}"#,
            many(r#"{"message":{}}"#)
        );
        let cyclonedx = format!(
            r#"{{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[{}]}}"#,
            many(r#"{"id":"a"}"#)
        );
        let grype = format!(
            r#"{{"descriptor":{{"name":"grype"}},"matches":[{}]}}"#,
            many(r#"{"vulnerability":{"id":"a"},"artifact":{"name":"b"}}"#)
        );
        let junit = format!("<testsuite>{}</testsuite>", "<testcase name='a'/>".repeat(20_001));
        let deep = "[".repeat(100_000);
        for (format, text) in [
            (Format::Sarif, &sarif),
            (Format::Cyclonedx, &cyclonedx),
            (Format::Vuln, &grype),
            (Format::Junit, &junit),
        ] {
            assert!(matches!(parse(format, &large), Err(ReportError::TooLarge { .. })));
            let error = parse(format, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("20000"), "{format:?}: {error}");
            assert!(parse(format, deep.as_bytes()).is_err());
            let deep_xml = "<testsuite>".repeat(5000);
            assert!(parse(format, deep_xml.as_bytes()).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, text in "\\PC{0,200}|[<>/&;!\\[\\]a\"'= -]{0,60}") {
            for format in FORMATS {
                let _ = parse(format, &bytes);
                let _ = parse(format, text.as_bytes());
            }
        }

        #[test]
        fn nor_do_changed_reports(
            which: prop::sample::Index, at: prop::sample::Index, cut in 0..40usize,
            put in prop_oneof![
                Just(Vec::new()), any::<Vec<u8>>(),
                prop::sample::select(vec![&b"null"[..], b"[]", b"{}", b"-1", b"1e999", b"\"\"",
                    b"<!DOCTYPE a [<!ENTITY b \"c\">]>", b"&b;", b"&#0;", b"]]>", b"<![CDATA[",
                    b"18446744073709551616"]).prop_map(<[u8]>::to_vec),
            ]
        ) {
            let seeds = seeds();
            let (format, text) = &seeds[which.index(seeds.len())];
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
            if let Ok(report) = parse(*format, &bytes) {
                for finding in &report.findings {
                    for text in [&finding.id, &finding.title, &finding.place] {
                        prop_assert!(text.chars().count() <= crate::finding::MAX_TEXT);
                        prop_assert!(!text.contains(char::is_control));
                    }
                }
            }
        }
    }
}
