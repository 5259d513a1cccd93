//! Flux's markers: comments behind scalars that name an image policy and which part they are.
//!
//! `{"$imagepolicy": "NAMESPACE:NAME"}` marks a whole reference; `:name`, `:tag` and `:digest`
//! behind it mark a part. Source: Flux, image update automation, "configure image update for
//! custom resources".

use pitlane_release::Repository;
use serde_json::Value;

use crate::{
    EditRefusal,
    form::Slot,
    yaml::{At, Node, Tree},
};

/// Most markers of a policy that are looked at; so many are refused.
const MAX_MARKED: usize = 32;

pub(super) fn slots<'a>(
    tree: &'a Tree<'a>,
    policy: &str,
    repository: &Repository,
) -> Result<Vec<Slot<'a>>, EditRefusal> {
    let (mut whole, mut digests, mut tags) = (Vec::new(), Vec::new(), Vec::new());
    let part = |node: &Node| {
        let said = tree.comment_behind(&node.range).and_then(policy_of)?;
        let part = said.strip_prefix(policy)?;
        ["", ":name", ":tag", ":digest"].into_iter().find(|known| *known == part)
    };
    let mut ours = |node: &Node| part(node).is_some();
    let roots = At::documents(tree).into_iter();
    let places: Vec<At<'a>> =
        roots.flat_map(|root| root.scalars(MAX_MARKED, &mut ours)).take(MAX_MARKED).collect();
    if places.len() == MAX_MARKED {
        let what = format!("`{policy}` marks {MAX_MARKED} scalars or more");
        return Err(EditRefusal::ambiguous(what, "give each place a policy of its own"));
    }
    for at in places {
        let Some(part) = part(at.node) else { continue };
        match part {
            "" => whole.push(at),
            ":digest" => digests.push(at),
            ":tag" => tags.push(at),
            _ if at.text() != Some(repository.as_str()) => {
                return Err(EditRefusal::Repository {
                    place: at.shown(),
                    found: format!("`{}`", at.text().unwrap_or_default()),
                    want: repository.to_string(),
                });
            }
            _ => {}
        }
    }
    let hint = "give each place a policy of its own";
    let found = if whole.is_empty() {
        if digests.is_empty() && !tags.is_empty() {
            let what = format!("`{policy}` marks a tag and no digest");
            let hint = "a tag can move: mark a `digest` beside it with `:digest`";
            return Err(EditRefusal::missing(what, hint));
        }
        let hint = if digests.is_empty() { "mark one by a comment behind it" } else { hint };
        let what = format!("scalar marked for `{policy}`");
        let mut slots = vec![Slot::digest(At::only(digests, &what, hint)?)];
        if !tags.is_empty() {
            slots.push(Slot::tag(At::only(tags, &what, hint)?));
        }
        slots
    } else {
        whole.extend(digests.into_iter().chain(tags));
        let what = format!("scalar marked for `{policy}`");
        vec![Slot::reference(At::only(whole, &what, hint)?, repository, false)?]
    };
    Ok(found)
}

/// The policy in a marker.
fn policy_of(comment: &str) -> Option<String> {
    let value: Value = serde_json::from_str(comment).ok()?;
    value.get("$imagepolicy")?.as_str().map(str::to_owned)
}
