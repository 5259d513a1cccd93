//! Payloads of events, in the shape that GitHub gives them.

use serde_json::{Value, json};

use crate::{
    git::{MAIL, PERSON, ZERO},
    world::{Repository, time},
};

/// The person who does everything.
pub(crate) fn person(base: &str) -> Value {
    json!({
        "login": "octo", "id": 7, "node_id": "U_lab7", "avatar_url": format!("{base}/avatar"),
        "gravatar_id": "", "url": format!("{base}/users/octo"),
        "html_url": format!("{base}/octo"), "type": "User", "site_admin": false,
        "followers_url": format!("{base}/users/octo/followers"),
        "following_url": format!("{base}/users/octo/following{{/other_user}}"),
        "gists_url": format!("{base}/users/octo/gists{{/gist_id}}"),
        "starred_url": format!("{base}/users/octo/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{base}/users/octo/subscriptions"),
        "organizations_url": format!("{base}/users/octo/orgs"),
        "repos_url": format!("{base}/users/octo/repos"),
        "events_url": format!("{base}/users/octo/events{{/privacy}}"),
        "received_events_url": format!("{base}/users/octo/received_events"),
    })
}

/// The repository; `push` events have numbers where others have times.
pub(crate) fn repository(base: &str, repo: &Repository, numbers: bool) -> Value {
    let (owner, name) = repo.full_name.split_once('/').unwrap_or(("", &repo.full_name));
    let url = format!("{base}/repos/{}", repo.full_name);
    let html = format!("{base}/{}", repo.full_name);
    let at = |seconds: i64| if numbers { json!(seconds) } else { json!(time(seconds)) };
    let made = crate::git::EPOCH;
    let mut account = person(base);
    account["login"] = json!(owner);
    if numbers {
        account["name"] = json!(owner);
        account["email"] = json!(MAIL);
    }
    json!({
        "id": repo.id, "node_id": format!("R_lab{}", repo.id), "name": name,
        "full_name": repo.full_name, "private": repo.private, "owner": account, "html_url": html,
        "description": null, "fork": false, "url": url,
        "tags_url": format!("{url}/tags"), "git_tags_url": format!("{url}/git/tags{{/sha}}"),
        "git_refs_url": format!("{url}/git/refs{{/sha}}"),
        "statuses_url": format!("{url}/statuses/{{sha}}"),
        "releases_url": format!("{url}/releases{{/id}}"),
        "deployments_url": format!("{url}/deployments"), "hooks_url": format!("{url}/hooks"),
        "commits_url": format!("{url}/commits{{/sha}}"),
        "compare_url": format!("{url}/compare/{{base}}...{{head}}"),
        "created_at": at(made), "updated_at": time(made), "pushed_at": at(made + 1),
        "git_url": format!("git://{}.git", html.trim_start_matches("http://")),
        "ssh_url": format!("git@lab:{}.git", repo.full_name), "clone_url": format!("{html}.git"),
        "svn_url": html, "homepage": null, "size": 1, "stargazers_count": 0, "watchers_count": 0,
        "language": null, "has_issues": true, "has_projects": true, "has_downloads": true,
        "has_wiki": true, "has_pages": false, "forks_count": 0, "mirror_url": null,
        "archived": false, "disabled": false, "open_issues_count": 0, "license": null,
        "forks": 0, "open_issues": 0, "watchers": 0, "default_branch": "main",
    })
}

fn head(base: &str, repo: &Repository, id: &str) -> Value {
    let Some(commit) = repo.git.commits.get(id) else { return Value::Null };
    let who = json!({ "name": PERSON, "email": MAIL, "username": "octo" });
    json!({
        "id": id, "tree_id": commit.tree, "distinct": true, "message": commit.message,
        "timestamp": time(commit.at), "url": format!("{base}/{}/commit/{id}", repo.full_name),
        "author": who, "committer": who, "added": commit.paths, "removed": [], "modified": [],
    })
}

/// `push`: a ref went from one object to another; nothing is [`ZERO`].
pub(crate) fn push(base: &str, repo: &Repository, name: &str, before: &str, after: &str) -> Value {
    let (created, deleted) = (before == ZERO, after == ZERO);
    // The commit, whatever kind of object `after` is.
    let commit = repo.git.peel(after);
    let short = name.rsplit('/').next().unwrap_or(name);
    json!({
        "ref": name, "before": before, "after": after, "created": created, "deleted": deleted,
        // A tag that moves never moves forwards.
        "forced": !created && !deleted && name.starts_with("refs/tags/"),
        "base_ref": null,
        "compare": format!("{base}/{}/compare/{short}", repo.full_name),
        "commits": [], "head_commit": commit.map_or(Value::Null, |id| head(base, repo, &id)),
        "repository": repository(base, repo, true),
        "pusher": { "name": "octo", "email": MAIL }, "sender": person(base),
    })
}

/// `create` of a tag or branch.
pub(crate) fn create(base: &str, repo: &Repository, kind: &str, short: &str) -> Value {
    json!({
        "ref": short, "ref_type": kind, "master_branch": "main", "description": null,
        "pusher_type": "user", "repository": repository(base, repo, false),
        "sender": person(base),
    })
}

/// `delete` of a tag or branch.
pub(crate) fn delete(base: &str, repo: &Repository, kind: &str, short: &str) -> Value {
    json!({
        "ref": short, "ref_type": kind, "pusher_type": "user",
        "repository": repository(base, repo, false), "sender": person(base),
    })
}

/// `ping`, when a hook is made.
pub(crate) fn ping(base: &str, repo: Option<&Repository>, hook: &Value) -> Value {
    let mut ping = json!({
        "zen": "Anything added dilutes everything else.", "hook_id": hook["id"], "hook": hook,
        "sender": person(base),
    });
    if let Some(repo) = repo {
        ping["repository"] = repository(base, repo, false);
    }
    ping
}

/// `release`.
pub(crate) fn release(base: &str, repo: &Repository, action: &str, release: &Value) -> Value {
    json!({
        "action": action, "release": release, "repository": repository(base, repo, false),
        "sender": person(base),
    })
}
