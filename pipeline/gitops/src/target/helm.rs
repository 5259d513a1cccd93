//! Helm values: a dotted path to one reference, to a digest, or to a mapping with `repository`.
//!
//! A `tag` beside `digest` is set as well: charts show it, and some put both together.

use pitlane_release::Repository;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Tree},
};

const HINT: &str = "the path must lead to an image, once written by hand";

pub(super) fn slots<'a>(
    tree: &'a Tree<'a>,
    path: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let mut at = At::only_document(tree)?;
    let mut above = None;
    for step in steps(path) {
        let number = step.parse::<usize>().ok();
        let item = number.and_then(|number| at.items().into_iter().nth(number));
        let next = match item {
            Some(item) => item,
            None => at.need(&step, HINT)?,
        };
        above = Some(at);
        at = next;
    }
    if at.get("repository").is_some() {
        return beside(&at, repository);
    }
    match (at.text(), above) {
        // A digest by itself says nothing of the repository; what stands beside it does.
        (Some(text), Some(above)) if text.is_empty() || text.starts_with("sha256:") => {
            if above.get("repository").is_some() {
                check(&above, repository)?;
            }
            Ok(vec![Slot::digest(at)])
        }
        _ => Ok(vec![Slot::reference(at, repository, false)?]),
    }
}

/// `repository` with `digest` and perhaps `tag` beside it.
fn beside<'a>(at: &At<'a>, repository: &Repository) -> Result<Vec<Slot<'a>>, EditRefusal> {
    check(at, repository)?;
    let digest = at.need("digest", "add one (any) once by hand, releases replace it")?;
    let tag = at.get("tag").filter(|tag| tag.text().is_some_and(|text| !text.is_empty()));
    Ok([Slot::digest(digest)].into_iter().chain(tag.map(Slot::tag)).collect())
}

/// Charts write the registry into `repository`, or beside it.
fn check(at: &At<'_>, repository: &Repository) -> Result<(), EditRefusal> {
    let named = at.text_of("repository").unwrap_or_default();
    let found = match at.text_of("registry") {
        Some(registry) if !registry.is_empty() => format!("{registry}/{named}"),
        _ => named.to_owned(),
    };
    if found == repository.as_str() {
        return Ok(());
    }
    let place = format!("{}.repository", at.shown());
    Err(EditRefusal::Repository {
        place,
        found: format!("`{found}`"),
        want: repository.to_string(),
    })
}

/// The keys of a dotted path; `\.` is a dot.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut letters = path.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = steps.len() - 1;
        match letter {
            '\\' if letters.peek() == Some(&'.') => {
                letters.next();
                steps[last].push('.');
            }
            '.' => steps.push(String::new()),
            other => steps[last].push(other),
        }
    }
    steps
}
