//! Git objects and refs: hashed as git does, kept in memory, and written as loose objects into a
//! bare repository, so that `git http-backend` serves the same bytes that the API speaks of.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use flate2::{Compression, write::ZlibEncoder};

/// Who makes every commit and tag.
pub(crate) const PERSON: &str = "Octo Driver";
/// Their address.
pub(crate) const MAIL: &str = "octo@example.com";
/// What a ref holds before it is made and after it is deleted.
pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000";
/// When the first commit was made; each later object is a second younger.
pub(crate) const EPOCH: i64 = 1_760_000_000;

/// A commit.
#[derive(Clone, Debug)]
pub(crate) struct CommitObject {
    pub(crate) tree: String,
    pub(crate) message: String,
    pub(crate) at: i64,
    pub(crate) paths: Vec<String>,
}

/// An annotated tag.
#[derive(Clone, Debug)]
pub(crate) struct TagObject {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) target_kind: &'static str,
    pub(crate) message: String,
    pub(crate) payload: String,
    pub(crate) signature: Option<String>,
    pub(crate) verified: bool,
    pub(crate) reason: String,
    pub(crate) at: i64,
}

/// What GitHub is to say of a tag's signature.
#[derive(Clone, Copy, Debug)]
pub enum Signature<'a> {
    /// There is none.
    None,
    /// There is one, and GitHub says this of it: `verified` and its reason (`valid`, `unknown_key`).
    Says(bool, &'a str),
}

/// All objects of a repository.
#[derive(Debug)]
pub(crate) struct Objects {
    folder: PathBuf,
    made: i64,
    pub(crate) commits: BTreeMap<String, CommitObject>,
    pub(crate) tags: BTreeMap<String, TagObject>,
    pub(crate) refs: BTreeMap<String, String>,
}

impl Objects {
    /// An empty bare repository in `folder`.
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        for part in ["objects", "refs/heads", "refs/tags"] {
            fs::create_dir_all(folder.join(part)).with_context(|| folder.display().to_string())?;
        }
        fs::write(folder.join("HEAD"), "ref: refs/heads/main\n")?;
        // Commits may be asked for by name, as on GitHub.
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\
                      [uploadpack]\n\tallowAnySHA1InWant = true\n\tallowFilter = true\n";
        fs::write(folder.join("config"), config)?;
        Ok(Self {
            folder: folder.to_owned(),
            made: 0,
            commits: BTreeMap::new(),
            tags: BTreeMap::new(),
            refs: BTreeMap::new(),
        })
    }

    fn put(&self, kind: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut whole = format!("{kind} {}\0", body.len()).into_bytes();
        whole.extend_from_slice(body);
        let id = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole));
        let folder = self.folder.join("objects").join(&id[..2]);
        let file = folder.join(&id[2..]);
        if file.exists() {
            return Ok(id);
        }
        fs::create_dir_all(&folder)?;
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&whole)?;
        self.write_whole(&file, &packed.finish()?)?;
        Ok(id)
    }

    /// Writes a file so that a clone which runs meanwhile sees all of it or nothing.
    fn write_whole(&self, file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let beside = self.folder.join("incoming");
        fs::write(&beside, bytes)?;
        Ok(fs::rename(&beside, file)?)
    }

    fn tree(&self, files: &[(&str, &[u8])]) -> anyhow::Result<String> {
        // Folders sort as if their names ended in a slash.
        let mut entries = BTreeMap::<String, (&str, String)>::new();
        let mut folders = BTreeMap::<&str, Vec<(&str, &[u8])>>::new();
        for (path, bytes) in files {
            match path.split_once('/') {
                Some((folder, rest)) => folders.entry(folder).or_default().push((rest, bytes)),
                None => {
                    entries.insert((*path).to_owned(), ("100644", self.put("blob", bytes)?));
                }
            }
        }
        for (name, inside) in folders {
            entries.insert(format!("{name}/"), ("40000", self.tree(&inside)?));
        }
        let mut body = Vec::new();
        for (name, (mode, id)) in entries {
            write!(body, "{mode} {}\0", name.trim_end_matches('/'))?;
            body.extend(hex::decode(id)?);
        }
        self.put("tree", &body)
    }

    fn tick(&mut self) -> i64 {
        self.made += 1;
        EPOCH + self.made
    }

    /// Makes a commit of these files alone, after what `parent` names.
    pub(crate) fn commit(
        &mut self,
        files: &[(&str, &[u8])],
        message: &str,
        parent: Option<&str>,
    ) -> anyhow::Result<String> {
        let tree = self.tree(files)?;
        let at = self.tick();
        let parent = parent.map(|id| format!("parent {id}\n")).unwrap_or_default();
        let who = format!("{PERSON} <{MAIL}> {at} +0000");
        let body = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n");
        let id = self.put("commit", body.as_bytes())?;
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        let commit = CommitObject { tree, message: message.to_owned(), at, paths };
        self.commits.insert(id.clone(), commit);
        Ok(id)
    }

    /// Makes a tag object of a commit or of another tag object; no ref names it yet.
    pub(crate) fn tag(
        &mut self,
        name: &str,
        target: &str,
        message: &str,
        signature: Signature<'_>,
    ) -> anyhow::Result<String> {
        let target_kind = self.kind(target);
        ensure!(target_kind != "none", "no object {target}");
        let at = self.tick();
        let payload = format!(
            "object {target}\ntype {target_kind}\ntag {name}\ntagger {PERSON} <{MAIL}> {at} +0000\n\n{message}\n"
        );
        let (signature, verified, reason) = match signature {
            Signature::None => (None, false, "unsigned".to_owned()),
            Signature::Says(verified, reason) => {
                let lab = "-----BEGIN PGP SIGNATURE-----\n\nlab\n-----END PGP SIGNATURE-----\n";
                (Some(lab.to_owned()), verified, reason.to_owned())
            }
        };
        let body = format!("{payload}{}", signature.as_deref().unwrap_or_default());
        let id = self.put("tag", body.as_bytes())?;
        let tag = TagObject {
            name: name.to_owned(),
            target: target.to_owned(),
            target_kind,
            message: message.to_owned(),
            payload,
            signature,
            verified,
            reason,
            at,
        };
        self.tags.insert(id.clone(), tag);
        Ok(id)
    }

    /// Makes a blob, which no ref should name, and gives its name.
    pub(crate) fn blob(&self, bytes: &[u8]) -> anyhow::Result<String> {
        self.put("blob", bytes)
    }

    /// `commit`, `tag`, `blob` (any other object on the disk), or `none`.
    pub(crate) fn kind(&self, id: &str) -> &'static str {
        if self.commits.contains_key(id) {
            "commit"
        } else if self.tags.contains_key(id) {
            "tag"
        } else if id.len() == 40
            && self.folder.join("objects").join(&id[..2]).join(&id[2..]).exists()
        {
            "blob"
        } else {
            "none"
        }
    }

    /// The commit that an object leads to.
    pub(crate) fn peel(&self, id: &str) -> Option<String> {
        let mut id = id;
        while let Some(tag) = self.tags.get(id) {
            id = &tag.target;
        }
        self.commits.contains_key(id).then(|| id.to_owned())
    }

    /// What a ref holds on the disk, where git pushes to.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Moves a branch to a commit that git pushed.
    pub(crate) fn move_branch(&self, branch: &str, commit: &str) -> anyhow::Result<()> {
        let file = self.folder.join("refs/heads").join(branch);
        self.write_whole(&file, format!("{commit}\n").as_bytes())
    }

    /// Lets a ref name an object, or nothing; gives what it named before.
    pub(crate) fn set(&mut self, name: &str, id: Option<&str>) -> anyhow::Result<Option<String>> {
        let file = self.folder.join(name);
        let Some(id) = id else {
            let _ = fs::remove_file(&file);
            return Ok(self.refs.remove(name));
        };
        ensure!(self.kind(id) != "none", "no object {id}");
        fs::create_dir_all(file.parent().context("a ref has a folder")?)?;
        self.write_whole(&file, format!("{id}\n").as_bytes())?;
        Ok(self.refs.insert(name.to_owned(), id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "--git-dir"]).arg(folder).args(arguments);
        let out = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }

    #[test]
    fn git_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut objects = Objects::new(folder).unwrap();
        // Names whose order differs with and without the slash of a folder.
        let files: [(&str, &[u8]); 4] =
            [("a/b/c.txt", b"deep"), ("a.txt", b"file"), ("a-b", b"\0\xff"), ("z", b"")];
        let first = objects.commit(&files, "first", None).unwrap();
        let second = objects.commit(&[("a", b"b")], "second", Some(&first)).unwrap();
        let tag = objects.tag("v1", &first, "one", Signature::None).unwrap();
        let nested = objects.tag("v2", &tag, "two", Signature::Says(true, "valid")).unwrap();
        objects.set("refs/heads/main", Some(&second)).unwrap();
        objects.set("refs/tags/v2", Some(&nested)).unwrap();
        assert_eq!(git(folder, &["fsck", "--strict", "--full"]), Ok(String::new()));
        assert_eq!(git(folder, &["rev-parse", "v2^{}"]).as_ref(), Ok(&first));
        assert_eq!(git(folder, &["rev-parse", "main~1"]).as_ref(), Ok(&first));
        assert_eq!(git(folder, &["show", "v2:a/b/c.txt"]).as_deref(), Ok("deep"));
        assert_eq!(objects.peel(&nested), Some(first));
        assert_eq!(objects.set("refs/tags/v2", None).unwrap(), Some(nested));
        assert!(git(folder, &["rev-parse", "--verify", "v2"]).is_err());
        assert!(objects.set("refs/tags/v3", Some(&"1".repeat(40))).is_err(), "no such object");
        assert!(objects.tag("v3", "main", "no", Signature::None).is_err(), "no object's name");
    }
}
