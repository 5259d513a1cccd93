//! Looking at what a lab was told, and telling it what to do wrong.

use serde_json::Value;

use crate::{Asked, Lab, Rule};

impl Lab {
    /// Adds a rule for requests.
    pub fn rule(&self, rule: Rule) {
        self.shared.world().rules.push(rule);
    }

    /// Takes all rules back.
    pub fn clear_rules(&self) {
        self.shared.world().rules.clear();
    }

    /// Sets how many requests an hour each caller has, from now on.
    pub fn set_hourly(&self, requests: u64) {
        self.shared.world().limits.set_hourly(requests);
    }

    /// Blocks the next requests by a secondary limit: 403 or 429, and `retry-after`.
    pub fn block(&self, times: usize, status: u16, retry_after: Option<u64>) {
        self.shared.world().limits.block(times, status, retry_after);
    }

    /// Whether refs are listed in pages, as old enterprise servers do.
    pub fn set_paged_refs(&self, paged: bool) {
        self.shared.world().paged_refs = paged;
    }

    /// Whether each tag object is said to name itself.
    pub fn set_endless_tags(&self, endless: bool) {
        self.shared.world().endless_tags = endless;
    }

    /// What was asked so far; forgets it.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.world().asked)
    }

    /// The check runs of a repository, oldest first, each with its `annotations`.
    pub fn checks(&self, repository: &str) -> Vec<Value> {
        self.look(repository, |repo| {
            let with = |run: &Value| {
                let mut run = run.clone();
                let notes = run["id"].as_u64().and_then(|id| repo.annotations.get(&id));
                run["annotations"] = notes.cloned().unwrap_or_default().into();
                run
            };
            repo.checks.iter().map(with).collect()
        })
    }

    /// The statuses of a repository's commits, oldest first.
    pub fn statuses(&self, repository: &str) -> Vec<Value> {
        self.look(repository, |repo| repo.statuses.clone())
    }

    /// The deployments of a repository, oldest first, each with its `statuses`.
    pub fn deployments(&self, repository: &str) -> Vec<Value> {
        self.look(repository, |repo| {
            let with = |one: &Value| {
                let mut one = one.clone();
                let list = one["id"].as_u64().and_then(|id| repo.deployment_statuses.get(&id));
                one["statuses"] = list.cloned().unwrap_or_default().into();
                one
            };
            repo.deployments.iter().map(with).collect()
        })
    }

    /// The releases of a repository, oldest first.
    pub fn releases(&self, repository: &str) -> Vec<Value> {
        self.look(repository, |repo| repo.releases.clone())
    }

    /// The pull requests of a repository, oldest first.
    pub fn pulls(&self, repository: &str) -> Vec<Value> {
        self.look(repository, |repo| repo.pulls.clone())
    }

    /// Merges a pull request as a person does, by moving its base to its head.
    pub fn merge_pull(&self, repository: &str, number: usize) -> anyhow::Result<()> {
        let mut world = self.shared.world();
        let now = crate::world::time(world.now());
        let repo = world.repository(repository)?;
        let at = number.wrapping_sub(1);
        let pull = repo.pulls.get_mut(at).ok_or_else(|| anyhow::anyhow!("no pull {number}"))?;
        let text = |pointer: &str| pull.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (head, base) = text("/head/ref").zip(text("/base/ref")).unwrap_or_default();
        pull["state"] = "closed".into();
        pull["merged_at"] = now.into();
        let commit = repo.git.read(&format!("refs/heads/{head}")).unwrap_or_default();
        repo.git.move_branch(&base, &commit)
    }

    /// Adds a release as a person would, with this text.
    pub fn add_release(&self, repository: &str, tag: &str, body: &Value, draft: bool) {
        let mut world = self.shared.world();
        let id = world.id();
        let release = serde_json::json!({
            "id": id, "tag_name": tag, "name": tag, "body": body, "draft": draft,
            "prerelease": false,
        });
        if let Ok(repo) = world.repository(repository) {
            repo.releases.push(release);
        }
    }

    fn look(
        &self,
        repository: &str,
        read: impl FnOnce(&crate::world::Repository) -> Vec<Value>,
    ) -> Vec<Value> {
        let mut world = self.shared.world();
        world.repository(repository).map(|repo| read(repo)).unwrap_or_default()
    }
}
