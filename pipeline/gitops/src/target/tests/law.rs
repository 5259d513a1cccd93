//! The law of one scalar, on files that nobody wrote: whatever stands around, an edit changes the
//! bytes of the scalar and no other.

use proptest::prelude::*;

use super::*;

/// Something that stands in a file, in lines, indented by nothing.
fn block() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-z]{1,8}",
        "'[a-z #:]{0,9}'",
        "\"[a-z #:\\t]{0,9}\"",
        Just("[a, {b: c}, 'd # e']".to_owned()),
        Just("{x: 1, y: [2, 3]} # {\"$imagepolicy\": \"other:car\"}".to_owned()),
        Just("|\n    digest: not me\n    # nor me".to_owned()),
        Just(">-\n    folded\n\n    text".to_owned()),
        Just("!custom v".to_owned()),
        Just("~".to_owned()),
        Just("\u{e9}\u{1f697}".to_owned()),
    ];
    let comment = prop_oneof![Just(String::new()), "[ ]{1,3}#[ -~]{0,20}"];
    (leaf, comment).prop_map(|(leaf, comment)| {
        if leaf.contains(['\n', '#']) { leaf } else { format!("{leaf}{comment}") }
    })
}

fn blocks(prefix: &'static str) -> impl Strategy<Value = String> {
    let between = prop_oneof![Just(""), Just("\n"), Just("# alone\n"), Just("    # far\n")];
    proptest::collection::vec((block(), between), 0..5).prop_map(move |blocks| {
        blocks.iter().enumerate().fold(String::new(), |text, (number, (block, between))| {
            format!("{text}{prefix}{number}: {block}\n{between}")
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn only_the_scalar_changes(
        head in blocks("h"),
        tail in blocks("t"),
        quote in prop_oneof![Just(""), Just("'"), Just("\"")],
        behind in prop_oneof![Just(""), Just(" # why"), Just("   ")],
        kind in 0..4,
        crlf: bool,
        bom: bool,
        ended: bool,
    ) {
        let old = digest('1');
        let reference = format!("r.example:5000/team/car@{old}");
        let (about, body, scalar) = match kind {
            0 => (
                "{kind: kustomize, file: f, image: car}",
                format!("images:\n- name: x\n  digest: {old}\n- name: car\n  newName: r.example:5000/team/car\n  digest: @\n"),
                old,
            ),
            1 => ("{kind: compose, file: f, service: car}", "services:\n  car:\n    image: @\n".into(), reference),
            2 => ("{kind: helm, file: f, path: a.b}", "a:\n  c: d\n  b: @\n".into(), reference),
            _ => (
                "{kind: kubernetes, file: f, container: car}",
                "kind: Pod\nspec:\n  containers:\n  - name: car\n    image: @\n".into(),
                reference,
            ),
        };
        let body = body.replace('@', &format!("{quote}\u{1}{quote}{behind}"));
        let mut text = format!("{head}{body}{tail}");
        if !ended {
            text.truncate(text.trim_end_matches('\n').len());
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        if bom {
            text.insert(0, '\u{feff}');
        }
        let before = text.replace('\u{1}', &scalar);
        let want = text.replace('\u{1}', &scalar.replace(&digest('1'), &digest('2')));
        let target = target(about);
        let edited = target.set(before.as_bytes(), &repository(), &pin());
        prop_assert!(edited.is_ok(), "{:?}\n{}", edited, before);
        prop_assert_eq!(&edited.unwrap().text, &want);
    }

    /// Of any text: a refusal, or an edit that reads back as wanted and changes nothing again.
    #[test]
    fn arbitrary_texts_are_refused_or_edited(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("images:\n"), Just("- name: car\n"), Just("  digest: x\n"), Just("- "), Just("  "),
                Just("  newName: r.example:5000/team/car\n"), Just("&a "), Just("*a"), Just("<<: *a\n"),
                Just("  digest: &a 'y' # z\n"), Just("{"), Just("}"), Just("["), Just("]"), Just("\n"), Just(": "),
                Just("|\n"), Just("---\n"), Just("\""), Just("# c\n"), Just("? "), Just("\t"), Just("!!str "),
            ],
            0..14,
        ),
    ) {
        let text = pieces.concat();
        let target = target("{kind: kustomize, file: f, image: car}");
        if let Ok(edited) = target.set(text.as_bytes(), &repository(), &pin()) {
            let found = target.look(edited.text.as_bytes(), &repository()).unwrap();
            prop_assert_eq!(found.digest, Some(pin().digest));
            let again = target.set(edited.text.as_bytes(), &repository(), &pin()).unwrap();
            prop_assert_eq!(again.text, edited.text);
        }
    }
}
