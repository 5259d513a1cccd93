//! The JSON Schemas in docs/schemas are those of the types that read the formats.
//!
//! `UPDATE_SCHEMAS=1` writes them anew (`make schemas`).

use std::{collections::BTreeSet, fs};

use pitlane_release::{facts, golden, lap, model, policy, provenance, statement};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::common::repository;

fn schema<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

fn schemas() -> [(&'static str, Value); 15] {
    [
        ("pipeline", schema::<pitlane_pipeline::config::PipelineFile>()),
        ("service", schema::<pitlane_pipeline::cli::ServiceFile>()),
        ("policy", schema::<policy::PolicyFile>()),
        ("registry-tokens", schema::<pitlane_pipeline::registry::TokensFile>()),
        ("car", schema::<pitlane_verifier::agent::config::CarFile>()),
        ("verdict", schema::<pitlane_verifier::report::Report<'_>>()),
        ("model-card", schema::<model::ModelCard>()),
        ("release", schema::<statement::Release>()),
        ("lap", schema::<lap::Lap>()),
        ("model", schema::<facts::AttestedModel>()),
        ("golden", schema::<golden::GoldenFrames>()),
        ("provenance-external-parameters", schema::<provenance::ExternalParameters>()),
        ("conversion-request", schema::<pitlane_builder::convert::Request>()),
        ("conversion", schema::<pitlane_builder::convert::Answer>()),
        // Not a schema, but made of them: the API for programs.
        ("openapi", pitlane_pipeline::service::openapi()),
    ]
}

#[test]
fn schemas_are_those_of_the_types() {
    let folder = repository().join("docs/schemas");
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some_and(|value| value == "1");
    if update {
        fs::create_dir_all(&folder).unwrap();
    }
    let mut wrong = Vec::new();
    for (name, schema) in schemas() {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} in docs/schemas are out of date: make schemas");
    let names: BTreeSet<String> = schemas().map(|(name, _)| format!("{name}.json")).into();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "docs/schemas/{name} is nobody's");
    }
}

/// Every property that a schema names at its top is a field of the documented example, and the
/// other way round: what the examples use, the schemas know.
#[test]
fn examples_fit_their_schemas() {
    let examples = [
        ("pipeline", "pipelines/donkeycar.yaml"),
        ("pipeline", "pipelines/containers/ros2.yaml"),
        ("pipeline", "pipelines/containers/jetson.yaml"),
        ("registry-tokens", "examples/registry/tokens.yaml"),
        ("policy", "policies/donkeycar.yaml"),
        ("policy", "policies/ros2car.yaml"),
        ("policy", "policies/jetson.yaml"),
        ("policy", "policies/signed.yaml"),
        ("policy", "policies/keyless.yaml"),
        ("policy", "policies/lap-proven.yaml"),
        ("policy", "policies/lab.yaml"),
        ("model-card", "examples/donkeycar/models/pilot.yaml"),
    ];
    let all = schemas();
    for (name, file) in examples {
        let (_, schema) = all.iter().find(|(known, _)| *known == name).unwrap();
        let text = fs::read_to_string(repository().join(file)).unwrap();
        let value: Value = pitlane_release::yaml::read(&text, 1 << 20).unwrap();
        let mut wrong = Vec::new();
        fits(schema, schema, &value, file, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
        // The check refuses what the readers refuse: an unknown and a missing field.
        let mut more = value.clone();
        more["surprise"] = true.into();
        fits(schema, schema, &more, file, &mut wrong);
        let mut less = value;
        less.as_object_mut().unwrap().remove("kind");
        fits(schema, schema, &less, file, &mut wrong);
        assert_eq!(wrong.len(), 2, "{file}: {wrong:?}");
    }
}

/// As much of JSON Schema as ours use: references, objects, arrays, types, words, alternatives.
fn fits(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.strip_prefix('#').unwrap()).unwrap();
        fits(root, target, value, at, wrong);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[key].as_array() {
            let any = choices.iter().any(|choice| {
                let mut why = Vec::new();
                fits(root, choice, value, at, &mut why);
                why.is_empty()
            });
            if !any {
                wrong.push(format!("{at}: none of {key}"));
            }
        }
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(root, part, value, at, wrong);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    };
    let typed = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        _ => true,
    };
    let words = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let word = schema.get("const").is_none_or(|word| word == value);
    if !(typed && words && word) {
        wrong.push(format!("{at}: {value} is not {schema}"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            fits(root, &schema["items"], item, &format!("{at}[{number}]"), wrong);
        }
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        let here = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => fits(root, schema, value, &here, wrong),
            (None, _) if schema["patternProperties"].is_object() => {
                // The one pattern there is.
                let known = schema["patternProperties"].as_object().unwrap();
                assert!(known.keys().all(|pattern| pattern.starts_with("^linux/")), "{known:?}");
                if name.parse::<pitlane_release::Platform>().is_err() {
                    wrong.push(format!("{here}: no platform"));
                }
            }
            (None, Value::Bool(false)) => wrong.push(format!("{here}: nobody knows it")),
            (None, more @ Value::Object(_)) => fits(root, more, value, &here, wrong),
            (None, _) => {}
        }
    }
}
