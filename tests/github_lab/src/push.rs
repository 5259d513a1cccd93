//! Pushes: refs change, and hooks hear of it as far as GitHub tells them.

use crate::{event, git::ZERO, hook::announce, world::World};

/// GitHub makes no events for tags when more than this many are pushed at once.
const MOST_TAGS: usize = 3;

/// Changes refs in one push. Each goes to an object, or is deleted.
pub(crate) fn push(
    world: &mut World,
    repository: &str,
    changes: &[(String, Option<String>)],
) -> anyhow::Result<()> {
    let key = repository.to_lowercase();
    let mut done = Vec::new();
    for (name, to) in changes {
        let git = &mut world.repository(&key)?.git;
        let before = git.set(name, to.as_deref())?;
        let before = before.unwrap_or_else(|| ZERO.to_owned());
        let after = to.clone().unwrap_or_else(|| ZERO.to_owned());
        if before != after {
            done.push((name.clone(), before, after));
        }
    }
    let tags = done.iter().filter(|(name, ..)| name.starts_with("refs/tags/")).count();
    let base = world.base.clone();
    for (name, before, after) in done {
        let (kind, short) = match name.split_once("refs/tags/") {
            Some((_, short)) => ("tag", short.to_owned()),
            None => ("branch", name.trim_start_matches("refs/heads/").to_owned()),
        };
        if kind == "tag" && tags > MOST_TAGS {
            continue;
        }
        let repo = world.repository(&key)?;
        let pushed = event::push(&base, repo, &name, &before, &after);
        let beside = if before == ZERO {
            Some(("create", event::create(&base, repo, kind, &short)))
        } else if after == ZERO {
            Some(("delete", event::delete(&base, repo, kind, &short)))
        } else {
            None
        };
        announce(world, &key, "push", &pushed);
        if let Some((name, payload)) = beside {
            announce(world, &key, name, &payload);
        }
    }
    Ok(())
}
