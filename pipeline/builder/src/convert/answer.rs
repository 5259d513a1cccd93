//! What comes out of the container, read as a stranger's: two files, in this order, and nothing else.

use std::{collections::BTreeMap, io::Read};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiVersion, Request};
use crate::event::message;

/// Largest answer as JSON.
pub(crate) const MAX_ANSWER: u64 = 64 * 1024;

/// The answer, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `pitlane.dev/v1`.
    pub api_version: ApiVersion,
    /// `Conversion`.
    pub kind: AnswerKind,
    /// What happened.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The word in `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AnswerKind {
    /// An answer.
    Conversion,
}

/// What happened, by the converter's account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "outcome",
    deny_unknown_fields
)]
pub enum Outcome {
    /// There is a file.
    Converted {
        /// Its standard operator set.
        opset: u32,
        /// Largest difference to the original.
        max_difference: f64,
        /// On how many samples.
        samples: u32,
        /// Library → version.
        versions: BTreeMap<String, String>,
    },
    /// There is none.
    Refused {
        /// Stays.
        code: String,
        /// For people.
        message: String,
    },
}

/// The file and the claim about it, or why not.
pub(super) enum Said {
    Converted { onnx: Vec<u8>, answer: Answer },
    Refused { code: String, message: String },
    Bad(String),
}

/// Reads the archive that the container wrote.
pub(super) fn read(archive: &[u8], request: &Request, max_model: u64) -> Said {
    try_read(archive, request, max_model).unwrap_or_else(Said::Bad)
}

fn try_read(archive: &[u8], request: &Request, max_model: u64) -> Result<Said, String> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().map_err(|e| e.to_string())?.raw(true);
    let mut file = |want: &str, max: u64| -> Result<Option<Vec<u8>>, String> {
        let Some(entry) = entries.next() else { return Ok(None) };
        let entry = entry.map_err(|error| format!("no archive: {error}"))?;
        if &*entry.path_bytes() != want.as_bytes() || !entry.header().entry_type().is_file() {
            return Err(format!(
                "it wrote {:?}, not {want}",
                String::from_utf8_lossy(&entry.path_bytes())
            ));
        }
        let mut bytes = Vec::new();
        entry.take(max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > max {
            return Err(format!("{want} has more than {max} bytes"));
        }
        Ok(Some(bytes))
    };
    let bytes = file("answer.json", MAX_ANSWER)?.ok_or("it wrote nothing")?;
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|error| format!("answer.json: {error}"))?;
    let (opset, difference, samples) = match &answer.outcome {
        Outcome::Refused { code, message: text } => {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if code.is_empty() || code.len() > 40 || !code.chars().all(known) {
                return Err("its code is none".into());
            }
            return Ok(Said::Refused { code: code.clone(), message: message(text) });
        }
        Outcome::Converted { opset, max_difference, samples, .. } => {
            (*opset, *max_difference, *samples)
        }
    };
    let onnx = file("model.onnx", max_model)?.filter(|onnx| !onnx.is_empty());
    let onnx = onnx.ok_or("it says converted and wrote no model")?;
    if file("nothing", 0)?.is_some() {
        return Err("it wrote more than two files".into());
    }
    // NaN is not at most anything.
    if !(0.0..=request.tolerance).contains(&difference) {
        return Err(format!("it says converted with a difference of {difference}"));
    }
    if opset > request.opset || samples != request.samples.count {
        return Err(format!("it says opset {opset} on {samples} samples"));
    }
    Ok(Said::Converted { onnx, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "pitlane.dev/v1", "kind": "ConversionRequest",
            "framework": {"kind": "sklearn"}, "input": {"name": "x", "shape": [1, 4]},
            "outputs": ["y"], "opset": 15, "tolerance": 0.5,
            "samples": {"count": 3, "seed": 1, "low": 0.0, "high": 1.0}
        }))
        .unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const GOOD: &str = r#"{"apiVersion":"pitlane.dev/v1","kind":"Conversion","outcome":"converted",
        "opset":15,"maxDifference":0.5,"samples":3,"versions":{}}"#;

    #[test]
    fn a_good_answer_is_read() {
        let bytes = archive(&[("answer.json", GOOD.as_bytes()), ("model.onnx", b"onnx")]);
        let got = read(&bytes, &request(), 4);
        assert!(matches!(&got, Said::Converted { onnx, .. } if onnx == b"onnx"));
        let refused = br#"{"apiVersion":"pitlane.dev/v1","kind":"Conversion","outcome":"refused","code":"x-1","message":"a\u001bb"}"#;
        let got = read(&archive(&[("answer.json", refused)]), &request(), 4);
        assert!(
            matches!(&got, Said::Refused { code, message } if code == "x-1" && message == "a\u{fffd}b")
        );
    }

    #[test]
    fn bad_answers_are_not_believed() {
        let json = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            archive(&[("answer.json", GOOD.replace(from, to).as_bytes()), ("model.onnx", b"onnx")])
        };
        let good = GOOD.as_bytes();
        for (what, bytes, words) in [
            ("nothing", vec![], "wrote nothing"),
            ("noise", vec![7; 2000], "no archive"),
            ("another name", archive(&[("x/answer.json", good)]), "not answer.json"),
            ("no model", archive(&[("answer.json", good)]), "no model"),
            ("an empty model", archive(&[("answer.json", good), ("model.onnx", b"")]), "no model"),
            (
                "a large model",
                archive(&[("answer.json", good), ("model.onnx", b"12345")]),
                "more than 4",
            ),
            (
                "more",
                archive(&[("answer.json", good), ("model.onnx", b"1"), ("x", b"")]),
                "not nothing",
            ),
            ("a field", json("\"opset\"", "\"x\":1,\"opset\""), "unknown field"),
            ("a version", json("dev/v1", "dev/v2"), "unknown variant"),
            ("too far", json("0.5", "0.51"), "difference"),
            ("below zero", json("0.5", "-1"), "difference"),
            ("no number", json("0.5", "null"), "invalid type"),
            ("newer", json("\"opset\":15", "\"opset\":16"), "opset 16"),
            ("fewer samples", json("\"samples\":3", "\"samples\":2"), "2 samples"),
        ] {
            let Said::Bad(why) = read(&bytes, &request(), 4) else { panic!("{what} was believed") };
            assert!(why.contains(words), "{what}: {why}");
        }
    }
}
