//! Statuses of commits: a list that only grows.

use serde_json::{Value, json};

use super::{Context, actor, nothing, too_long};
use crate::{
    answer::{Answer, invalid, refuse},
    world::time,
};

/// Characters of a description.
const LONGEST: usize = 140;

pub(super) fn list(context: &Context<'_>, sha: &str) -> Result<Answer, Answer> {
    context.need("statuses", "read")?;
    let repo = &context.world.repositories[&context.key];
    let mut found: Vec<Value> =
        repo.statuses.iter().filter(|status| status["sha"] == sha).cloned().collect();
    found.reverse();
    Ok(context.ask.page(&found, |_, shown| json!(shown)))
}

pub(super) fn create(context: &mut Context<'_>, sha: &str) -> Result<Answer, Answer> {
    context.need("statuses", "write")?;
    let body = &context.ask.body;
    let state = body["state"].as_str().unwrap_or_default();
    if !["error", "failure", "pending", "success"].contains(&state) {
        return Err(invalid("Status", "state", "invalid"));
    }
    if too_long(&body["description"], LONGEST) {
        return Err(invalid("Status", "description", "invalid"));
    }
    let (id, now) = (context.world.id(), context.world.now());
    let creator = actor(&context.ask.base, context.caller);
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    if !repo.git.commits.contains_key(sha) {
        return Err(refuse(422, &format!("No commit found for SHA: {sha}")));
    }
    let status = json!({
        "id": id, "node_id": format!("SC_{id}"), "sha": sha, "state": state,
        "context": body["context"].as_str().unwrap_or("default"),
        "description": body["description"], "target_url": body["target_url"],
        "created_at": time(now), "updated_at": time(now), "creator": creator,
    });
    repo.statuses.push(status.clone());
    Ok(Answer::new(201, status))
}
