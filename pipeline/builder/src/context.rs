//! The context: a folder of a stranger's repository as one tar archive, the same for the same files.
//!
//! Only what lies in the folder is packed. Links stay links and must point to something in it;
//! every file is opened by the kernel's own rule that no link is followed and nothing above is
//! reached (openat2), so a folder that is changed meanwhile gives an error, not another file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::fd::AsFd,
    path::{Component, Path},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};
use pitlane_release::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    Limits,
    ignore::{self, Ignore},
};

/// Deepest folder; longest path in bytes, as Linux has it.
const MAX_DEPTH: usize = 64;
const MAX_PATH: usize = 4096;
/// Largest Dockerfile.
const MAX_DOCKERFILE: u64 = 256 * 1024;

/// A packed context.
#[derive(Debug)]
pub struct Packed {
    /// The archive, at its beginning; a file without a name.
    pub archive: File,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files, folders and links in it.
    pub entries: u64,
    /// The Dockerfile's text.
    pub dockerfile: String,
}

/// Why a context is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextFault {
    /// Not a relative path of names.
    #[error("`{path}` is no path in the context; write it from there, without ..")]
    Path {
        /// The path.
        path: String,
    },
    /// A link to something outside.
    #[error(
        "{path} is a link to `{to}`, outside of the context; remove it or list it in .dockerignore"
    )]
    LinkLeaves {
        /// The link.
        path: String,
        /// Its target.
        to: String,
    },
    /// A socket, pipe or device.
    #[error("{path} is no file, folder or link; remove it or list it in .dockerignore")]
    Special {
        /// What it is.
        path: String,
    },
    /// A name that is not text, too long or too deep.
    #[error("{path}: {why}")]
    Name {
        /// The path, as far as it can be shown.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Too much.
    #[error(
        "the context has more than {max} {what}; list what is not needed in .dockerignore, or raise {field}"
    )]
    TooMuch {
        /// bytes or entries.
        what: &'static str,
        /// The limit.
        max: u64,
        /// The field of the limits.
        field: &'static str,
    },
    /// `.dockerignore` or the Dockerfile cannot be read as text.
    #[error("{path}: {why}")]
    Text {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A file could not be read, or changed while it was.
    #[error("{path}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// Packs a folder.
pub(crate) fn pack(root: &Path, dockerfile: &str, limits: &Limits) -> Result<Packed, ContextFault> {
    let io = |path: &str| {
        let path = path.to_owned();
        move |source| ContextFault::Io { path, source }
    };
    let dockerfile = inside(dockerfile)?;
    let shown = root.display().to_string();
    let folder = File::open(root).map_err(io(&shown))?;
    let text = read_text(&folder, &dockerfile, MAX_DOCKERFILE)?
        .ok_or_else(|| io(&dockerfile)(io::ErrorKind::NotFound.into()))?;
    let rules = rules(&folder, &dockerfile)?;
    let temporary = tempfile::tempfile().map_err(io("temporary file"))?;
    let out = Counted {
        inner: io::BufWriter::with_capacity(256 * 1024, temporary),
        hasher: Sha256::new(),
        bytes: 0,
        max: limits.context_bytes,
    };
    let mut walk = Walk {
        root,
        folder,
        rules,
        dockerfile,
        tar: tar::Builder::new(out),
        entries: 0,
        limits: *limits,
    };
    walk.folder("", 0)?;
    let finish = |tar: tar::Builder<Counted>| {
        let counted = tar.into_inner()?;
        let mut archive = counted.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
        archive.rewind()?;
        Ok((archive, Digest::from_bytes(counted.hasher.finalize().into()), counted.bytes))
    };
    let entries = walk.entries;
    let (archive, digest, bytes) = finish(walk.tar).map_err(|e| full(e, &shown, limits))?;
    Ok(Packed { archive, digest, bytes, entries, dockerfile: text })
}

/// Dockerfile paths as they are written: relative, names alone.
fn inside(path: &str) -> Result<String, ContextFault> {
    let names: Option<Vec<&str>> = Path::new(path)
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    match names {
        Some(names) if !names.is_empty() && path.len() < MAX_PATH => Ok(names.join("/")),
        _ => Err(ContextFault::Path { path: path.chars().take(200).collect() }),
    }
}

/// `NAME.dockerignore` beside the Dockerfile before `.dockerignore`, as Docker's second builder has it.
fn rules(folder: &File, dockerfile: &str) -> Result<Ignore, ContextFault> {
    for name in [&format!("{dockerfile}.dockerignore"), ".dockerignore"] {
        if let Some(text) = read_text(folder, name, ignore::MAX_FILE)? {
            return Ignore::parse(&text)
                .map_err(|why| ContextFault::Text { path: name.into(), why });
        }
    }
    Ok(Ignore::default())
}

fn read_text(folder: &File, path: &str, max: u64) -> Result<Option<String>, ContextFault> {
    let wrong = |why: String| ContextFault::Text { path: path.to_owned(), why };
    let file = match open(folder, path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ContextFault::Io { path: path.to_owned(), source }),
    };
    let io = |source| ContextFault::Io { path: path.to_owned(), source };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(ContextFault::Special { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(wrong(format!("more than {max} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| wrong("not UTF-8".into()))
}

/// Opens what lies below a folder, through no link. Never waits for the other end of a pipe.
fn open(folder: &File, path: &str) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(folder.as_fd(), path, how)?))
}

struct Walk<'a> {
    root: &'a Path,
    folder: File,
    rules: Ignore,
    dockerfile: String,
    tar: tar::Builder<Counted>,
    entries: u64,
    limits: Limits,
}

impl Walk<'_> {
    /// Packs what lies in a folder, sorted by name.
    fn folder(&mut self, path: &str, depth: usize) -> Result<(), ContextFault> {
        let named = |why| ContextFault::Name { path: path.to_owned(), why };
        if depth > MAX_DEPTH {
            return Err(named("more than 64 folders deep"));
        }
        let io = |source| ContextFault::Io { path: path.to_owned(), source };
        let mut found = Vec::new();
        // Counted while they are read: a folder of a million files is refused, not sorted.
        for entry in fs::read_dir(self.root.join(path)).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            if found.len() as u64 > self.limits.context_entries {
                return Err(self.too_many());
            }
            found
                .push(name.into_string().map_err(|_| named("has a name in it that is not UTF-8"))?);
        }
        found.sort_unstable();
        for name in found {
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(&below, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, depth: usize) -> Result<(), ContextFault> {
        if path.len() >= MAX_PATH {
            let path = path.chars().take(200).collect();
            return Err(ContextFault::Name { path, why: "the path is longer than 4095 bytes" });
        }
        let io = |source| ContextFault::Io { path: path.to_owned(), source };
        let full_path = self.root.join(path);
        let found = fs::symlink_metadata(&full_path).map_err(io)?;
        let ignored = path != self.dockerfile && self.rules.ignores(path);
        if found.is_dir() {
            let holds_dockerfile = self.dockerfile.starts_with(&format!("{path}/"));
            if ignored && self.rules.is_final() && !holds_dockerfile {
                return Ok(());
            }
            if !ignored {
                self.append(path, tar::EntryType::Directory, 0o755, 0, &mut io::empty())?;
            }
            return self.folder(path, depth + 1);
        }
        if ignored {
            return Ok(());
        }
        if found.is_symlink() {
            let to = fs::read_link(&full_path).map_err(io)?;
            if !stays(path, &to) {
                let to = to.display().to_string();
                return Err(ContextFault::LinkLeaves { path: path.to_owned(), to });
            }
            self.count()?;
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            let done = self.tar.append_link(&mut header, path, &to);
            return done.map_err(|e| full(e, path, &self.limits));
        }
        if !found.is_file() {
            return Err(ContextFault::Special { path: path.to_owned() });
        }
        let file = open(&self.folder, path).map_err(io)?;
        let opened = file.metadata().map_err(io)?;
        if !opened.is_file() {
            return Err(ContextFault::Special { path: path.to_owned() });
        }
        let executable =
            std::os::unix::fs::PermissionsExt::mode(&opened.permissions()) & 0o111 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        // Exactly the size that the header says, whatever happens to the file meanwhile.
        let size = opened.len();
        let mut exact = Exact { inner: file.take(size), left: size };
        self.append(path, tar::EntryType::Regular, mode, size, &mut exact)
    }

    fn append(
        &mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), ContextFault> {
        self.count()?;
        let mut header = header(kind, mode, size);
        let done = self.tar.append_data(&mut header, path, data);
        done.map_err(|e| full(e, path, &self.limits))
    }

    fn count(&mut self) -> Result<(), ContextFault> {
        self.entries += 1;
        if self.entries > self.limits.context_entries { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> ContextFault {
        let max = self.limits.context_entries;
        ContextFault::TooMuch {
            what: "files, folders and links",
            max,
            field: "limits.context_entries",
        }
    }
}

/// Owned by root, dated by the epoch: who checked it out, and when, is not in the archive.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Whether a link's target, read from where the link lies, is below the context.
fn stays(link: &str, to: &Path) -> bool {
    let mut depth = Path::new(link).components().count() - 1;
    for part in to.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// The writer's own refusal, or a file's error.
fn full(error: io::Error, path: &str, limits: &Limits) -> ContextFault {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let max = limits.context_bytes;
        return ContextFault::TooMuch { what: "bytes", max, field: "limits.context_bytes" };
    }
    ContextFault::Io { path: path.to_owned(), source: error }
}

/// Reads exactly as much as was promised, or fails.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.left -= n as u64;
        if n == 0 && self.left > 0 && !out.is_empty() {
            return Err(io::Error::other("became shorter while it was read"));
        }
        Ok(n)
    }
}

/// Hashes and counts what goes to the file, and ends at the limit.
struct Counted {
    inner: io::BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
    max: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes + bytes.len() as u64 > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
