//! What is no review, and the bounds of an answer.

use super::*;

fn review(edit: &[(&str, &str)]) -> String {
    let mut text = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":
        {"uid":"u-1","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE",
         "object":{"spec":{"x":[1]}},"oldObject":null,"dryRun":false}}"#
        .to_owned();
    for (from, to) in edit {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

#[test]
fn what_is_no_review_is_refused() {
    assert_eq!(Request::parse(review(&[]).as_bytes()).unwrap().uid, "u-1");
    type Map = serde_json::Map<String, serde_json::Value>;
    for (old, there) in [("null", false), ("\"\"", false), ("[7]", false), ("{}", true)] {
        let text = review(&[("\"oldObject\":null", &format!("\"oldObject\":{old}"))]);
        let objects: Objects<Map> = Request::objects(text.as_bytes()).unwrap();
        assert!(objects.object.is_some() && objects.old_object.is_some() == there, "{old}");
    }
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let long = "u".repeat(MAX_UID + 1);
    for (from, to, want) in [
        ("admission.k8s.io/v1", "admission.k8s.io/v2", "admission.k8s.io/v2"),
        ("AdmissionReview", "ConversionReview", "ConversionReview"),
        ("\"uid\":\"u-1\"", "\"uid\":\"\"", "uid"),
        ("\"uid\":\"u-1\",", "", "uid"),
        ("u-1", &long, "uid"),
        ("\"uid\":\"u-1\"", "\"uid\":1", "a string"),
        ("\"uid\":\"u-1\"", "\"uid\":\"u\\n1\"", "printable"),
        ("\"uid\":\"u-1\"", "\"uid\":\"u-1\",\"uid\":\"u-2\"", "duplicate"),
        ("CREATE", "create", "create"),
        ("CREATE", "EVICT", "EVICT"),
        ("\"kind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"},", "", "kind"),
        ("\"x\":[1]", &format!("\"x\":{deep}"), "100 levels"),
        ("}}", "}", "EOF"),
    ] {
        let error = Request::parse(review(&[(from, to)]).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{to}: {error}");
    }
    for none in ["null", "[]", "", "{}", "\u{0}", r#"{"request":null}"#] {
        assert!(Request::parse(none.as_bytes()).is_err(), "{none}");
    }
    let null = review(&[]).replace("\"request\":", "\"request\":null,\"x\":");
    assert!(Request::parse(null.as_bytes()).unwrap_err().to_string().contains("no request"));
}

#[test]
fn what_strangers_name_steers_no_log() {
    let names = r#""name":"a\n2026 allowed\u001b[2K\u202e","namespace":"NNN","dryRun""#;
    let long = "n".repeat(3_000_000);
    let text = review(&[("\"dryRun\"", &names.replace("NNN", &long))]);
    let request = Request::parse(text.as_bytes()).unwrap();
    assert_eq!(request.name, "a?2026 allowed?[2K?");
    assert_eq!(request.namespace.len(), MAX_NAME);
    let kind = format!("\"kind\":\"Pod\\r{long}\"");
    let request = Request::parse(review(&[("\"kind\":\"Pod\"", &kind)]).as_bytes()).unwrap();
    assert!(request.kind.kind.starts_with("Pod?n") && request.kind.kind.len() == MAX_NAME);

    let operation = format!("\"operation\":\"\\u001b{long}\"");
    let text = review(&[("\"operation\":\"CREATE\"", &operation)]);
    let error = Request::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 2 * MAX_WARNING && error.contains("variant `?nnn"), "{error}");

    let denial = Denial { status: 403, code: "unsigned", message: format!("a\nb{long}") };
    let warnings = vec!["w\u{1b}[31m".to_owned() + &long; 40];
    let shown = Outcome { denial: Some(denial), warnings, patch: Vec::new() }.shown();
    let message = shown.denial.unwrap().message;
    assert!(message.starts_with("a?bn") && message.len() == MAX_MESSAGE);
    assert_eq!(shown.warnings.len(), MAX_WARNINGS);
    assert!(shown.warnings[0].starts_with("w?[31mn") && shown.warnings[0].len() == MAX_WARNING);
    assert_eq!(super::shown("für 車\t", 99), "für 車?");
}

#[test]
fn brackets_in_texts_are_no_depth() {
    assert_eq!(depth(br#"{"a":"[[[{\"[","b":[[]]}"#), 3);
    assert_eq!(depth(b"[[[["), 4);
    assert_eq!(depth(b"]]]["), 1);
}

#[test]
fn answers_have_the_uid_and_their_bounds() {
    let request = Request::parse(review(&[("/v1\"", "/v1beta1\"")]).as_bytes()).unwrap();
    let denial = Denial { status: 403, code: "unsigned", message: "é".repeat(5000) };
    let warnings = vec!["w".repeat(1000); 40];
    let patch = vec![Replace::new("/spec/containers/0/image".into(), "a@b".into())];
    let outcome = Outcome { denial: Some(denial), warnings, patch };
    let answer = serde_json::to_value(request.answer(outcome.clone())).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&"u-1".into(), &false.into()));
    assert_eq!(response["status"]["code"], 403);
    assert_eq!(response["status"]["reason"], "unsigned");
    assert!(response["status"]["message"].as_str().unwrap().len() <= MAX_MESSAGE);
    assert_eq!(response["warnings"].as_array().unwrap().len(), MAX_WARNINGS);
    assert_eq!(response["warnings"][0].as_str().unwrap().len(), MAX_WARNING);
    assert!(response["patch"].is_null(), "what is denied is not patched");

    let answer = request.answer(Outcome { denial: None, warnings: Vec::new(), ..outcome });
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let want = r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a@b"}]"#;
    assert_eq!(String::from_utf8(patch).unwrap(), want);
    let empty = serde_json::to_value(request.answer(Outcome::default())).unwrap();
    assert_eq!(empty["response"], serde_json::json!({ "uid": "u-1", "allowed": true }));
}
