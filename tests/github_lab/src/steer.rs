//! What tests do with a lab: make things in it, push, deliver, look.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    AppKey, Form, Lab, Mischief, Shared, Signature,
    auth::{App, Issued, key_pair},
    event,
    hook::{Delivery, Hook, Outgoing, guid, plan, send},
    push, serve,
    world::World,
};

/// Events that a hook gets unless it says otherwise.
const EVENTS: [&str; 4] = ["push", "create", "delete", "release"];

/// `checks=write contents=read` as a map.
fn permissions(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, level)| (name.to_owned(), level.to_owned()))
        .collect()
}

impl Lab {
    /// `http://127.0.0.1:PORT`: the API as `api.github.com` has it, and repositories to clone.
    pub fn url(&self) -> String {
        self.shared.world().base.clone()
    }

    /// The API where an enterprise server has it.
    pub fn enterprise_api(&self) -> String {
        format!("{}{}", self.url(), serve::ENTERPRISE)
    }

    /// Where a repository is cloned from.
    pub fn clone_url(&self, repository: &str) -> String {
        format!("{}/{repository}.git", self.url())
    }

    /// Makes a repository.
    pub fn repository(&self, full_name: &str, private: bool) -> anyhow::Result<()> {
        self.shared.world().add(full_name, private)
    }

    /// Renames a repository; the old name leads to the new one.
    pub fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let mut world = self.shared.world();
        let mut found =
            world.repositories.remove(&from.to_lowercase()).context("no such repository")?;
        to.clone_into(&mut found.full_name);
        found.renamed_from.insert(from.to_lowercase());
        world.repositories.insert(to.to_lowercase(), found);
        for app in &mut world.apps {
            app.repositories.insert(to.to_lowercase());
        }
        Ok(())
    }

    /// Makes a commit of these files alone and pushes it to `main`.
    pub fn commit(
        &self,
        repository: &str,
        files: &[(&str, &[u8])],
        message: &str,
    ) -> anyhow::Result<String> {
        let mut world = self.shared.world();
        let git = &mut world.repository(repository)?.git;
        let parent = git.refs.get("refs/heads/main").cloned();
        let id = git.commit(files, message, parent.as_deref())?;
        let change = ("refs/heads/main".to_owned(), Some(id.clone()));
        push::push(&mut world, repository, &[change])?;
        Ok(id)
    }

    /// Makes a tag object of a commit or another tag object; no ref names it yet.
    pub fn tag_object(
        &self,
        repository: &str,
        name: &str,
        target: &str,
        signature: Signature<'_>,
    ) -> anyhow::Result<String> {
        let mut world = self.shared.world();
        world.repository(repository)?.git.tag(name, target, "a release", signature)
    }

    /// Makes a blob and gives its name.
    pub fn blob(&self, repository: &str, bytes: &[u8]) -> anyhow::Result<String> {
        self.shared.world().repository(repository)?.git.blob(bytes)
    }

    /// Changes tags in one push: each to an object, or to nothing.
    pub fn push_tags(&self, repository: &str, tags: &[(&str, Option<&str>)]) -> anyhow::Result<()> {
        let changes: Vec<(String, Option<String>)> = tags
            .iter()
            .map(|(tag, to)| (format!("refs/tags/{tag}"), to.map(str::to_owned)))
            .collect();
        push::push(&mut self.shared.world(), repository, &changes)
    }

    /// Registers an App and installs it for repositories; permissions as `checks=write …`.
    pub fn app(&self, granted: &str, repositories: &[&str]) -> anyhow::Result<AppKey> {
        let (pem, public_key) = key_pair()?;
        let mut world = self.shared.world();
        let (id, installation) = (world.id(), world.id());
        let repositories = repositories.iter().map(|name| name.to_lowercase()).collect();
        let app =
            App { id, installation, public_key, permissions: permissions(granted), repositories };
        world.apps.push(app);
        Ok(AppKey { id, installation, pem })
    }

    /// Changes what an App may do; tokens that it has keep what they have.
    pub fn grant(&self, app: &AppKey, granted: &str) {
        for known in self.shared.world().apps.iter_mut().filter(|known| known.id == app.id) {
            known.permissions = permissions(granted);
        }
    }

    /// Takes an App away and installs it again, under another number, which is given.
    pub fn reinstall(&self, app: &AppKey) -> u64 {
        let mut world = self.shared.world();
        let id = world.id();
        for known in world.apps.iter_mut().filter(|known| known.id == app.id) {
            known.installation = id;
        }
        for token in world.tokens.values_mut() {
            token.revoked |= token.installation == Some(app.installation);
        }
        id
    }

    /// Makes a person's token.
    pub fn token(&self, granted: &str, repositories: &[&str]) -> String {
        let mut world = self.shared.world();
        let token = format!("github_pat_lab{:029}", world.id());
        let repositories = repositories.iter().map(|name| name.to_lowercase()).collect();
        let issued = Issued {
            installation: None,
            permissions: permissions(granted),
            repositories,
            expires: None,
            revoked: false,
        };
        world.tokens.insert(token.clone(), issued);
        token
    }

    /// Ends all tokens that were handed out so far.
    pub fn revoke_tokens(&self) {
        for token in self.shared.world().tokens.values_mut() {
            token.revoked = true;
        }
    }

    /// How long installation tokens live from now on.
    pub fn set_token_life(&self, life: Duration) {
        self.shared.world().token_life = life;
    }

    /// Puts the lab's clock ahead of this machine's.
    pub fn set_ahead(&self, seconds: i64) {
        self.shared.world().ahead = seconds;
    }

    /// Sets a webhook up, and lines its ping up.
    pub fn hook(
        &self,
        repository: &str,
        url: &str,
        secret: &str,
        form: Form,
    ) -> anyhow::Result<u64> {
        let mut world = self.shared.world();
        let id = world.id();
        let hook = new_hook(id, None, url, secret, form);
        world.repository(repository)?.hooks.push(hook.clone());
        ping(&mut world, hook, Some(repository));
        Ok(id)
    }

    /// Gives an App its webhook.
    pub fn app_hook(&self, app: &AppKey, url: &str, secret: &str) -> u64 {
        let mut world = self.shared.world();
        let id = world.id();
        let hook = new_hook(id, Some(app.id), url, secret, Form::Json);
        world.app_hook = Some(hook.clone());
        ping(&mut world, hook, None);
        id
    }

    /// Sends what is lined up, with mischief; returns when all of it was answered.
    pub async fn deliver(&self, mischief: &[Mischief]) {
        let planned = plan(&mut self.shared.world(), mischief);
        for (out, wait, forged, reached) in planned {
            tokio::time::sleep(wait).await;
            deliver(&self.shared, out, forged, reached).await;
        }
    }

    /// From now on sends what is lined up without being told, every so often.
    pub fn deliver_always(&self, every: Duration) {
        let shared = Arc::clone(&self.shared);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(every).await;
                    let planned = plan(&mut shared.world(), &[]);
                    for (out, ..) in planned {
                        deliver(&shared, out, false, true).await;
                    }
                }
            });
        }
    }

    /// Events that are lined up: name and payload.
    pub fn lined_up(&self) -> Vec<(String, Value)> {
        let world = self.shared.world();
        world.outbox.iter().map(|out| (out.event.clone(), out.payload.clone())).collect()
    }

    /// Forgets what is lined up.
    pub fn forget_lined_up(&self) {
        self.shared.world().outbox.clear();
    }
}

fn new_hook(id: u64, app: Option<u64>, url: &str, secret: &str, form: Form) -> Hook {
    let events = EVENTS.map(str::to_owned).into();
    Hook { id, app, url: url.to_owned(), secret: secret.to_owned(), form, events }
}

fn ping(world: &mut World, hook: Hook, repository: Option<&str>) {
    let guid = guid(world);
    let base = world.base.clone();
    let repo = repository.and_then(|name| world.repositories.get(&name.to_lowercase()));
    let shown = hook.json(&base, repo.map_or("", |repo| repo.full_name.as_str()));
    let payload = event::ping(&base, repo, &shown);
    let repository = repo.map(|repo| repo.id);
    world.outbox.push(Outgoing {
        hook,
        guid,
        event: "ping".to_owned(),
        payload,
        redelivery: false,
        repository,
        installation: None,
    });
}

async fn deliver(shared: &Shared, out: Outgoing, forged: bool, reached: bool) {
    let (status, code, headers, answer, took) = if reached {
        send(&shared.client, &out, forged).await
    } else {
        ("failed to connect to host".to_owned(), 502, Value::Null, String::new(), 0.0)
    };
    let mut world = shared.world();
    let (id, at) = (world.id(), world.now());
    world.deliveries.push(Delivery { id, sent: out, at, took, status, code, headers, answer });
}
