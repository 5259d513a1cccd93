//! Policies from files, with the keys and trusted roots that they only name.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use pitlane_release::{
    Policy,
    key::MAX_PEM,
    policy::{MAX_POLICY, Resolve},
    sigstore::{BundleRefusal, MAX_TRUST_ROOT, TrustRoot},
};

/// Keys and trusted roots given on the command line or in a configuration: NAME=FILE, or FILE for
/// any name.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: Files,
    roots: Files,
}

#[derive(Clone, Debug, Default)]
struct Files {
    named: BTreeMap<String, PathBuf>,
    any: Option<PathBuf>,
}

impl Files {
    fn add(&mut self, text: &str) {
        match text.split_once('=') {
            Some((name, file)) => drop(self.named.insert(name.into(), file.into())),
            None => self.any = Some(text.into()),
        }
    }

    fn get(&self, name: Option<&str>) -> Option<&PathBuf> {
        name.and_then(|name| self.named.get(name)).or(self.any.as_ref())
    }
}

impl Keys {
    /// Takes a key as `NAME=FILE` or `FILE`.
    pub fn add(&mut self, text: &str) {
        self.keys.add(text);
    }

    /// Takes a trusted root as `NAME=FILE`, or `FILE` for every name and for policies that name
    /// none.
    pub fn add_root(&mut self, text: &str) {
        self.roots.add(text);
    }

    /// The files, so that who keeps policies in memory can see them change.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.keys, &self.roots];
        all.into_iter()
            .flat_map(|files| files.named.values().chain(&files.any))
            .map(PathBuf::as_path)
    }

    /// Reads a policy with these.
    pub fn policy(&self, file: &Path) -> anyhow::Result<Policy> {
        Ok(self.policy_and_text(file)?.0)
    }

    /// Reads a policy, and gives its text too.
    pub fn policy_and_text(&self, file: &Path) -> anyhow::Result<(Policy, String)> {
        let shown = file.display();
        let text = read(file, MAX_POLICY as u64)
            .with_context(|| format!("{shown}: the policy cannot be read"))?;
        let policy = Policy::parse(&text, self)
            .with_context(|| format!("{shown}: not a usable policy (docs/policy.md)"))?;
        Ok((policy, text))
    }
}

impl Resolve for Keys {
    /// A file that cannot be read is as good as none; the policy's error then names the key.
    fn key(&self, name: &str) -> Option<String> {
        read(self.keys.get(Some(name))?, MAX_PEM).ok()
    }

    fn root(&self, name: Option<&str>) -> Result<Option<Arc<TrustRoot>>, BundleRefusal> {
        let Some(file) = self.roots.get(name) else {
            return match name {
                None => TrustRoot::public_good().map(|root| Some(Arc::new(root))),
                Some(_) => Ok(None),
            };
        };
        let fail = |why: &dyn std::fmt::Display| {
            BundleRefusal::TrustRoot(format!("{}: {why}", file.display()))
        };
        let text = read(file, MAX_TRUST_ROOT).map_err(|why| fail(&why))?;
        TrustRoot::parse(text.as_bytes()).map(|root| Some(Arc::new(root))).map_err(|why| fail(&why))
    }
}

/// Reads a whole text that must not be larger.
fn read(file: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(std::io::Error::other(format!("larger than {most} bytes")));
    }
    Ok(text)
}
