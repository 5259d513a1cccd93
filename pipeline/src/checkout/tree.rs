//! The files of a commit, for gates and builds: straight out of git's objects, so that no
//! attribute, filter or hook of the repository has a say in what is seen.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    },
    path::{Component, Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use pitlane_fetch::git::{self, run_for};
use pitlane_release::Commit;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use super::{FETCH_TIMEOUT, QUICK_TIMEOUT};

/// Largest list of files that is read (bytes): a file takes some 100.
const MAX_LIST: usize = 128 * 1024 * 1024;
/// Longest path, and longest target of a link (bytes).
const MAX_PATH: usize = 4096;
/// How much of a file is held at once.
const CHUNK: usize = 64 * 1024;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Links, made as they are; nothing was written through one.
    pub links: usize,
    /// Submodules: each an empty folder, as git itself leaves them.
    pub submodules: usize,
}

/// A folder of a commit, and how much it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// Its path; all of the commit for `.`.
    pub path: &'a Path,
    /// Most bytes of all files together.
    pub bytes: u64,
    /// Most files and links.
    pub entries: u64,
}

/// One entry of `git ls-tree`.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File { id: String, size: u64, path: PathBuf, executable: bool },
    Link { id: String, size: u64, path: PathBuf },
    Submodule { path: PathBuf },
}

/// Writes the files of a folder of a commit in a bare repository into `dir`, which is made anew.
/// World-readable.
pub async fn tree(
    url: &str,
    bare: &Path,
    commit: &Commit,
    folder: Folder<'_>,
    dir: &Path,
) -> anyhow::Result<Tree> {
    let whole = folder.path == Path::new(".");
    let shown = folder.path.display();
    let name = if whole { format!("{commit}^{{tree}}") } else { format!("{commit}:{shown}") };
    let mut list = git::command(url, bare);
    // Paths as bytes, whatever they are; sizes without reading the files.
    list.args(["ls-tree", "-r", "-l", "-z", "--full-tree", &name]);
    let listed = run_for(list, QUICK_TIMEOUT, MAX_LIST).await;
    let listed = listed.with_context(|| format!("{shown}: no folder in commit {commit}"))?;
    let entries = parse(&listed, folder)?;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let work = write(url, bare, &entries, dir);
    timeout(FETCH_TIMEOUT, work).await.context("the commit's files took too long")?
}

fn parse(listed: &[u8], folder: Folder<'_>) -> anyhow::Result<Vec<Entry>> {
    let Folder { bytes: max, entries: most, .. } = folder;
    let mut entries = Vec::new();
    let mut bytes = 0_u64;
    for line in listed.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|byte| *byte == b'\t').context("git ls-tree: no path")?;
        let (fields, path) = (std::str::from_utf8(&line[..tab])?, &line[tab + 1..]);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [mode, _, id, size] = fields[..] else { bail!("git ls-tree: `{fields:?}`") };
        let path = inside(path)?;
        let size = size.parse::<u64>().unwrap_or(0);
        bytes = bytes.saturating_add(size);
        if bytes > max {
            bail!("its files have more than {max} bytes together");
        }
        if entries.len() as u64 == most {
            bail!("it has more than {most} files");
        }
        let id = id.to_owned();
        entries.push(match mode {
            "100644" | "100755" => Entry::File { id, size, path, executable: mode == "100755" },
            "120000" if size <= MAX_PATH as u64 => Entry::Link { id, size, path },
            "160000" => Entry::Submodule { path },
            _ => bail!("{}: mode {mode} is neither a file nor a link", path.display()),
        });
    }
    Ok(entries)
}

/// A path that stays inside, and is nobody's repository.
fn inside(path: &[u8]) -> anyhow::Result<PathBuf> {
    let shown = path.escape_ascii();
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    };
    let length = path.as_os_str().len();
    if !(1..=MAX_PATH).contains(&length) || !path.components().all(plain) {
        bail!("`{shown}` is no path for a file of a repository");
    }
    Ok(path.to_owned())
}

async fn write(url: &str, bare: &Path, entries: &[Entry], dir: &Path) -> anyhow::Result<Tree> {
    let mut objects = Objects::open(url, bare)?;
    let mut tree = Tree::default();
    // Links last: nothing can be written through one that is not there yet.
    for entry in entries {
        let (id, size, path, executable) = match entry {
            Entry::File { id, size, path, executable } => (id, size, path, executable),
            Entry::Submodule { path } => {
                // As git leaves it: an empty folder.
                fs::create_dir_all(dir.join(path))?;
                tree.submodules += 1;
                continue;
            }
            Entry::Link { .. } => continue,
        };
        let target = dir.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = if *executable { 0o755 } else { 0o644 };
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(&target);
        let mut file = file.with_context(|| path.display().to_string())?;
        objects.copy(id, *size, &mut file).await.with_context(|| path.display().to_string())?;
        (tree.files, tree.bytes) = (tree.files + 1, tree.bytes + size);
    }
    for entry in entries {
        match entry {
            Entry::Link { id, size, path } => {
                let mut to = Vec::new();
                objects.copy(id, *size, &mut to).await?;
                let to = std::ffi::OsStr::from_bytes(&to);
                let target = dir.join(path);
                if let Some(parent) = target.parent() {
                    plain_folders(dir, parent)?;
                }
                symlink(to, &target).with_context(|| path.display().to_string())?;
                tree.links += 1;
            }
            Entry::File { .. } | Entry::Submodule { .. } => {}
        }
    }
    objects.close().await?;
    Ok(tree)
}

/// Makes the folders of a link; none of them may be a link itself.
fn plain_folders(dir: &Path, parent: &Path) -> anyhow::Result<()> {
    let mut at = dir.to_owned();
    for part in parent.strip_prefix(dir)?.components() {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => bail!("{}: a folder in one place and a link in another", at.display()),
            Err(_) => fs::create_dir(&at)?,
        }
    }
    Ok(())
}

/// `git cat-file --batch`: one process for all files.
struct Objects {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Objects {
    fn open(url: &str, bare: &Path) -> anyhow::Result<Self> {
        let mut command = git::command(url, bare);
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("git cannot be started")?;
        let (asked, answers) = (child.stdin.take(), child.stdout.take());
        let (asked, answers) = asked.zip(answers).context("git has no pipes")?;
        Ok(Self { child, asked, answers: BufReader::new(answers) })
    }

    /// Copies one object, which must have this size.
    async fn copy(
        &mut self,
        id: &str,
        size: u64,
        to: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        self.asked.write_all(format!("{id}\n").as_bytes()).await?;
        self.asked.flush().await?;
        let mut head = String::new();
        (&mut self.answers).take(256).read_line(&mut head).await?;
        if head.trim_end() != format!("{id} blob {size}") {
            bail!("git said `{}` of object {id} of {size} bytes", head.trim_end().escape_debug());
        }
        let mut left = size;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            self.answers.read_exact(&mut chunk[..most]).await?;
            to.write_all(&chunk[..most])?;
            left -= most as u64;
        }
        // A line's end follows each object.
        self.answers.read_u8().await?;
        to.flush()?;
        Ok(())
    }

    async fn close(mut self) -> anyhow::Result<()> {
        drop(self.asked);
        self.child.wait().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Folder<'static> {
        Folder { path: Path::new("."), bytes: 1 << 30, entries: 100 }
    }

    fn line(mode: &str, size: &str, path: &str) -> Vec<u8> {
        format!("{mode} blob {} {size}\t{path}\0", "a".repeat(40)).into_bytes()
    }

    #[test]
    fn what_is_listed_is_taken_or_refused() {
        let listed = [
            line("100644", "3", "a/b c"),
            line("100755", "4", "run"),
            line("120000", "5", "link"),
            line("160000", "-", "sub"),
        ];
        let entries = parse(&listed.concat(), all()).unwrap();
        assert_eq!(entries.len(), 4);
        assert!(matches!(&entries[1], Entry::File { executable: true, size: 4, .. }));
        assert_eq!(entries[3], Entry::Submodule { path: "sub".into() });
        for bad in ["../x", "/x", "a/../b", ".git/config", "a/.GIT/hooks/x", ""] {
            assert!(parse(&line("100644", "1", bad), all()).is_err(), "{bad}");
        }
        assert!(parse(&line("100664", "1", "x"), all()).is_err(), "a mode that git writes no more");
        assert!(parse(&line("120000", "5000", "x"), all()).is_err(), "a link that is no path");
        let two = [line("100644", "4", "x"), line("100644", "5", "y")].concat();
        assert!(parse(&two, Folder { bytes: 9, entries: 2, ..all() }).is_ok());
        assert!(parse(&two, Folder { bytes: 8, entries: 2, ..all() }).is_err());
        assert!(parse(&two, Folder { bytes: 9, entries: 1, ..all() }).is_err());
        let bytes = format!("100644 blob {} 1\t", "a".repeat(40)).into_bytes();
        let odd = parse(&[&bytes[..], b"\xff\0"].concat(), all()).unwrap();
        assert!(matches!(&odd[0], Entry::File { path, .. } if path.as_os_str().len() == 1));
        assert!(parse(b"100644 blob\t\xff\0", all()).is_err());
    }

    /// A tree that git itself would not make: a link, and a folder of the same name.
    #[tokio::test]
    async fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (bare, out) = (dir.path().join("r.git"), dir.path().join("out"));
        fs::create_dir(&bare).unwrap();
        let url = bare.to_str().unwrap().to_owned();
        let feed = async |args: &[&str], input: &[u8]| {
            let mut command = git::command(&url, &bare);
            let who = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")];
            command.args(args).envs(who).stdin(Stdio::piped());
            command.envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")]);
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).await.unwrap();
            let out = child.wait_with_output().await.unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        feed(&["init", "--quiet", "--bare", "."], b"").await;
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let target = outside.to_str().unwrap().as_bytes();
        let link = feed(&["hash-object", "-w", "--stdin"], target).await;
        let file = feed(&["hash-object", "-w", "--stdin"], b"evil").await;
        let inner = feed(&["mktree"], format!("100644 blob {file}\tx\n").as_bytes()).await;
        let raw = |mode: &str, name: &str, id: &str| {
            let mut bytes = format!("{mode} {name}\0").into_bytes();
            bytes.extend(hex::decode(id).unwrap());
            bytes
        };
        let tree_bytes = [raw("120000", "a", &link), raw("40000", "a", &inner)].concat();
        let literally = ["hash-object", "-w", "-t", "tree", "--literally", "--stdin"];
        let root = feed(&literally, &tree_bytes).await;
        let commit = feed(&["commit-tree", &root, "-m", "x"], b"").await;
        let commit: Commit = commit.parse().unwrap();
        let error = tree(&url, &bare, &commit, all(), &out).await.unwrap_err();
        assert!(format!("{error:#}").contains("exists"), "{error:#}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        // And one as git makes them.
        let entries =
            format!("100755 blob {file}\trun\n120000 blob {link}\tlink\n040000 tree {inner}\td\n");
        let root = feed(&["mktree"], entries.as_bytes()).await;
        let commit = feed(&["commit-tree", &root, "-m", "x"], b"").await;
        let commit: Commit = commit.parse().unwrap();
        let found = tree(&url, &bare, &commit, all(), &out).await.unwrap();
        assert_eq!((found.files, found.links, found.bytes), (2, 1, 8));
        assert_eq!(fs::read(out.join("d/x")).unwrap(), b"evil");
        let mode = fs::metadata(out.join("run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        // A folder of it alone, and one that is none.
        let of = |path| Folder { path: Path::new(path), ..all() };
        let found = tree(&url, &bare, &commit, of("d"), &out).await.unwrap();
        assert_eq!((found.files, fs::read(out.join("x")).unwrap()), (1, b"evil".to_vec()));
        for bad in ["none", "run", "../d"] {
            let error = tree(&url, &bare, &commit, of(bad), &out).await.unwrap_err();
            assert!(error.to_string().contains("no folder"), "{bad}: {error:#}");
        }
    }
}
