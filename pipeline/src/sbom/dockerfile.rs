//! What can be said of an image that an engine built from a Dockerfile: the images it starts from, the
//! packages that dpkg lists in it, and the runtime. What its steps wrote beside that is not known, and
//! the document says so (`compositions`).

use std::collections::BTreeMap;

use super::{
    Component, Property,
    make::{Contents, runtime},
    property,
    purl::purl,
};
use crate::assemble::origin::{FromDockerfile, Package, System};

/// The parts of such an image.
pub(super) fn contents(from: &FromDockerfile) -> Contents<'_> {
    let bases = from.parameters.bases.iter().map(|(name, id)| Component {
        kind: "container",
        bom_ref: Some(format!("base:{name}")),
        name: name.clone(),
        version: Some(id.clone()),
        description: Some(
            "an image that the Dockerfile starts or copies from, by the engine's id".into(),
        ),
        ..Component::default()
    });
    let packages = from.packages.iter().map(|package| of_package(package, from.system.as_ref()));
    let program = from.runtime.as_ref();
    Contents {
        base: bases.chain(packages).collect(),
        runtime: program.map(|program| runtime(&program.digest, &program.crates)),
        crates: program.map_or(&[], |program| &program.crates),
    }
}

/// An installed package, by the list in the image: its files are not looked at.
fn of_package(package: &Package, system: Option<&System>) -> Component {
    let mut qualifiers = BTreeMap::from([("arch".to_owned(), package.arch.clone())]);
    if let Some(System { id, version }) = system.filter(|system| !system.version.is_empty()) {
        qualifiers.insert("distro".into(), format!("{id}-{version}"));
    }
    let namespace = system.map_or("debian", |system| &system.id);
    let purl = purl("deb", Some(namespace), &package.name, &package.version, &qualifiers);
    Component {
        kind: "library",
        bom_ref: Some(purl.clone()),
        name: package.name.clone(),
        version: Some(package.version.clone()),
        purl: Some(purl),
        ..Component::default()
    }
}

/// What is said of the image itself.
pub(super) fn properties(from: &FromDockerfile) -> Vec<Property> {
    let mut all = vec![
        property("dockerfile", &from.dockerfile),
        property("context", &from.context),
        property("engine", &from.parameters.engine),
    ];
    if let Some(System { id, version }) = &from.system {
        all.push(property("system", &format!("{id} {version}").trim()));
    }
    all
}
