//! Compose files: the image of a service.

use pitlane_release::Repository;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Tree},
};

pub(super) fn slots<'a>(
    tree: &'a Tree<'a>,
    service: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let root = At::only_document(tree)?;
    let services = root.need("services", "write the service once by hand")?;
    let service = services.need(service, "write the service once by hand")?;
    let image = service.need("image", "write REPOSITORY@sha256:… once by hand")?;
    Ok(vec![Slot::reference(image, repository, false)?])
}
