//! Argo CD: overrides in `.argocd-source-APP.yaml`, and the source of an Application.
//!
//! Both have `kustomize.images` (`NAME=REPOSITORY[:TAG][@DIGEST]`) and `helm.parameters`.

use pitlane_release::Repository;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Tree},
};

pub(super) fn image<'a>(
    tree: &'a Tree<'a>,
    name: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let fits = sources(tree)
        .into_iter()
        .filter_map(|source| source.get("kustomize")?.get("images"))
        .flat_map(|images| images.items())
        .filter(|image| {
            let text = image.text().unwrap_or_default();
            let rest = text.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['=', ':', '@'])
        });
    let what = format!("entry for `{name}` of `kustomize.images`");
    let hint = "one must be there: NAME=REPOSITORY@sha256:…, once by hand";
    let found = At::only(fits.collect(), &what, hint)?;
    Ok(vec![Slot::reference(found, repository, true)?])
}

pub(super) fn parameter<'a>(
    tree: &'a Tree<'a>,
    name: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let fits = sources(tree)
        .into_iter()
        .filter_map(|source| source.get("helm")?.get("parameters"))
        .flat_map(|parameters| parameters.items())
        .filter(|parameter| parameter.text_of("name") == Some(name));
    let what = format!("entry `{name}` of `helm.parameters`");
    let hint = "one must be there with a digest as its value, once by hand";
    let found = At::only(fits.collect(), &what, hint)?;
    let value = found.need("value", hint)?;
    Ok(vec![Slot::any(value, repository)?])
}

/// Where overrides can be: the file itself, or the sources of each Application in it.
fn sources<'a>(tree: &'a Tree<'a>) -> Vec<At<'a>> {
    let of = |root: At<'a>| {
        let spec = match root.text_of("kind") {
            Some("Application") => root.get("spec"),
            Some("ApplicationSet") => {
                root.get("spec").and_then(|spec| spec.get("template")?.get("spec"))
            }
            _ => return vec![root],
        };
        let Some(spec) = spec else { return Vec::new() };
        let several = spec.get("sources").map(|sources| sources.items()).unwrap_or_default();
        spec.get("source").into_iter().chain(several).collect()
    };
    At::documents(tree).into_iter().flat_map(of).collect()
}
