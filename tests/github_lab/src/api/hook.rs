//! Hooks of repositories, what was delivered, and delivering again.

use serde_json::{Value, json};

use super::{Context, nothing};
use crate::{
    answer::{Answer, refuse},
    hook::Outgoing,
};

/// Entries on a page of deliveries, unless `per_page` says otherwise.
const PAGE: usize = 30;

pub(super) fn route(
    context: &mut Context<'_>,
    method: &str,
    parts: &[&str],
) -> Result<Answer, Answer> {
    let level = if method == "GET" { "read" } else { "write" };
    context.need("repository_hooks", level)?;
    let repo = &context.world.repositories[&context.key];
    match (method, parts) {
        ("GET", []) => {
            let shown = |hook: &crate::hook::Hook| hook.json(&context.ask.base, &repo.full_name);
            let hooks: Vec<Value> = repo.hooks.iter().map(shown).collect();
            Ok(context.ask.page(&hooks, |_, shown| json!(shown)))
        }
        (_, [id, "deliveries", rest @ ..]) => {
            let id = id.parse().map_err(|_| nothing())?;
            if !repo.hooks.iter().any(|hook| hook.id == id) {
                return Err(nothing());
            }
            deliveries(context, method, id, rest)
        }
        _ => Err(nothing()),
    }
}

/// The deliveries of a hook: the list, one of them, and another attempt.
pub(super) fn deliveries(
    context: &mut Context<'_>,
    method: &str,
    hook: u64,
    parts: &[&str],
) -> Result<Answer, Answer> {
    let ask = context.ask;
    let mut own: Vec<_> =
        context.world.deliveries.iter().filter(|d| d.sent.hook.id == hook).cloned().collect();
    own.reverse();
    match (method, parts) {
        ("GET", []) => {
            let size = ask.query("per_page").and_then(|n| n.parse().ok()).unwrap_or(PAGE).min(100);
            let cursor = ask.query("cursor").map(|c| c.trim_start_matches("v1_").parse::<u64>());
            let own: Vec<_> = match cursor {
                Some(Ok(from)) => own.into_iter().filter(|d| d.id <= from).collect(),
                Some(Err(_)) => return Err(refuse(422, "Invalid cursor")),
                None => own,
            };
            let shown: Vec<Value> = own.iter().take(size).map(|d| d.json(false)).collect();
            let mut answer = Answer::ok(json!(shown));
            if let Some(next) = own.get(size) {
                let next = ask.with(&[("cursor", &format!("v1_{}", next.id))]);
                answer.headers.push(("link".to_owned(), format!("<{next}>; rel=\"next\"")));
            }
            Ok(answer)
        }
        ("GET", [id]) => {
            let found = own.iter().find(|d| Ok(d.id) == id.parse()).ok_or_else(nothing)?;
            Ok(Answer::ok(found.json(true)))
        }
        ("POST", [id, "attempts"]) => {
            let found = own.iter().find(|d| Ok(d.id) == id.parse()).ok_or_else(nothing)?;
            // The same GUID: it is the same delivery.
            context.world.outbox.push(Outgoing { redelivery: true, ..found.sent.clone() });
            Ok(Answer::new(202, json!({})))
        }
        _ => Err(nothing()),
    }
}
