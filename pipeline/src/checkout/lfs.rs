//! Git LFS: the object that a pointer in the commit stands for, without the program git-lfs.
//!
//! Source: Git LFS specification ("The Pointer"), API documentation ("Batch", "Basic transfers",
//! "Server discovery"). `.lfsconfig` of the repository is not read: who can tag would choose where
//! the clone's credentials go. What arrives counts by its size and SHA-256 alone.

mod ssh;
mod web;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use pitlane_fetch::git::is_local;
use pitlane_release::Digest;
use sha2::{Digest as _, Sha256};

use crate::lane::StepError;

/// How a pointer begins.
const VERSION: &str = "version https://git-lfs.github.com/spec/";
/// Largest pointer (bytes), by the specification.
const MAX_POINTER: u64 = 1024;

/// Where objects come from, beside the repository's own address.
#[derive(Clone, Copy, Debug, Default)]
pub struct LfsAt<'a> {
    /// An LFS server by the operator's word; else the one beside the repository.
    pub server: Option<&'a str>,
    /// The value of `Authorization` that the clone had, for the repository's own host.
    pub authorization: Option<&'a str>,
}

/// The value of `Authorization` among the variables that give a git command its login (`http.….extraHeader`
/// by `GIT_CONFIG_VALUE_0`): what [`LfsAt::authorization`] wants of the clone's own.
pub fn authorization<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Option<&'a str> {
    let mut values =
        variables.into_iter().filter(|(name, _)| name.starts_with("GIT_CONFIG_VALUE_"));
    values.find_map(|(_, value)| value.strip_prefix("Authorization: "))
}

/// A pointer: what stands in the commit for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The object's digest.
    pub oid: Digest,
    /// Its bytes.
    pub size: u64,
}

impl Pointer {
    /// Reads a pointer; none for any other file.
    pub(super) fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        if std::fs::metadata(file)?.len() > MAX_POINTER {
            return Ok(None);
        }
        Self::of(&std::fs::read(file)?)
    }

    /// Reads a file's bytes; none when they are no pointer's, an error when they would be one.
    pub fn of(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.starts_with(VERSION) => Self::parse(text).map(Some),
            _ => Ok(None),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut oid, mut size) = (None, None);
        for line in text.lines().skip(1) {
            match line.split_once(' ') {
                Some(("oid", value)) if oid.is_none() => {
                    let hex = value.strip_prefix("sha256:").context("its oid is not sha256")?;
                    oid = Some(Digest::from_hex(hex).context("its oid is no SHA-256")?);
                }
                Some(("size", value)) if size.is_none() => {
                    size = Some(value.parse().context("its size is no number")?);
                }
                _ => bail!("its line `{}` is not read", line.escape_debug()),
            }
        }
        Ok(Self { oid: oid.context("it has no oid")?, size: size.context("it has no size")? })
    }

    /// Where the object lies below a git folder: `lfs/objects/ab/cd/abcd…`.
    fn place(&self, git: &Path) -> PathBuf {
        let hex = self.oid.hex();
        git.join("lfs/objects").join(&hex[..2]).join(&hex[2..4]).join(hex)
    }
}

/// Puts the object in the place of its pointer; any other file stays.
pub(super) async fn resolve(
    url: &str,
    at: LfsAt<'_>,
    path: &Path,
    max: u64,
    file: &Path,
) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let pointer = Pointer::read(file).with_context(|| format!("{shown}: a broken Git LFS pointer"));
    let Some(pointer) = pointer? else { return Ok(()) };
    let Pointer { oid, size } = pointer;
    if size > max {
        bail!(
            "{shown}: a Git LFS pointer to {size} bytes, at most {max} are taken (`spec.model.contract.maxBytes`)"
        );
    }
    let fetched = async {
        match (at.server, is_local(url)) {
            (None, true) => from_folder(url, &pointer, file),
            (server, local) => {
                let server = match (server, local) {
                    (Some(url), _) => web::Server::named(url)?,
                    (None, _) if web::is_web(url) => web::Server::beside(url)?,
                    (None, _) => ssh::server(url).await?,
                };
                let own = web::same_origin(url, server.url());
                let server = server.with_login(at.authorization.filter(|_| own));
                server.download(&pointer, file).await
            }
        }
    };
    if let Err(error) = fetched.await {
        if error.chain().any(<dyn std::error::Error>::is::<reqwest::Error>) {
            return Err(error.context(format!("{shown}: fetching {oid} from Git LFS")));
        }
        let why = format!("{shown}: a Git LFS pointer to {oid} ({size} bytes): {error:#}");
        let hint = "push the object (`git lfs push --all`), name the server in `spec.model.lfsUrl`, \
                    or commit the model itself (`git lfs migrate export`)";
        return Err(StepError::new("lfs-object", why, hint).into());
    }
    Ok(())
}

/// Takes the object from the folder beside a repository on this machine.
fn from_folder(url: &str, pointer: &Pointer, file: &Path) -> anyhow::Result<()> {
    let root = Path::new(url.strip_prefix("file://").unwrap_or(url));
    let places = [root.to_owned(), root.join(".git")].map(|git| pointer.place(&git));
    let found = places.iter().find(|place| place.is_file());
    let found = found.with_context(|| format!("it is not at {}", places[0].display()))?;
    let from = std::fs::File::open(found).with_context(|| found.display().to_string())?;
    let mut out = Incoming::new(file, pointer)?;
    let mut from = std::io::Read::take(from, pointer.size.saturating_add(1));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match std::io::Read::read(&mut from, &mut buffer)? {
            0 => break,
            n => out.take(&buffer[..n])?,
        }
    }
    out.finish()
}

/// An object on its way: in a file beside the pointer, which it replaces when it is whole.
pub(super) struct Incoming<'a> {
    file: tempfile::NamedTempFile,
    hasher: Sha256,
    seen: u64,
    pointer: &'a Pointer,
    target: &'a Path,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(target: &'a Path, pointer: &'a Pointer) -> anyhow::Result<Self> {
        let file = tempfile::NamedTempFile::new_in(target.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { file, hasher: Sha256::new(), seen: 0, pointer, target })
    }

    /// Takes more of it, never more than the pointer says.
    pub(super) fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.seen += bytes.len() as u64;
        ensure!(self.seen <= self.pointer.size, "more than {} bytes came", self.pointer.size);
        self.hasher.update(bytes);
        Ok(std::io::Write::write_all(&mut self.file, bytes)?)
    }

    /// Puts it in its place, if it is what the pointer names.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        ensure!(self.seen == self.pointer.size, "only {} bytes came", self.seen);
        let found = Digest::from_bytes(self.hasher.finalize().into());
        ensure!(found == self.pointer.oid, "what came is {found}");
        self.file.persist(self.target)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
