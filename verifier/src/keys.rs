//! Policies and keys from files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_release::Policy;

/// Keys given on the command line or in a configuration: NAME=FILE, or FILE for any name.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    named: BTreeMap<String, PathBuf>,
    any: Option<PathBuf>,
}

impl Keys {
    /// Takes `NAME=FILE` or `FILE`.
    pub fn add(&mut self, text: &str) {
        match text.split_once('=') {
            Some((name, file)) => drop(self.named.insert(name.into(), file.into())),
            None => self.any = Some(text.into()),
        }
    }

    /// The files, so that who keeps policies in memory can see them change.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.named.values().chain(&self.any).map(PathBuf::as_path)
    }

    /// The PEM text of a key that a policy names. A file that cannot be read is as good as none;
    /// the policy's error then names the key.
    fn pem(&self, name: &str) -> Option<String> {
        let file = self.named.get(name).or(self.any.as_ref())?;
        std::fs::read_to_string(file).ok()
    }

    /// Reads a policy with these keys.
    pub fn policy(&self, file: &Path) -> anyhow::Result<Policy> {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{shown}: the policy cannot be read"))?;
        Policy::parse(&text, &|name| self.pem(name))
            .with_context(|| format!("{shown}: not a usable policy (docs/policy.md)"))
    }
}
