//! What stands in a stranger's commit or image, and what programs say of it: reports of gates, files
//! with secrets, LFS pointers, lists of packages.

use std::sync::LazyLock;

use pitlane_gates::{
    finding::MAX_FINDINGS,
    report::{self, Format},
    secrets::scan::{MAX_PER_FILE, Scanner},
};
use pitlane_pipeline::{build, checkout::Pointer};

use super::text;
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "gate-report",
        run: gate_report,
        more: &[],
        words: &[
            "\"version\":\"2.1.0\"",
            "\"executionSuccessful\":false",
            "\"suppressions\":[{\"kind\":\"external\"}]",
            "<testcase name=\"a\"/>",
            "<failure message=\"x\"/>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]>",
            "&b;",
            "\"analysis\":{\"state\":\"not_affected\"}",
            "\"ratings\":[{\"score\":9.8}]",
            "\"SchemaVersion\":2",
            "\"Vulnerabilities\":[]",
            "1e400",
        ],
        max: 64 * 1024,
    },
    Target {
        name: "gate-secrets",
        run: gate_secrets,
        more: &[],
        words: &["AKIA", "-----BEGIN PRIVATE KEY-----", "ghp_", "password=", "eyJ", "\n", "\""],
        max: 64 * 1024,
    },
    Target {
        name: "lfs-pointer",
        run: lfs_pointer,
        more: &[],
        words: &[
            "version https://git-lfs.github.com/spec/v1\n",
            "oid sha256:",
            "size ",
            "ext-0-a ",
        ],
        max: 2048,
    },
    Target {
        name: "dpkg-list",
        run: dpkg_list,
        more: &[],
        words: &["Status: install ok installed\n", "Package: ", "Version: ", "\n\n", " \u{e9}\n"],
        max: 64 * 1024,
    },
];

/// The input as a report of each format.
fn gate_report(input: &[u8]) -> Reached {
    let all = [Format::Sarif, Format::Junit, Format::Cyclonedx, Format::Vuln].map(|format| {
        let read = report::parse(format, input);
        match &read {
            Ok(report) => {
                assert!(
                    report.findings.len() <= MAX_FINDINGS && report.passed.len() <= MAX_FINDINGS
                );
                for finding in &report.findings {
                    plain(&finding.id);
                    plain(&finding.title);
                    plain(&finding.place);
                    finding.set_aside.iter().for_each(|why| plain(why));
                }
                plain(&report.tool);
            }
            Err(why) => plain(&why.to_string()),
        }
        Reached::of(&read)
    });
    let [sarif, junit, cyclonedx, vuln] = all;
    sarif.and(junit).and(cyclonedx).and(vuln)
}

/// What a stranger wrote is one short line that steers no terminal.
fn plain(text: &str) {
    assert!(text.chars().count() <= 1000, "{} characters", text.chars().count());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// The input as a file of settings, and as one of code.
fn gate_secrets(input: &[u8]) -> Reached {
    static SCANNER: LazyLock<Scanner> = LazyLock::new(Scanner::new);
    let lines = input.split(|byte| *byte == b'\n').count() as u64;
    let mut reached = Reached::refused("nothing");
    for path in ["deploy/.env", "src/drive.py"] {
        let found = SCANNER.scan(path, input);
        assert!(found.len() <= MAX_PER_FILE, "{}", found.len());
        for secret in &found {
            assert!((1..=lines).contains(&secret.line), "line {} of {lines}", secret.line);
            plain(&secret.shown);
            assert!(secret.shown.chars().count() <= 12, "{:?} tells too much", secret.shown);
            assert_eq!(secret.fingerprint.len(), 16);
        }
        assert_eq!(SCANNER.scan(path, input), found);
        reached = reached.and(match found.first() {
            Some(secret) => Reached::accepted(secret.rule),
            None => Reached::refused("nothing"),
        });
    }
    reached
}

/// A pointer that is read says where one object is, and nothing else.
fn lfs_pointer(input: &[u8]) -> Reached {
    let read = Pointer::of(input);
    if let Ok(Some(pointer)) = &read {
        let again = format!(
            "version https://git-lfs.github.com/spec/v1\noid {}\nsize {}\n",
            pointer.oid, pointer.size
        );
        assert_eq!(Pointer::of(again.as_bytes()).unwrap().as_ref(), Some(pointer));
    }
    match read {
        Ok(Some(_)) => Reached::accepted("pointer"),
        Ok(None) => Reached::refused("another file"),
        Err(why) => Reached::refused(format!("{why:#}")),
    }
}

/// Packages by words that can be shown.
fn dpkg_list(input: &[u8]) -> Reached {
    let found = build::packages(text(input));
    assert!(found.len() <= build::MAX_PACKAGES);
    for package in &found {
        for word in [&package.name, &package.version, &package.arch] {
            assert!((1..=200).contains(&word.len()) && word.chars().all(|c| c.is_ascii_graphic()));
        }
    }
    match found.is_empty() {
        true => Reached::refused("no package"),
        false => Reached::accepted(found.len().min(3)),
    }
}
