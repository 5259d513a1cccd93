//! Check runs and their annotations.

use serde_json::{Value, json};

use super::{Context, nothing, too_long};
use crate::answer::{Answer, invalid};

/// Annotations in one request.
const MOST_ANNOTATIONS: usize = 50;
/// Characters of a summary.
const LONGEST_SUMMARY: usize = 65_535;
/// What a finished check can have come to.
const CONCLUSIONS: [&str; 7] =
    ["success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"];

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    match (method, parts) {
        ("POST", []) => create(context),
        ("PATCH", [id]) => update(context, id.parse().map_err(|_| nothing())?),
        ("GET", [id, "annotations"]) => {
            context.need("checks", "read")?;
            let repo = &context.world.repositories[&context.key];
            let id: u64 = id.parse().map_err(|_| nothing())?;
            let found = repo.annotations.get(&id).ok_or_else(nothing)?;
            Ok(context.ask.page(found, |_, shown| json!(shown)))
        }
        _ => Err(nothing()),
    }
}

pub(super) fn of_commit(context: &Context<'_>, sha: &str) -> Result<Answer, Answer> {
    context.need("checks", "read")?;
    let repo = &context.world.repositories[&context.key];
    let name = context.ask.query("check_name");
    let all = context.ask.query("filter") == Some("all");
    let mut found: Vec<Value> = repo
        .checks
        .iter()
        .filter(|run| run["head_sha"] == sha && name.is_none_or(|name| run["name"] == name))
        .cloned()
        .collect();
    found.reverse();
    if !all {
        // Only the latest of each name.
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|run| seen.insert(run["name"].to_string()));
    }
    Ok(context
        .ask
        .page(&found, |total, shown| json!({ "total_count": total, "check_runs": shown })))
}

/// Checks what is given of a check run.
fn check(body: &Value) -> Result<(), Answer> {
    let wrong = |field: &str, code: &str| Err(invalid("CheckRun", field, code));
    let conclusion = &body["conclusion"];
    if !conclusion.is_null() && !CONCLUSIONS.iter().any(|c| conclusion == c) {
        return wrong("conclusion", "invalid");
    }
    if body["status"] == "completed" && conclusion.is_null() {
        return wrong("conclusion", "missing_field");
    }
    let output = &body["output"];
    if !output.is_null() && (!output["title"].is_string() || !output["summary"].is_string()) {
        return wrong("output", "missing_field");
    }
    if too_long(&output["summary"], LONGEST_SUMMARY) {
        return wrong("summary", "invalid");
    }
    for annotation in output["annotations"].as_array().into_iter().flatten() {
        let level = annotation["annotation_level"].as_str().unwrap_or_default();
        let lines = annotation["start_line"].is_u64() && annotation["end_line"].is_u64();
        let texts = annotation["path"].is_string() && annotation["message"].is_string();
        if !lines || !texts || !["notice", "warning", "failure"].contains(&level) {
            return wrong("annotations", "invalid");
        }
    }
    if output["annotations"].as_array().is_some_and(|all| all.len() > MOST_ANNOTATIONS) {
        return wrong("annotations", "invalid");
    }
    Ok(())
}

/// Writes what is given into a check run; annotations are added to those that are there.
fn apply(run: &mut Value, annotations: &mut Vec<Value>, body: &Value) {
    for field in
        ["name", "details_url", "external_id", "status", "conclusion", "started_at", "completed_at"]
    {
        if let Some(value) = body.get(field) {
            run[field] = value.clone();
        }
    }
    if !body["conclusion"].is_null() {
        run["status"] = json!("completed");
    } else if body["status"].is_string() && body["status"] != "completed" {
        run["conclusion"] = Value::Null;
    }
    for field in ["title", "summary", "text"] {
        if let Some(value) = body["output"].get(field) {
            run["output"][field] = value.clone();
        }
    }
    annotations.extend(body["output"]["annotations"].as_array().into_iter().flatten().cloned());
    run["output"]["annotations_count"] = json!(annotations.len());
}

fn create(context: &mut Context<'_>) -> Result<Answer, Answer> {
    context.need("checks", "write")?;
    let body = &context.ask.body;
    if !body["name"].is_string() {
        return Err(invalid("CheckRun", "name", "missing_field"));
    }
    let sha = body["head_sha"].as_str().unwrap_or_default();
    let id = context.world.id();
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    if !repo.git.commits.contains_key(sha) {
        return Err(invalid("CheckRun", "head_sha", "invalid"));
    }
    check(body)?;
    let mut run = json!({
        "id": id, "head_sha": sha, "node_id": format!("CR_{id}"), "external_id": "",
        "url": format!("{}/repos/{}/check-runs/{id}", context.ask.base, repo.full_name),
        "html_url": format!("{}/{}/runs/{id}", context.ask.base, repo.full_name),
        "details_url": null, "status": "queued", "conclusion": null, "started_at": null,
        "completed_at": null,
        "output": { "title": null, "summary": null, "text": null, "annotations_count": 0 },
    });
    let annotations = repo.annotations.entry(id).or_default();
    apply(&mut run, annotations, body);
    repo.checks.push(run.clone());
    Ok(Answer::new(201, run))
}

fn update(context: &mut Context<'_>, id: u64) -> Result<Answer, Answer> {
    context.need("checks", "write")?;
    let body = &context.ask.body;
    check(body)?;
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let run = repo.checks.iter_mut().find(|run| run["id"] == id).ok_or_else(nothing)?;
    apply(run, repo.annotations.entry(id).or_default(), body);
    Ok(Answer::ok(run.clone()))
}
