//! What is packed, and what is refused.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [("Dockerfile", "FROM scratch\n")].iter().chain(files) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn names(packed: Packed) -> Vec<String> {
    let mut archive = tar::Archive::new(packed.archive);
    let name =
        |e: io::Result<tar::Entry<'_, File>>| e.unwrap().path().unwrap().display().to_string();
    archive.entries().unwrap().map(name).collect()
}

fn pack_in(dir: &tempfile::TempDir) -> Result<Packed, ContextFault> {
    pack(dir.path(), "Dockerfile", &Limits::default())
}

#[test]
fn the_same_files_give_the_same_archive() {
    let files = [("b", "2"), ("a/x", "1"), (&"long/".repeat(30), "")];
    let [one, two] = [folder(&files[..2]), folder(&files[..2])];
    fs::set_permissions(two.path().join("b"), fs::Permissions::from_mode(0o600)).unwrap();
    let stamp = File::options().write(true).open(two.path().join("b")).unwrap();
    stamp.set_modified(std::time::UNIX_EPOCH).unwrap();
    let (first, second) = (pack_in(&one).unwrap(), pack_in(&two).unwrap());
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.entries, 4);
    assert_eq!(first.bytes, first.archive.metadata().unwrap().len());
    assert_eq!(names(first), ["Dockerfile", "a", "a/x", "b"]);
    fs::set_permissions(two.path().join("b"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(second.digest, pack_in(&two).unwrap().digest, "a program is another file");
}

#[test]
fn ignored_files_stay_at_home_and_the_dockerfile_never_does() {
    let dir = folder(&[
        (".dockerignore", "*\n!src\nsrc/secret"),
        ("src/a", ""),
        ("src/secret", ""),
        ("x", ""),
    ]);
    assert_eq!(names(pack_in(&dir).unwrap()), ["Dockerfile", "src", "src/a"]);
    fs::write(dir.path().join("Dockerfile.dockerignore"), "src").unwrap();
    let got = names(pack_in(&dir).unwrap());
    assert_eq!(got, [".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "x"]);
    // What is ignored may be anything.
    symlink("/etc/shadow", dir.path().join("src/out")).unwrap();
    assert!(pack_in(&dir).is_ok());
}

#[test]
fn links_stay_links_and_stay_inside() {
    let dir = folder(&[("a/b/file", ""), ("top", "")]);
    for (link, to, fits) in [
        ("in", "top", true),
        ("a/up", "../top", true),
        ("a/b/upup", "../../top", true),
        ("a/over", "../../top", false),
        ("abs", "/etc/passwd", false),
        ("dotdot", "..", false),
        ("a/sly", "b/../../../etc", false),
    ] {
        let path = dir.path().join(link);
        symlink(to, &path).unwrap();
        let got = pack_in(&dir);
        assert_eq!(got.is_ok(), fits, "{link} → {to}");
        if let Err(error) = got {
            assert!(matches!(error, ContextFault::LinkLeaves { .. }), "{error}");
        }
        fs::remove_file(path).unwrap();
    }
    symlink("/etc/hostname", dir.path().join("Linkfile")).unwrap();
    let got = pack(dir.path(), "Linkfile", &Limits::default());
    assert!(matches!(got, Err(ContextFault::Io { .. })), "a Dockerfile elsewhere: {got:?}");
    symlink("/etc", dir.path().join("etc")).unwrap();
    let got = pack(dir.path(), "etc/hostname", &Limits::default());
    assert!(matches!(got, Err(ContextFault::Io { .. })), "through a folder elsewhere: {got:?}");
    for path in ["../Dockerfile", "/etc/hostname", "", "a/../../x"] {
        let got = pack(dir.path(), path, &Limits::default());
        assert!(matches!(got, Err(ContextFault::Path { .. })), "{path}: {got:?}");
    }
}

#[test]
fn special_files_and_too_much_are_refused() {
    let dir = folder(&[("a", "1234567890")]);
    let small = |limits| pack(dir.path(), "Dockerfile", &limits);
    let few = Limits { context_entries: 1, ..Limits::default() };
    assert!(matches!(small(few), Err(ContextFault::TooMuch { max: 1, .. })));
    let short = Limits { context_bytes: 2048, ..Limits::default() };
    assert!(matches!(small(short), Err(ContextFault::TooMuch { max: 2048, .. })));
    nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    assert!(matches!(pack_in(&dir), Err(ContextFault::Special { .. })));
    fs::remove_file(dir.path().join("pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    assert!(matches!(pack_in(&dir), Err(ContextFault::Special { .. })));
    fs::remove_file(dir.path().join("s")).unwrap();
    fs::write(dir.path().join(".dockerignore"), "[").unwrap();
    assert!(matches!(pack_in(&dir), Err(ContextFault::Text { .. })));
    fs::write(dir.path().join(".dockerignore"), "").unwrap();
    let deep: String = "d/".repeat(MAX_DEPTH + 2);
    fs::create_dir_all(dir.path().join(deep)).unwrap();
    assert!(matches!(pack_in(&dir), Err(ContextFault::Name { .. })));
}
