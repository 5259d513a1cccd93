//! Pull requests within one repository.

use serde_json::{Value, json};

use super::{Context, actor, nothing};
use crate::answer::{Answer, invalid, refuse};

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    context.need("pull_requests", if method == "GET" { "read" } else { "write" })?;
    match (method, parts) {
        ("GET", []) => Ok(list(context)),
        ("POST", []) => create(context),
        ("PATCH", [number]) => update(context, number.parse().map_err(|_| nothing())?),
        _ => Err(nothing()),
    }
}

/// Newest first, by head (`OWNER:BRANCH`), base and state.
fn list(context: &Context<'_>) -> Answer {
    let asked = |name: &str| {
        context.ask.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let state = asked("state").unwrap_or_else(|| "open".to_owned());
    let (head, base) = (asked("head"), asked("base"));
    let repo = &context.world.repositories[&context.key];
    let mut found: Vec<Value> = repo
        .pulls
        .iter()
        .filter(|pull| state == "all" || pull["state"] == *state)
        .filter(|pull| head.as_ref().is_none_or(|head| pull["head"]["label"] == **head))
        .filter(|pull| base.as_ref().is_none_or(|base| pull["base"]["ref"] == **base))
        .cloned()
        .collect();
    found.reverse();
    context.ask.page(&found, |_, shown| json!(shown))
}

fn create(context: &mut Context<'_>) -> Result<Answer, Answer> {
    let body = context.ask.body.clone();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (head, base, title) = (text("head"), text("base"), text("title"));
    if title.is_empty() {
        return Err(invalid("PullRequest", "title", "missing_field"));
    }
    let id = context.world.id();
    let now = context.world.now();
    let author = actor(&context.ask.base, context.caller);
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let at = |branch: &str| repo.git.read(&format!("refs/heads/{branch}"));
    let (Some(head_sha), Some(base_sha)) = (at(&head), at(&base)) else {
        return Err(invalid("PullRequest", "head", "invalid"));
    };
    if head_sha == base_sha {
        return Err(refuse(422, "No commits between the branches"));
    }
    let same = |pull: &&Value| {
        pull["state"] == "open" && pull["head"]["ref"] == *head && pull["base"]["ref"] == *base
    };
    if repo.pulls.iter().any(|pull| same(&pull)) {
        return Err(refuse(422, "A pull request already exists"));
    }
    let number = repo.pulls.len() + 1;
    let owner = repo.full_name.split('/').next().unwrap_or_default().to_owned();
    let pull = json!({
        "id": id, "number": number, "state": "open", "title": title, "body": body["body"],
        "html_url": format!("{}/{}/pull/{number}", context.ask.base, repo.full_name),
        "user": author, "created_at": crate::world::time(now), "merged_at": null,
        "head": { "ref": head, "label": format!("{owner}:{head}"), "sha": head_sha },
        "base": { "ref": base, "label": format!("{owner}:{base}"), "sha": base_sha },
    });
    repo.pulls.push(pull.clone());
    Ok(Answer::new(201, pull))
}

fn update(context: &mut Context<'_>, number: usize) -> Result<Answer, Answer> {
    let body = context.ask.body.clone();
    let repo = context.world.repositories.get_mut(&context.key).ok_or_else(nothing)?;
    let pull = repo.pulls.iter_mut().find(|pull| pull["number"] == number).ok_or_else(nothing)?;
    for name in ["title", "body", "state"] {
        if !body[name].is_null() {
            pull[name] = body[name].clone();
        }
    }
    Ok(Answer::ok(pull.clone()))
}
