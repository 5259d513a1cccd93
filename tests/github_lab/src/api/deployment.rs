//! Deployments and their statuses.

use serde_json::{Value, json};

use super::{Context, actor, nothing, too_long};
use crate::{
    answer::{Answer, invalid, refuse},
    world::time,
};

/// Characters of a description.
const LONGEST: usize = 140;
/// What a deployment can be in.
const STATES: [&str; 7] =
    ["error", "failure", "inactive", "in_progress", "queued", "pending", "success"];

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    context.need("deployments", if method == "GET" { "read" } else { "write" })?;
    match (method, parts) {
        ("GET", []) => {
            let repo = &context.world.repositories[&context.key];
            let ask = context.ask;
            let same =
                |one: &Value, name: &str| ask.query(name).is_none_or(|want| one[name] == want);
            let mut found: Vec<Value> = repo
                .deployments
                .iter()
                .filter(|one| ["sha", "ref", "task", "environment"].iter().all(|n| same(one, n)))
                .cloned()
                .collect();
            found.reverse();
            Ok(ask.page(&found, |_, shown| json!(shown)))
        }
        ("POST", []) => create(context),
        ("GET", [id, "statuses"]) => {
            let repo = &context.world.repositories[&context.key];
            let id: u64 = id.parse().map_err(|_| nothing())?;
            let mut found = repo.deployment_statuses.get(&id).ok_or_else(nothing)?.clone();
            found.reverse();
            Ok(context.ask.page(&found, |_, shown| json!(shown)))
        }
        ("POST", [id, "statuses"]) => status(context, id.parse().map_err(|_| nothing())?),
        _ => Err(nothing()),
    }
}

fn create(context: &mut Context<'_>) -> Result<Answer, Answer> {
    let body = &context.ask.body;
    let name = body["ref"].as_str().ok_or_else(|| invalid("Deployment", "ref", "missing_field"))?;
    if too_long(&body["description"], LONGEST) {
        return Err(invalid("Deployment", "description", "invalid"));
    }
    let (id, now) = (context.world.id(), context.world.now());
    let creator = actor(&context.ask.base, context.caller);
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let named =
        ["refs/tags/", "refs/heads/"].iter().find_map(|p| repo.git.refs.get(&format!("{p}{name}")));
    let sha = repo.git.peel(named.map_or(name, String::as_str));
    let sha = sha.ok_or_else(|| refuse(422, &format!("No ref found for: {name}")))?;
    // Merging the default branch, and waiting for every status, is what GitHub does unless told
    // otherwise; a tag that is not the branch's head then conflicts.
    let merges = body["auto_merge"].as_bool().unwrap_or(true);
    let head = repo.git.refs.get("refs/heads/main");
    if merges && head.is_some_and(|head| *head != sha) {
        return Err(refuse(409, "Conflict merging main into the ref"));
    }
    let waits = body["required_contexts"].as_array().is_none_or(|list| !list.is_empty());
    let pending = repo.statuses.iter().any(|s| s["sha"] == sha && s["state"] != "success");
    if waits && pending {
        return Err(refuse(409, "Conflict: Commit status checks failed for the ref"));
    }
    let deployment = json!({
        "id": id, "node_id": format!("DE_{id}"), "sha": sha, "ref": name,
        "url": format!("{}/repos/{}/deployments/{id}", context.ask.base, repo.full_name),
        "task": body["task"].as_str().unwrap_or("deploy"),
        "environment": body["environment"].as_str().unwrap_or("production"),
        "payload": body.get("payload").cloned().unwrap_or(json!({})),
        "description": body["description"], "creator": creator,
        "production_environment": body["production_environment"].as_bool().unwrap_or(false),
        "transient_environment": false, "created_at": time(now), "updated_at": time(now),
    });
    repo.deployments.push(deployment.clone());
    repo.deployment_statuses.insert(id, Vec::new());
    Ok(Answer::new(201, deployment))
}

fn status(context: &mut Context<'_>, id: u64) -> Result<Answer, Answer> {
    let body = &context.ask.body;
    let state = body["state"].as_str().unwrap_or_default();
    if !STATES.contains(&state) {
        return Err(invalid("DeploymentStatus", "state", "invalid"));
    }
    if too_long(&body["description"], LONGEST) {
        return Err(invalid("DeploymentStatus", "description", "invalid"));
    }
    let (status_id, now) = (context.world.id(), context.world.now());
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let found = repo.deployments.iter().find(|one| one["id"] == id).ok_or_else(nothing)?;
    let environment = found["environment"].clone();
    let others: Vec<u64> = repo
        .deployments
        .iter()
        .filter(|one| one["environment"] == environment && one["id"] != id)
        .filter_map(|one| one["id"].as_u64())
        .collect();
    let made = |id: u64, state: &str| {
        json!({
            "id": id, "node_id": format!("DES_{id}"), "state": state,
            "description": body["description"], "environment": environment,
            "environment_url": body["environment_url"].as_str().unwrap_or_default(),
            "log_url": body["log_url"].as_str().unwrap_or_default(),
            "created_at": time(now), "updated_at": time(now),
        })
    };
    let status = made(status_id, state);
    repo.deployment_statuses.entry(id).or_default().push(status.clone());
    if state == "success" && body["auto_inactive"].as_bool().unwrap_or(true) {
        for other in others {
            let list = repo.deployment_statuses.entry(other).or_default();
            if list.last().is_some_and(|last| last["state"] == "success") {
                list.push(made(status_id, "inactive"));
            }
        }
    }
    Ok(Answer::new(201, status))
}
