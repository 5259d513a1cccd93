//! Releases.

use serde_json::{Value, json};

use super::{Context, actor, nothing, too_long};
use crate::{
    answer::{Answer, invalid, refuse},
    event,
    hook::announce,
    world::time,
};

/// Characters of a release's text.
const LONGEST: usize = 125_000;

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    context.need("contents", if method == "GET" { "read" } else { "write" })?;
    let repo = &context.world.repositories[&context.key];
    match (method, parts) {
        ("GET", []) => {
            // Drafts are shown to who may write.
            let drafts = context.need("contents", "write").is_ok();
            let mut found: Vec<Value> =
                repo.releases.iter().filter(|r| drafts || r["draft"] == false).cloned().collect();
            found.reverse();
            Ok(context.ask.page(&found, |_, shown| json!(shown)))
        }
        // Drafts are never found by tag.
        ("GET", ["tags", tag]) => repo
            .releases
            .iter()
            .find(|release| release["tag_name"] == *tag && release["draft"] == false)
            .map(|release| Answer::ok(release.clone()))
            .ok_or_else(nothing),
        ("POST", []) => create(context),
        ("PATCH", [id]) => update(context, id.parse().map_err(|_| nothing())?),
        _ => Err(nothing()),
    }
}

fn create(context: &mut Context<'_>) -> Result<Answer, Answer> {
    let body = &context.ask.body;
    let tag = body["tag_name"].as_str().unwrap_or_default().to_owned();
    if tag.is_empty() {
        return Err(invalid("Release", "tag_name", "missing_field"));
    }
    if too_long(&body["body"], LONGEST) {
        return Err(invalid("Release", "body", "invalid"));
    }
    let repo = &context.world.repositories[&context.key];
    if repo.releases.iter().any(|r| r["tag_name"] == tag && r["draft"] == false) {
        return Err(invalid("Release", "tag_name", "already_exists"));
    }
    let draft = body["draft"].as_bool().unwrap_or(false);
    if !draft && !repo.git.refs.contains_key(&format!("refs/tags/{tag}")) {
        // GitHub would make the tag; nobody here wants that.
        return Err(refuse(422, "the lab makes no tags by releases"));
    }
    let release = make(context, &tag, body, draft);
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    repo.releases.push(release.clone());
    if !draft {
        let payload = event::release(&context.ask.base, repo, "published", &release);
        announce(context.world, &context.key.clone(), "release", &payload);
    }
    Ok(Answer::new(201, release))
}

fn make(context: &mut Context<'_>, tag: &str, body: &Value, draft: bool) -> Value {
    let (id, now) = (context.world.id(), context.world.now());
    let author = actor(&context.ask.base, context.caller);
    let repo = &context.world.repositories[&context.key];
    let url = format!("{}/repos/{}/releases/{id}", context.ask.base, repo.full_name);
    json!({
        "url": url, "assets_url": format!("{url}/assets"),
        "upload_url": format!("{url}/assets{{?name,label}}"),
        "html_url": format!("{}/{}/releases/tag/{tag}", context.ask.base, repo.full_name),
        "id": id, "node_id": format!("RE_{id}"), "tag_name": tag, "target_commitish": "main",
        "name": body.get("name").cloned(), "draft": draft, "author": author,
        "prerelease": body["prerelease"].as_bool().unwrap_or(false), "created_at": time(now),
        "published_at": (!draft).then(|| time(now)), "assets": [],
        "tarball_url": format!("{url}/tarball"), "zipball_url": format!("{url}/zipball"),
        "body": body.get("body").cloned(),
    })
}

fn update(context: &mut Context<'_>, id: u64) -> Result<Answer, Answer> {
    let body = &context.ask.body;
    if too_long(&body["body"], LONGEST) {
        return Err(invalid("Release", "body", "invalid"));
    }
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let release = repo.releases.iter_mut().find(|r| r["id"] == id).ok_or_else(nothing)?;
    for field in ["name", "body", "draft", "prerelease"] {
        if let Some(value) = body.get(field) {
            release[field] = value.clone();
        }
    }
    Ok(Answer::ok(release.clone()))
}
