//! What an App asks as itself: its installations, their tokens, and its hook's deliveries.

use serde_json::json;

use super::{Context, hook, nothing};
use crate::{
    answer::{Answer, refuse},
    auth::{Caller, issue},
};

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    if let ("GET", ["rate_limit"]) = (method, parts) {
        return Ok(Answer::ok(json!({ "resources": {} })));
    }
    let ["app", rest @ ..] = parts else { return Err(nothing()) };
    let Caller::App(app) = context.caller else {
        return Err(refuse(401, "A JSON web token could not be decoded"));
    };
    match (method, rest) {
        ("GET", []) => Ok(Answer::ok(json!({
            "id": app.id, "slug": "pitlane", "name": "Pitlane", "permissions": app.permissions,
        }))),
        ("POST", ["installations", id, "access_tokens"]) => {
            if id.parse() != Ok(app.installation) {
                return Err(nothing());
            }
            issue(context.world, app, &context.ask.body)
        }
        (_, ["hook", "deliveries", rest @ ..]) => {
            let id = context.world.app_hook.as_ref().map(|hook| hook.id).ok_or_else(nothing)?;
            hook::deliveries(context, method, id, rest)
        }
        _ => Err(nothing()),
    }
}

/// The installation of the asking App that covers a repository.
pub(super) fn installation_of(context: &Context<'_>) -> Result<Answer, Answer> {
    let Caller::App(app) = context.caller else {
        return Err(refuse(401, "A JSON web token could not be decoded"));
    };
    if !app.repositories.contains(&context.key) {
        return Err(nothing());
    }
    Ok(Answer::ok(json!({
        "id": app.installation, "app_id": app.id, "permissions": app.permissions,
        "repository_selection": "selected", "suspended_at": null,
    })))
}
