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
    pem: Files,
    roots: Files,
    /// The root without a name is for policies that name none, and for nothing else.
    strict: bool,
}

#[derive(Clone, Debug, Default)]
struct Files {
    named: BTreeMap<String, PathBuf>,
    any: Option<PathBuf>,
}

impl Files {
    /// Takes `NAME=FILE` or `FILE`. A name is a word or an address; a path with `=` in it is a path.
    fn add(&mut self, text: &str) {
        let address = text.starts_with("http://") || text.starts_with("https://");
        match text.split_once('=') {
            Some((name, file)) if address || !name.contains('/') => {
                self.named.insert(name.into(), file.into());
            }
            _ => self.any = Some(text.into()),
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

impl Keys {
    /// Takes a key as `NAME=FILE` or `FILE`.
    pub fn add(&mut self, text: &str) {
        self.pem.add(text);
    }

    /// Takes the key of this name.
    pub fn name_key(&mut self, name: &str, file: &Path) {
        self.pem.named.insert(name.to_owned(), file.to_owned());
    }

    /// Takes the trusted root of this name; without one, that of policies that name none.
    pub fn name_root(&mut self, name: Option<&str>, file: &Path) {
        self.strict = true;
        match name {
            Some(name) => drop(self.roots.named.insert(name.to_owned(), file.to_owned())),
            None => self.roots.any = Some(file.to_owned()),
        }
    }

    /// Takes a trusted root as `NAME=FILE`, or `FILE` for every name and for policies that name
    /// none.
    pub fn add_root(&mut self, text: &str) {
        self.roots.add(text);
    }

    /// The files, so that who keeps policies in memory can see them change.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.pem, &self.roots];
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
        read(self.pem.get(Some(name))?, MAX_PEM).ok()
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
        let told = |keys: &Keys, name| match keys.root(name) {
            Ok(Some(_)) => "public",
            Ok(None) => "missing",
            Err(_) => "broken",
        };
        let mut car = Keys::default();
        car.name_root(None, &broken);
        assert_eq!(told(&car, None), "broken", "a path with = is a path");
        assert_eq!(told(&car, Some("fleeet")), "missing", "a name is not the default");
        let mut named = Keys::default();
        named.name_root(Some("fleet"), &broken);
        assert_eq!((told(&named, Some("fleet")), told(&named, None)), ("broken", "public"));

        let typed = |text: &str| {
            let mut keys = Keys::default();
            keys.add_root(text);
            keys
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
}
