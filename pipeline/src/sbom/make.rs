//! From a built image to its document.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pitlane_release::{Digest, ModelCard, Platform, Repository};

use super::{
    Bom, Component, Composition, Dependency, Metadata, Tools, dockerfile, model, property,
    purl::purl, sha256,
};
use crate::{
    assemble::{
        Built, Origin, Parts,
        crates::Crate,
        parts::{Part, PartKind},
    },
    model::ModelFacts,
};

/// The reference of the image itself.
const IMAGE: &str = "image";

/// What a document is made from.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Where the image goes.
    pub repository: &'a Repository,
    /// The release's tag.
    pub tag: &'a str,
    /// The platform.
    pub platform: Platform,
    /// The platform's image.
    pub built: &'a Built,
    /// The model's card.
    pub card: &'a ModelCard,
    /// Digest of the card's bytes.
    pub card_file: Digest,
    /// What was found in the model.
    pub facts: &'a ModelFacts,
    /// When the run began.
    pub time: Timestamp,
}

/// The document about one platform's image.
pub fn bom(about: &About<'_>) -> Bom {
    let built = about.built;
    let Contents { base, runtime, crates } = match &built.origin {
        Origin::Parts(parts) => of_parts(parts),
        Origin::Dockerfile { dockerfile } => dockerfile::contents(dockerfile),
    };
    let model = model::component(about.card, about.facts, about.card_file);
    let refs = |list: &[Component]| list.iter().filter_map(|c| c.bom_ref.clone()).collect();
    let base_refs: Vec<String> = refs(&base);
    let runtime_ref: Vec<String> = refs(runtime.as_slice());
    let model_ref: Vec<String> = refs(std::slice::from_ref(&model));

    let whole = Dependency {
        of: IMAGE.into(),
        depends_on: [base_refs.clone(), runtime_ref.clone(), model_ref.clone()].concat(),
    };
    let mut dependencies = vec![whole, Dependency { of: model_ref.concat(), depends_on: vec![] }];
    if runtime.is_some() {
        dependencies.extend(uses(crates, &runtime_ref.concat()));
    }

    let crates_known = if crates.is_empty() { "unknown" } else { "incomplete" };
    let compositions = [
        // A base has files of no package: accounts, and whatever else its maker put there; the
        // steps of a Dockerfile write whatever they like.
        ("incomplete", vec![IMAGE.into()]),
        // The standard library is no crate of the list.
        (crates_known, runtime_ref),
        // What a library was built from is its maker's to say.
        ("unknown", base_refs),
    ];
    let known = compositions.into_iter().filter(|(_, of)| !of.is_empty());
    let compositions = known.map(|(aggregate, of)| composition(aggregate, of)).collect();
    let linked = crates.iter().filter(|one| one.is_linked() && !one.root);
    Bom {
        format: "CycloneDX",
        spec_version: "1.6",
        serial_number: serial(&built.manifest.descriptor.digest),
        version: 1,
        metadata: Metadata {
            timestamp: about.time.to_string(),
            tools: Tools { components: vec![tool()] },
            component: image(about),
        },
        components: base
            .into_iter()
            .chain(runtime)
            .chain(linked.map(component_of_crate))
            .chain([model])
            .collect(),
        dependencies,
        compositions,
    }
}

/// What is in an image beside the model.
pub(super) struct Contents<'a> {
    pub(super) base: Vec<Component>,
    pub(super) runtime: Option<Component>,
    pub(super) crates: &'a [Crate],
}

fn of_parts(parts: &Parts) -> Contents<'_> {
    let runtime = runtime(&parts.runtime, &parts.crates);
    Contents { base: base(parts), runtime: Some(runtime), crates: &parts.crates }
}

/// RFC 9562 version 8, from the manifest's digest: one image, one number.
fn serial(manifest: &Digest) -> String {
    let mut bytes = [0; 16];
    let hash = Digest::of(format!("pitlane sbom\n{manifest}"));
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("urn:uuid:{}", parts.join("-"))
}

fn tool() -> Component {
    Component {
        kind: "application",
        name: "pitlane".into(),
        version: Some(env!("CARGO_PKG_VERSION").into()),
        ..Component::default()
    }
}

fn image(about: &About<'_>) -> Component {
    let digest = about.built.manifest.descriptor.digest;
    let name = about.repository.path().rsplit('/').next().unwrap_or_default();
    let qualifiers = [
        ("arch", about.platform.architecture().to_owned()),
        ("repository_url", about.repository.to_string()),
        ("tag", about.tag.to_owned()),
    ];
    let qualifiers = qualifiers.map(|(key, value)| (key.to_owned(), value)).into();
    Component {
        kind: "container",
        bom_ref: Some(IMAGE.into()),
        name: about.repository.to_string(),
        version: Some(digest.to_string()),
        purl: Some(purl("oci", None, name, &digest.to_string(), &qualifiers)),
        hashes: sha256(&digest),
        properties: [property("platform", &about.platform), property("tag", &about.tag)]
            .into_iter()
            .chain(match &about.built.origin {
                Origin::Parts(parts) => vec![property("base", &parts.base)],
                Origin::Dockerfile { dockerfile } => dockerfile::properties(dockerfile),
            })
            .collect(),
        ..Component::default()
    }
}

/// The base's packages; the base as one piece where it does not list them.
fn base(parts: &Parts) -> Vec<Component> {
    if parts.base_parts.is_empty() {
        return vec![Component {
            kind: "container",
            bom_ref: Some(format!("base:{}", parts.base)),
            name: "base".into(),
            version: Some(parts.base.to_string()),
            description: Some("a base image that does not list its parts".into()),
            hashes: sha256(&parts.base),
            ..Component::default()
        }];
    }
    parts.base_parts.iter().map(component_of_part).collect()
}

fn component_of_part(part: &Part) -> Component {
    let (kind, namespace) = match part.kind {
        PartKind::Deb => ("deb", Some("debian")),
        PartKind::Wheel => ("pypi", None),
    };
    let purl = purl(kind, namespace, &part.name, &part.version, &part.qualifiers);
    Component {
        kind: "library",
        bom_ref: Some(purl.clone()),
        name: part.name.clone(),
        version: Some(part.version.clone()),
        hashes: sha256(&part.digest),
        purl: Some(purl),
        components: files(&part.files),
        ..Component::default()
    }
}

/// Only these of a package's files are in the image.
fn files(files: &BTreeMap<String, Digest>) -> Vec<Component> {
    let file = |(path, digest): (&String, &Digest)| Component {
        kind: "file",
        bom_ref: Some(format!("file:/{path}")),
        name: format!("/{path}"),
        hashes: sha256(digest),
        ..Component::default()
    };
    files.iter().map(file).collect()
}

/// The runtime in an image.
pub(super) fn runtime(digest: &Digest, crates: &[Crate]) -> Component {
    let root = crates.iter().find(|one| one.root);
    Component {
        kind: "application",
        bom_ref: Some(format!("runtime:{digest}")),
        name: root.map_or("pitlane-car", |root| &root.name).into(),
        version: root.map(|root| root.version.clone()),
        description: Some("/usr/bin/pitlane-car".into()),
        hashes: sha256(digest),
        ..Component::default()
    }
}

fn ref_of_crate(one: &Crate) -> String {
    format!("crate:{}@{}", one.name, one.version)
}

fn component_of_crate(one: &Crate) -> Component {
    // Only what a registry has can be looked up by its name.
    let public = one.source == "registry";
    Component {
        kind: "library",
        bom_ref: Some(ref_of_crate(one)),
        name: one.name.clone(),
        version: Some(one.version.clone()),
        purl: public.then(|| purl("cargo", None, &one.name, &one.version, &BTreeMap::new())),
        ..Component::default()
    }
}

/// Which crate uses which; the program itself is named by `runtime`.
fn uses(crates: &[Crate], runtime: &str) -> Vec<Dependency> {
    let name = |one: &Crate| if one.root { runtime.to_owned() } else { ref_of_crate(one) };
    let linked = crates.iter().filter(|one| one.is_linked());
    let of = |one: &Crate| {
        let used = one.dependencies.iter().filter_map(|place| crates.get(*place));
        Dependency {
            of: name(one),
            depends_on: used.filter(|used| used.is_linked()).map(name).collect(),
        }
    };
    linked.map(of).collect()
}

fn composition(aggregate: &'static str, assemblies: Vec<String>) -> Composition {
    Composition { aggregate, assemblies }
}
