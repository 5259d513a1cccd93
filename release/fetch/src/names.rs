//! `Names`: the keys and trusted roots that a policy only names, from files.
//!
//! One of them for everybody who reads a policy: cars and desks, the cluster's webhook, and the
//! pipeline's own check step, so that a name means the same file everywhere.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use pitlane_release::{
    Policy,
    key::MAX_PEM,
    policy::{MAX_POLICY, PolicyError, Resolve},
    sigstore::{BundleRefusal, MAX_TRUST_ROOT, TrustRoot},
};

/// Keys and trusted roots by the names that policies use.
#[derive(Clone, Debug, Default)]
pub struct Names {
    keys: Files,
    roots: Files,
    /// The root without a name is for policies that name none, and for nothing else.
    strict: bool,
    /// PEM text of the key that every name means where no key was given.
    own: Option<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// Its file cannot be read.
    #[error("{file}: the policy cannot be read")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no usable policy with these names.
    #[error("{file}: not a usable policy (docs/policy.md)")]
    Policy {
        /// The file.
        file: String,
        /// What is wrong in it.
        source: PolicyError,
    },
}

#[derive(Clone, Debug, Default)]
struct Files {
    named: BTreeMap<String, PathBuf>,
    any: Option<PathBuf>,
}

impl Files {
    fn add(&mut self, text: &str) {
        match Names::split(text) {
            Some((name, file)) => drop(self.named.insert(name.into(), file.into())),
            None => self.any = Some(text.into()),
        }
    }

    /// The file for a name; the one for any name only where none has a name of its own: a
    /// misspelt name must not mean another.
    fn get(&self, name: Option<&str>) -> Option<&PathBuf> {
        match name {
            Some(name) if !self.named.is_empty() => self.named.get(name),
            _ => self.any.as_ref(),
        }
    }
}

impl Names {
    /// `NAME=FILE` in its parts; nothing for a `FILE`. A name is a word or an address, so a path
    /// with `=` in it is a path.
    pub fn split(text: &str) -> Option<(&str, &Path)> {
        let address = text.starts_with("http://") || text.starts_with("https://");
        let (name, file) = text.split_once('=')?;
        (address || !name.contains('/')).then(|| (name, Path::new(file)))
    }

    /// Takes a key as `NAME=FILE`, or `FILE` for every name.
    pub fn add_key(&mut self, text: &str) {
        self.keys.add(text);
    }

    /// Takes the key of this name.
    pub fn named_key(&mut self, name: &str, file: &Path) {
        self.keys.named.insert(name.to_owned(), file.to_owned());
    }

    /// Takes the key that every name means, unless a key is given.
    pub fn own_key(&mut self, pem: String) {
        self.own = Some(pem);
    }

    /// Takes a trusted root as `NAME=FILE`, or `FILE` for every name and for policies that name
    /// none.
    pub fn add_root(&mut self, text: &str) {
        self.roots.add(text);
    }

    /// Takes the trusted root of this name.
    pub fn named_root(&mut self, name: &str, file: &Path) {
        self.strict = true;
        self.roots.named.insert(name.to_owned(), file.to_owned());
    }

    /// Takes the trusted root of policies that name none, and of those alone.
    pub fn default_root(&mut self, file: &Path) {
        self.strict = true;
        self.roots.any = Some(file.to_owned());
    }

    /// Takes trusted roots as configurations have them: by name, `default` for policies that name
    /// none.
    pub fn roots_by_name(&mut self, roots: &BTreeMap<String, PathBuf>) {
        for (name, file) in roots {
            match name.as_str() {
                "default" => self.default_root(file),
                name => self.named_root(name, file),
            }
        }
    }

    /// The files, so that who keeps policies in memory can see them change.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.keys, &self.roots];
        all.into_iter()
            .flat_map(|files| files.named.values().chain(&files.any))
            .map(PathBuf::as_path)
    }

    /// Reads a policy with these names; gives its text too.
    ///
    /// # Errors
    /// When its file cannot be read, or is no usable policy.
    pub fn policy(&self, file: &Path) -> Result<(Policy, String), PolicyFileError> {
        let shown = || file.display().to_string();
        let text = read(file, MAX_POLICY as u64)
            .map_err(|source| PolicyFileError::File { file: shown(), source })?;
        let policy = Policy::parse(&text, self)
            .map_err(|source| PolicyFileError::Policy { file: shown(), source })?;
        Ok((policy, text))
    }
}

impl Resolve for Names {
    /// A file that cannot be read is as good as none; the policy's error then names the key.
    fn key(&self, name: &str) -> Option<String> {
        if self.keys.named.is_empty() && self.keys.any.is_none() {
            return self.own.clone();
        }
        read(self.keys.get(Some(name))?, MAX_PEM).ok()
    }

    fn root(&self, name: Option<&str>) -> Result<Option<Arc<TrustRoot>>, BundleRefusal> {
        let file = match name {
            Some(name) if self.strict => self.roots.named.get(name),
            name => self.roots.get(name),
        };
        let Some(file) = file else {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A root that is not the public one, by its name or by none.
    #[test]
    fn a_name_means_its_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("env=prod/root.json");
        std::fs::create_dir_all(broken.parent().unwrap()).unwrap();
        std::fs::write(&broken, "no root").unwrap();
        let told = |names: &Names, name| match Resolve::root(names, name) {
            Ok(Some(_)) => "public",
            Ok(None) => "missing",
            Err(_) => "broken",
        };
        let mut car = Names::default();
        car.default_root(&broken);
        assert_eq!(told(&car, None), "broken", "a path with = is a path");
        assert_eq!(told(&car, Some("fleeet")), "missing", "a name is not the default");
        let mut fleet = Names::default();
        fleet.named_root("fleet", &broken);
        assert_eq!((told(&fleet, Some("fleet")), told(&fleet, None)), ("broken", "public"));

        let typed = |text: &str| {
            let mut given = Names::default();
            given.add_root(text);
            given
        };
        let path = broken.to_str().unwrap();
        assert_eq!(told(&typed(path), None), "broken");
        assert_eq!(told(&typed(path), Some("x")), "broken", "one file for any name");
        assert_eq!(told(&typed(&format!("x={path}")), Some("x")), "broken");
        assert_eq!(told(&typed(&format!("x={path}")), Some("y")), "missing");
        let url = "https://fulcio.example";
        assert_eq!(told(&typed(&format!("{url}={path}")), Some(url)), "broken");
        let mut both = typed(&format!("x={path}"));
        both.add_root(path);
        assert_eq!(told(&both, Some("y")), "missing", "a misspelt name");
    }

    #[test]
    fn the_own_key_is_every_name_until_one_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("laps.pub");
        std::fs::write(&file, "theirs").unwrap();
        let mut names = Names::default();
        assert_eq!(Resolve::key(&names, "any"), None);
        names.own_key("ours".into());
        assert_eq!(Resolve::key(&names, "any").as_deref(), Some("ours"));
        names.named_key("laps", &file);
        assert_eq!(Resolve::key(&names, "laps").as_deref(), Some("theirs"));
        assert_eq!(Resolve::key(&names, "any"), None, "a name that is not given");
    }
}
