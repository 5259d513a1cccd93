//! Refs and tag objects.

use serde_json::{Value, json};

use super::{Context, nothing};
use crate::{
    answer::{Answer, refuse},
    git::{MAIL, PERSON},
    world::{Repository, time},
};

fn reference(base: &str, repo: &Repository, name: &str, id: &str) -> Value {
    let kind = repo.git.kind(id);
    let url = format!("{base}/repos/{}/git", repo.full_name);
    json!({
        "ref": name, "node_id": format!("REF_{name}"), "url": format!("{url}/{name}"),
        "object": { "sha": id, "type": kind, "url": format!("{url}/{kind}s/{id}") },
    })
}

pub(super) fn route(context: &Context<'_>, method: &str, parts: &[&str]) -> Result<Answer, Answer> {
    context.need("contents", "read")?;
    let repo = &context.world.repositories[&context.key];
    let base = &context.ask.base;
    match (method, parts) {
        ("GET", ["ref", name @ ..]) => {
            let name = format!("refs/{}", name.join("/"));
            let id = repo.git.refs.get(&name).ok_or_else(nothing)?;
            Ok(Answer::ok(reference(base, repo, &name, id)))
        }
        ("GET", ["matching-refs", name @ ..]) => {
            let prefix = format!("refs/{}", name.join("/"));
            let found: Vec<Value> = repo
                .git
                .refs
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix))
                .map(|(name, id)| reference(base, repo, name, id))
                .collect();
            if context.world.paged_refs {
                return Ok(context.ask.page(&found, |_, shown| json!(shown)));
            }
            // GitHub gives them all at once, whatever `per_page` says.
            Ok(Answer::ok(json!(found)))
        }
        ("GET", ["tags", id]) => tag(context, repo, id),
        ("GET", ["commits", id]) => {
            let commit = repo.git.commits.get(*id).ok_or_else(nothing)?;
            let who = json!({ "name": PERSON, "email": MAIL, "date": time(commit.at) });
            Ok(Answer::ok(json!({
                "sha": id, "message": commit.message, "author": who, "committer": who,
                "tree": { "sha": commit.tree }, "verification": { "verified": false, "reason": "unsigned" },
            })))
        }
        _ => Err(nothing()),
    }
}

fn tag(context: &Context<'_>, repo: &Repository, id: &str) -> Result<Answer, Answer> {
    let found = repo.git.tags.get(id);
    let Some(tag) = found else {
        let told = if repo.git.kind(id) == "none" {
            nothing()
        } else {
            refuse(422, "Object is not a tag")
        };
        return Err(told);
    };
    let (target, kind) = if context.world.endless_tags {
        // No git object can do this; an answer can say it.
        (id.to_owned(), "tag")
    } else {
        (tag.target.clone(), tag.target_kind)
    };
    let url = format!("{}/repos/{}/git", context.ask.base, repo.full_name);
    let signed = tag.signature.as_ref().map(|_| tag.payload.clone());
    Ok(Answer::ok(json!({
        "node_id": format!("TA_{id}"), "sha": id, "url": format!("{url}/tags/{id}"),
        "tag": tag.name, "message": tag.message,
        "tagger": { "name": PERSON, "email": MAIL, "date": time(tag.at) },
        "object": { "sha": target, "type": kind, "url": format!("{url}/{kind}s/{target}") },
        "verification": {
            "verified": tag.verified, "reason": tag.reason, "signature": tag.signature,
            "payload": signed, "verified_at": tag.verified.then(|| time(tag.at + 1)),
        },
    })))
}
