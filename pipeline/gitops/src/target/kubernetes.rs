//! Plain Kubernetes manifests: the image of a container by name, in any document of the file.

use pitlane_release::Repository;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Tree},
};

/// Where the spec of the pods is, per kind.
const POD_SPECS: [(&str, &[&str]); 8] = [
    ("Pod", &["spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

pub(super) fn slots<'a>(
    tree: &'a Tree<'a>,
    container: &str,
    workload: Option<&str>,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let objects = At::documents(tree).into_iter().flat_map(|object| match object.text_of("kind") {
        Some("List") => object.get("items").map(|items| items.items()).unwrap_or_default(),
        _ => vec![object],
    });
    let wanted = objects.filter(|object| {
        let Some(workload) = workload else { return true };
        let name = object.get("metadata").and_then(|meta| meta.text_of("name"));
        Some(workload)
            == object.text_of("kind").zip(name).map(|(k, n)| format!("{k}/{n}")).as_deref()
    });
    let fits = wanted
        .flat_map(|object| containers(&object))
        .filter(|found| found.text_of("name") == Some(container));
    let what = match workload {
        Some(workload) => format!("container `{container}` in {workload}"),
        None => format!("container `{container}`"),
    };
    let hint = "name one by `container`, and its object by `workload: KIND/NAME`";
    let found = At::only(fits.collect(), &what, hint)?;
    let image = found.need("image", "write REPOSITORY@sha256:… once by hand")?;
    Ok(vec![Slot::reference(image, repository, false)?])
}

fn containers<'a>(object: &At<'a>) -> Vec<At<'a>> {
    let kind = object.text_of("kind");
    let way = POD_SPECS.iter().find(|(known, _)| Some(*known) == kind).map(|(_, way)| *way);
    let spec = way.and_then(|way| way.iter().try_fold(object.clone(), |at, key| at.get(key)));
    let Some(spec) = spec else { return Vec::new() };
    let lists = ["containers", "initContainers"].into_iter().filter_map(|key| spec.get(key));
    lists.flat_map(|list| list.items()).collect()
}
