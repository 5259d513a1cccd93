//! The routes of the API.

mod app;
mod check;
mod deployment;
mod git;
mod hook;
mod pull;
mod release;
mod status;

use serde_json::json;

use crate::{
    answer::{Answer, Ask, refuse},
    auth::{Caller, need},
    event,
    world::World,
};

/// What every handler gets.
pub(crate) struct Context<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) caller: &'a Caller,
    pub(crate) ask: &'a Ask,
    /// The repository's key, where the path names one.
    pub(crate) key: String,
}

impl Context<'_> {
    /// Refuses who may not do this.
    pub(crate) fn need(&self, permission: &str, level: &str) -> Result<(), Answer> {
        need(self.world, self.caller, &self.key, permission, level)
    }
}

/// Answers a request.
pub(crate) fn route(world: &mut World, caller: &Caller, ask: &Ask) -> Result<Answer, Answer> {
    let parts: Vec<&str> = ask.parts.iter().map(String::as_str).collect();
    let method = ask.method.as_str();
    let mut context = Context { world, caller, ask, key: String::new() };
    let ["repos", owner, name, rest @ ..] = parts.as_slice() else {
        return app::route(&mut context, method, &parts);
    };
    let full = format!("{owner}/{name}");
    context.key = full.to_lowercase();
    let key = &context.key;
    let moved = context.world.repositories.values().find(|r| r.renamed_from.contains(key));
    if let Some(now) = moved {
        let tail = ask.path.splitn(4, '/').nth(3).and_then(|t| t.split_once('/'));
        let tail = tail.map(|(_, tail)| format!("/{tail}")).unwrap_or_default();
        let status = if method == "GET" { 301 } else { 307 };
        let mut answer = refuse(status, "Moved Permanently");
        let query: Vec<String> = ask.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let query = query.join("&");
        let query = if query.is_empty() { query } else { format!("?{query}") };
        let to = format!("{}/repos/{}{tail}{query}", ask.base, now.full_name);
        answer.headers.push(("location".to_owned(), to));
        return Err(answer);
    }
    match (method, rest) {
        ("GET", []) => {
            context.need("metadata", "read")?;
            let base = context.world.base.clone();
            let repo = &context.world.repositories[&context.key];
            Ok(Answer::ok(event::repository(&base, repo, false)))
        }
        (_, ["installation"]) => app::installation_of(&context),
        (_, ["git", ..]) => git::route(&context, method, &rest[1..]),
        (_, ["hooks", ..]) => hook::route(&mut context, method, &rest[1..]),
        (_, ["check-runs", ..]) => check::route(&mut context, method, &rest[1..]),
        ("GET", ["commits", sha, "check-runs"]) => check::of_commit(&context, sha),
        ("GET", ["commits", sha, "statuses"]) => status::list(&context, sha),
        ("POST", ["statuses", sha]) => status::create(&mut context, sha),
        (_, ["deployments", ..]) => deployment::route(&mut context, method, &rest[1..]),
        (_, ["pulls", ..]) => pull::route(&mut context, method, &rest[1..]),
        (_, ["releases", ..]) => release::route(&mut context, method, &rest[1..]),
        _ => Err(nothing()),
    }
}

/// No such place.
pub(crate) fn nothing() -> Answer {
    refuse(404, "Not Found")
}

/// Whether a text that is stored would be refused as too long.
pub(crate) fn too_long(text: &serde_json::Value, most: usize) -> bool {
    text.as_str().is_some_and(|text| text.chars().count() > most)
}

/// The account that makes what is reported.
pub(crate) fn actor(base: &str, caller: &Caller) -> serde_json::Value {
    match caller {
        Caller::Token(issued) if issued.installation.is_some() => {
            json!({ "login": "pitlane[bot]", "id": 8, "type": "Bot" })
        }
        _ => event::person(base),
    }
}
