//! The SBOM of one platform's image: CycloneDX 1.6, made from what the lane knows of its inputs.
//!
//! Source: CycloneDX 1.6 JSON schema (ECMA-424). Only the fields that are written; there is one
//! writer and no reader here. The same inputs and the same run give the same bytes: the serial
//! number is derived from the manifest, the time is the run's.
//!
//! # Modules
//! - the document's types: here
//! - [`make`](mod@make): from a built image to its document
//! - `dockerfile`: what can be said of an image that an engine built
//! - `purl`: package URLs

mod dockerfile;
pub mod make;
mod model;
mod purl;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use make::{About, bom};

/// Predicate type of CycloneDX documents in attestations (in-toto, cosign's `cyclonedx`).
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";

/// A document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    #[serde(rename = "bomFormat")]
    format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
    compositions: Vec<Composition>,
}

/// What the document is about, and who wrote it when.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Tools {
    components: Vec<Component>,
}

/// A part of the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Self>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_card: Option<model::Card>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Licence {
    expression: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Property {
    name: String,
    value: String,
}

/// What a part uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

/// How much of a part's own parts the document lists.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Composition {
    aggregate: &'static str,
    assemblies: Vec<String>,
}

fn sha256(digest: &pitlane_release::Digest) -> Vec<Hash> {
    vec![Hash { alg: "SHA-256", content: digest.hex() }]
}

fn property(name: &str, value: &dyn std::fmt::Display) -> Property {
    Property { name: format!("pitlane:{name}"), value: value.to_string() }
}
