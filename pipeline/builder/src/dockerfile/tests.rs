//! What is built, and what every kind of reach is answered with.

use pitlane_release::Platform;

use super::*;

fn request(bases: &[&str]) -> BuildRequest {
    let mut request = BuildRequest::new("c".into(), Platform::LinuxArm64, "b".into());
    request.bases = bases.iter().map(|&base| base.to_owned()).collect();
    request
}

fn fault(text: &str) -> Fault {
    let got = check(text, &request(&["base:1", "tools@sha256:00"]));
    got.map(|bases| panic!("{text:?} was taken, with {bases:?}")).unwrap_err().fault
}

#[test]
fn ordinary_dockerfiles_are_built() {
    for (text, bases) in [
        ("FROM scratch\nCOPY . /\n", &[][..]),
        (
            "# escape=`\n# comment\nARG BASE=base:1\nFROM ${BASE} AS build\nRUN a `\n # note\n\n && b\nFROM build\n",
            &["base:1"],
        ),
        (
            "from base:1 as A\nFROM scratch\nCOPY --from=a --chown=1:1 /x /x\nCOPY --from=0 /x /y\n",
            &["base:1"],
        ),
        (
            "ARG TAG\nARG BASE=base:${TAG:-1}\nFROM \"$BASE\"\nCOPY --from=tools@sha256:00 /t /t\n",
            &["base:1", "tools@sha256:00"],
        ),
        (
            "FROM --platform=linux/arm64 base:1\nRUN --mount=type=secret,id=x --network=none cat /run/secrets/x\nADD a.tar.gz /\n",
            &["base:1"],
        ),
        ("FROM --platform=$TARGETPLATFORM base:1\r\nRUN echo \\\r\n  nothing\r\n", &["base:1"]),
    ] {
        let got = check(text, &request(&["base:1", "tools@sha256:00"])).unwrap();
        assert_eq!(got.iter().map(String::as_str).collect::<Vec<_>>(), bases, "{text}");
    }
}

#[test]
fn what_the_engine_would_fetch_is_refused() {
    let base = |name: &str| Fault::Base(name.into());
    assert_eq!(fault("FROM evil\n"), base("evil"));
    assert_eq!(fault("FROM base:1\nFROM base:10\n"), base("base:10"));
    assert_eq!(fault("ARG B=evil\nFROM $B\n"), base("evil"));
    // A stage of a later line is none yet: the engine would ask a registry.
    assert_eq!(fault("FROM late\nFROM scratch AS late\n"), base("late"));
    assert_eq!(fault("FROM scratch\nCOPY --from=evil / /\n"), base("evil"));
    assert_eq!(fault("FROM scratch\nCOPY --chown=1 --from=7 / /\n"), base("7"));
    assert_eq!(fault("FROM base:1\nRUN --mount=from=evil,target=/x true\n"), base("evil"));
    assert_eq!(fault("FROM ba\\\nse:2\n"), base("base:2"));
    assert_eq!(fault("FR\\\nOM evil\n"), base("evil"));
    for add in [
        "http://h/x",
        "https://h/x",
        "HTTPS://h",
        "git@h:r",
        "$URL",
        "${A}p://x",
        "--keep-git-dir https://x",
    ] {
        let got = fault(&format!("FROM scratch\nARG URL\nADD {add} /x\n"));
        assert!(matches!(got, Fault::Fetch(_)), "{add}: {got:?}");
    }
    assert!(matches!(fault("FROM scratch\nADD [\"http://h/x\", \"/\"]\n"), Fault::Fetch(_)));
    let mut open = request(&[]);
    open.network = Network::Default;
    assert!(check("FROM scratch\nADD https://h/x /x\n", &open).is_ok());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use Fault::{Directive, HereDocument, Instruction, Variable};
    assert_eq!(fault("# syntax=evil/front\nFROM scratch\n"), Directive("syntax=evil/front".into()));
    assert_eq!(fault("#SYNTAX = evil\nFROM scratch\n"), Directive("SYNTAX = evil".into()));
    for head in [
        "#!/bin/x\n# syntax=evil",
        "# note\n# syntax=evil",
        "\n# syntax=evil",
        "# note\n# escape=`",
    ] {
        assert!(matches!(fault(&format!("{head}\nFROM scratch\n")), Directive(_)), "{head}");
    }
    for (lines, word) in [
        // Two escape characters go on in old engines and not in new ones.
        ("RUN a \\\\\nADD http://x /\n", ""),
        // An indented comment ends the instruction in old ones.
        ("RUN a \\\n  # note\nADD http://x /\n", "ADD"),
        ("RUN a \\\n from evil\n", "FROM"),
    ] {
        let got = fault(&format!("FROM scratch\n{lines}"));
        assert!(matches!(&got, Fault::Line(why) if why.ends_with(word)), "{lines}: {got:?}");
    }
    assert_eq!(fault("# escape=x\nFROM scratch\n"), Directive("escape=x".into()));
    assert_eq!(
        fault("FROM scratch\nRUN <<EOF\nFROM scratch AS evil\nEOF\nFROM evil\n"),
        HereDocument
    );
    assert_eq!(fault("FROM scratch\nONBUILD ADD http://x /\n"), Instruction("ONBUILD".into()));
    assert_eq!(fault("FROM scratch\nINCLUDE x\n"), Instruction("INCLUDE".into()));
    for name in ["$NONE", "${BASE:+evil}", "${BASE", "base\\:1", "ev\"\"il", "$TARGETARCH"] {
        assert!(matches!(fault(&format!("FROM {name}\n")), Variable(_)), "{name}");
    }
    assert_eq!(fault("FROM scratch\nCOPY --from=$X / /\n"), Variable("$X".into()));
    assert_eq!(fault("ARG A=base:1\nARG A=evil\nFROM $A\n"), Fault::Twice("A".into()));
    // A comment after the first instruction is no directive any more.
    assert!(check("FROM scratch\n# syntax=x\n", &request(&[])).is_ok());
}

#[test]
fn no_more_rights_mounts_platforms_or_targets() {
    use Fault::{Empty, Mount, Platform, Rights, Target, TooMany};
    for flag in ["--security=insecure", "--network=host", "--device=x", "--network=default2"] {
        assert_eq!(fault(&format!("FROM base:1\nRUN {flag} true\n")), Rights(flag.into()));
    }
    for mount in ["type=ssh", "type=cache,target=/c", "type=bind,\"from=x\"", "type=$T"] {
        assert_eq!(fault(&format!("FROM base:1\nRUN --mount={mount} true\n")), Mount(mount.into()));
    }
    let mut cached = request(&["base:1"]);
    cached.cache = true;
    assert!(check("FROM base:1\nRUN --mount=type=cache,target=/c true\n", &cached).is_ok());
    assert_eq!(fault("FROM --platform=linux/amd64 base:1\n"), Platform("linux/amd64".into()));
    assert_eq!(fault("FROM --platform=$BUILDPLATFORM base:1\n"), Platform("$BUILDPLATFORM".into()));
    assert_eq!(fault(""), Empty);
    assert_eq!(fault("ARG X\n"), Empty);
    assert_eq!(fault(&format!("FROM scratch\n{}", "USER x\n".repeat(MAX_INSTRUCTIONS))), TooMany);
    let mut target = request(&[]);
    target.target = Some("gone".into());
    let got = check("FROM scratch AS here\n", &target).unwrap_err();
    assert_eq!(got.fault, Target("gone".into()));
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "(?s).{0,200}") {
        let _ = check(&text, &request(&["base:1"]));
    }
}
