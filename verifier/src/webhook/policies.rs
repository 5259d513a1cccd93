//! The policies in use, read anew when their files or keys change.
//!
//! Files are compared by their bytes, at every look: a `ConfigMap` or Secret changes by a link that
//! is exchanged, which says little in times and much in inotify. A set that cannot be used is
//! told, and the set before stays: a mistake in one policy must not open or stop a cluster.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, bail};
use pitlane_fetch::Names;
use pitlane_release::{Digest, Policy, policy::MAX_POLICY};

use super::image;
use crate::judge::{Judge, Places};

/// Most policies in a set.
const MAX_POLICIES: usize = 256;
/// Most bytes of files that are read for one set; a set of ordinary policies has a thousandth.
const MAX_FILE: u64 = MAX_POLICY as u64;

/// Where policies come from.
#[derive(Clone, Debug)]
pub struct PolicyFiles {
    /// Files, or folders of `*.yaml` and `*.yml`.
    pub paths: Vec<PathBuf>,
    /// Keys and trusted roots that policies only name.
    pub names: Names,
}

/// A set of policies; verdicts of one generation say nothing about another.
#[derive(Debug)]
pub struct PolicySet {
    /// Rises with every change.
    pub generation: u64,
    /// Judges by them.
    pub judge: Judge,
}

/// The set in use, and how the last look at the files went.
#[derive(Debug)]
pub struct Policies {
    files: PolicyFiles,
    places: Arc<Places>,
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    set: Arc<PolicySet>,
    /// Of the bytes that were read last, usable or not.
    seen: Digest,
    /// Why the files as they are cannot be used.
    trouble: Option<String>,
}

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// What was there before.
    Same,
    /// A new set, of so many policies.
    Changed(usize),
    /// Something that cannot be used; the set before stays.
    Broken(String),
}

impl Policies {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// When they cannot be used: without policies nothing can be judged.
    pub fn open(files: PolicyFiles, places: Arc<Places>) -> anyhow::Result<Self> {
        let (seen, policies) = files.read();
        let judge = Judge::new(policies?, Arc::clone(&places));
        let set = Arc::new(PolicySet { generation: 1, judge });
        Ok(Self { files, places, now: RwLock::new(Now { set, seen, trouble: None }) })
    }

    /// The set in use.
    pub fn set(&self) -> Arc<PolicySet> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner).set)
    }

    /// Why the files, as they are, are not the set in use.
    pub fn trouble(&self) -> Option<String> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Looks at the files, and takes what is new and usable.
    pub fn look(&self) -> Look {
        let (seen, policies) = self.files.read();
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if seen == now.seen {
            return Look::Same;
        }
        now.seen = seen;
        match policies {
            Ok(policies) => {
                let judge = Judge::new(policies, Arc::clone(&self.places));
                let (generation, count) = (now.set.generation + 1, judge.len());
                now.set = Arc::new(PolicySet { generation, judge });
                now.trouble = None;
                Look::Changed(count)
            }
            Err(error) => {
                let why = format!("{error:#}");
                now.trouble = Some(why.clone());
                Look::Broken(why)
            }
        }
    }
}

impl PolicyFiles {
    /// The policies, and a digest of all that was read or could not be.
    fn read(&self) -> (Digest, anyhow::Result<Vec<Policy>>) {
        let mut seen = Vec::new();
        let policies = self.collect(&mut seen);
        if let Err(error) = &policies {
            seen.extend(format!("{error:#}").into_bytes());
        }
        (Digest::of(seen), policies)
    }

    fn collect(&self, seen: &mut Vec<u8>) -> anyhow::Result<Vec<Policy>> {
        for key in self.names.files() {
            let shown = key.display();
            let bytes = bounded(key).with_context(|| format!("{shown}: the key cannot be read"))?;
            seen.extend_from_slice(Digest::of(bytes).as_bytes());
        }
        let mut policies: Vec<Policy> = Vec::new();
        for file in self.files()? {
            let shown = file.display();
            let bytes =
                bounded(&file).with_context(|| format!("{shown}: the policy cannot be read"))?;
            seen.extend(format!("{shown}\n").into_bytes());
            seen.extend_from_slice(Digest::of(&bytes).as_bytes());
            let policy = self.names.policy(&file)?.0;
            if policies.iter().any(|known| known.name == policy.name) {
                bail!("{shown}: another policy has the name `{}`; verdicts go by it", policy.name);
            }
            let globs = policy.images.iter().map(ToString::to_string);
            if let Some(glob) = globs.into_iter().find(|glob| image::is_misspelled(glob)) {
                bail!(
                    "{shown}: no image matches `{glob}`: write registries in lower case, without \
                     :443, and Docker Hub as index.docker.io"
                );
            }
            policies.push(policy);
        }
        Ok(policies)
    }

    /// The files, those of folders in order of their names.
    fn files(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        for path in &self.paths {
            let shown = path.display();
            if !path.is_dir() {
                files.insert(path.clone());
                continue;
            }
            let before = files.len();
            for entry in path.read_dir().with_context(|| format!("{shown}: cannot be read"))? {
                let file = entry.with_context(|| format!("{shown}: cannot be read"))?.path();
                // Kubernetes keeps what it mounts behind links whose names begin with two dots.
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
                let yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
                if !yaml || name.starts_with('.') {
                    continue;
                }
                match file.metadata() {
                    Ok(about) if about.is_dir() => {}
                    // A pipe would hold up whoever opens it.
                    Ok(about) if !about.is_file() => bail!("{}: not a file", file.display()),
                    // A link to nowhere, or what may not be looked at, is a policy that cannot be
                    // read: to go on without it would let in what it refuses.
                    Ok(_) | Err(_) => drop(files.insert(file)),
                }
                if files.len() > MAX_POLICIES {
                    bail!("{shown}: more than {MAX_POLICIES} policies");
                }
            }
            if files.len() == before {
                bail!("{shown}: no policy in this folder; want *.yaml (docs/policy.md)");
            }
        }
        Ok(files)
    }
}

fn bounded(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        bail!("larger than {MAX_FILE} bytes");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::open_one;
