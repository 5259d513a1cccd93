//! Kustomizations: the `digest` of an entry of `images:`.
//!
//! With `newTag` beside it, kustomize renders `name:newTag@digest`. A new digest under the old tag
//! would be a lie to people, so both are set.

use pitlane_release::Repository;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Tree},
};

pub(super) fn slots<'a>(
    tree: &'a Tree<'a>,
    name: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let root = At::only_document(tree)?;
    let images = root.list("images", "write the entry once by hand")?;
    let fits = images.into_iter().filter(|image| image.text_of("name") == Some(name)).collect();
    let what = format!("entry of `images:` has the name `{name}`");
    let image = At::only(fits, &what, "one entry must have it, with `newName` and `digest`")
        .map_err(|refusal| plural(refusal, name))?;
    let new_name = match (image.get("newName"), image.text_of("newName")) {
        (Some(_), None) => Some(""),
        (_, text) => text,
    };
    if new_name.unwrap_or(name) != repository.as_str() {
        return Err(EditRefusal::Repository {
            place: format!("newName of {name}"),
            found: new_name.map_or_else(|| "not there".to_owned(), |found| format!("`{found}`")),
            want: repository.to_string(),
        });
    }
    let digest = image.need("digest", "add one (any) once by hand, releases replace it")?;
    let tag = image.get("newTag").map(Slot::tag);
    Ok([Slot::digest(digest)].into_iter().chain(tag).collect())
}

fn plural(refusal: EditRefusal, name: &str) -> EditRefusal {
    match refusal {
        EditRefusal::Ambiguous { hint, .. } => EditRefusal::Ambiguous {
            what: format!("two entries of `images:` have the name `{name}`"),
            hint,
        },
        other => other,
    }
}
