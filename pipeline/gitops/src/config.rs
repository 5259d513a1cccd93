//! `Promote`: where releases go, as the pipeline file says it (`docs/gitops.md`).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use pitlane_release::CarKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Target;

/// Most environments of a pipeline.
const MAX_ENVIRONMENTS: usize = 16;
/// Name of the environment of a pipeline that names none.
const ONLY: &str = "default";

/// The GitOps repository, and what of it is changed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Promote {
    /// Where it is cloned from and pushed to.
    pub url: String,
    /// The branch.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// The kustomization in it; short for a `target` of kind `kustomize`, with `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// `name` of the entry in its `images:` whose `digest` is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The scalar that is changed; instead of `file` and `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Several targets, in the order in which a release comes to them; instead of `target`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<Environment>,
    /// Commit to the branch, or pull request, where an environment does not say.
    #[serde(default)]
    pub how: How,
    /// Who the commits are by.
    #[serde(default)]
    pub author: Author,
    /// SSH private key that signs the commits; mode 0600, without a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<PathBuf>,
}

/// A place that runs releases: the cars of the simulator, then the cars.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// Its name.
    pub name: CarKind,
    /// The scalar that is changed.
    pub target: Target,
    /// Its branch, when it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commit or pull request, when it is another way than the other environments'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<How>,
    /// What lets a release in, once the environment before has it.
    #[serde(default)]
    pub approval: Approval,
    /// How many must have confirmed, for `afterConfirmed`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub confirmations: u32,
}

/// How a change comes to the branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// A commit on the branch.
    #[default]
    Commit,
    /// A branch of its own that people merge.
    PullRequest,
}

/// What lets a release into an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Approval {
    /// Nothing more.
    #[default]
    Auto,
    /// Cars of this earlier environment have confirmed it by driving.
    AfterConfirmed(CarKind),
    /// A person has approved this release for this environment.
    Manual,
}

/// Who commits are by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Author {
    /// Name.
    pub name: String,
    /// Email address.
    pub email: String,
}

impl Default for Author {
    fn default() -> Self {
        Self { name: "Pitlane".into(), email: "pitlane@localhost".into() }
    }
}

fn main_branch() -> String {
    "main".into()
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_one(n: &u32) -> bool {
    *n == 1
}

impl Promote {
    /// The environments in their order; one that is called `default` where none is named.
    pub fn environments(&self) -> Vec<Environment> {
        let alone = |target| Environment {
            name: ONLY.parse().expect("a constant"),
            target,
            branch: None,
            how: None,
            approval: Approval::Auto,
            confirmations: 1,
        };
        match (&self.target, &self.file, &self.image) {
            (Some(target), ..) => vec![alone(target.clone())],
            (None, Some(file), Some(image)) => {
                let (file, image) = (file.clone(), image.clone());
                vec![alone(Target::Kustomize { file, image })]
            }
            _ => self.environments.clone(),
        }
    }

    /// Whether environments are named.
    pub fn has_environments(&self) -> bool {
        !self.environments.is_empty()
    }

    /// The branch of an environment.
    pub fn branch_of<'a>(&'a self, environment: &'a Environment) -> &'a str {
        environment.branch.as_deref().unwrap_or(&self.branch)
    }

    /// How an environment is changed.
    pub fn how_of(&self, environment: &Environment) -> How {
        environment.how.unwrap_or(self.how)
    }

    /// Makes the paths of this machine absolute.
    pub fn rebase(&mut self, dir: &Path) {
        if let Some(key) = &mut self.signing_key {
            *key = dir.join(&*key);
        }
    }

    /// Checks what the types do not say; an error begins with the field.
    pub fn check(&self) -> Result<(), String> {
        pitlane_fetch::git::check_url(&self.url).map_err(|why| format!("`url`: {why}"))?;
        let short = self.file.is_some() && self.image.is_some();
        let half = self.file.is_some() != self.image.is_some();
        let ways = [short, self.target.is_some(), self.has_environments()];
        if half || ways.iter().filter(|way| **way).count() != 1 {
            return Err("name `file` with `image`, or `target`, or `environments`".into());
        }
        if self.environments.len() > MAX_ENVIRONMENTS {
            return Err(format!("`environments`: more than {MAX_ENVIRONMENTS}"));
        }
        let branches = self.environments.iter().filter_map(|e| e.branch.as_ref());
        for branch in branches.chain([&self.branch]) {
            check_branch(branch).map_err(|why| format!("`branch`: {why}"))?;
        }
        for (field, value) in [("name", &self.author.name), ("email", &self.author.email)] {
            let bad = |c: char| c.is_control() || "<>".contains(c);
            if value.trim().is_empty() || value.len() > 200 || value.contains(bad) {
                return Err(format!("`author.{field}`: `{}` is none", value.escape_debug()));
            }
        }
        let (mut earlier, mut places) = (BTreeSet::new(), BTreeSet::new());
        for environment in self.environments() {
            let name = environment.name.clone();
            let fail = |why: String| Err(format!("`environments`: {name}: {why}"));
            if let Err(why) = environment.target.check() {
                return if self.has_environments() { fail(why) } else { Err(why) };
            }
            if let Approval::AfterConfirmed(of) = &environment.approval
                && !earlier.contains(of)
            {
                return fail(format!("`afterConfirmed: {of}` is no environment before it"));
            }
            if environment.confirmations == 0 {
                return fail("`confirmations` must be at least 1".into());
            }
            let place = (self.branch_of(&environment).to_owned(), environment.target.to_string());
            if !places.insert(place) {
                return fail("another environment has the same target".into());
            }
            if !earlier.insert(environment.name) {
                return fail("the name is taken".into());
            }
        }
        Ok(())
    }
}

/// A branch's name that git takes and that is no option; a strict part of git-check-ref-format.
fn check_branch(branch: &str) -> Result<(), String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-/+@#".contains(&b);
    let component = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && part.strip_suffix(".lock").is_none()
    };
    let good = branch.len() <= 200
        && branch.bytes().all(letter)
        && branch.split('/').all(component)
        && !branch.contains("..")
        && !branch.starts_with(['-', '@']);
    if good { Ok(()) } else { Err(format!("`{}` is no name of a branch", branch.escape_debug())) }
}
