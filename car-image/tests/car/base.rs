//! The base image's recipe: exactly what the lock says, or nothing.
//!
//! Each test works on a copy of the recipe with the downloads that `make base` left, so that no
//! network is needed; only amd64, which is half the work of both.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the recipe, with its cache.
struct Recipe(tempfile::TempDir);

impl Recipe {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dir = tempfile::tempdir().unwrap();
        let recipe = Self(dir);
        for name in ["scripts/base.py", "pipelines/base.lock.yaml"] {
            let copy = recipe.path(name);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(root.join(name), copy).unwrap();
        }
        let cache = root.join("target/base/cache");
        let entries = fs::read_dir(&cache);
        let entries =
            entries.unwrap_or_else(|e| panic!("{}: {e}; run `make base`", cache.display()));
        fs::create_dir_all(recipe.path("target/base/cache")).unwrap();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text.contains("amd64.deb") || text.contains("x86_64.whl") {
                let copy = recipe.path("target/base/cache").join(&name);
                // The recipe never writes into a download; a test that does takes a copy first.
                if fs::hard_link(entry.path(), &copy).is_err() {
                    fs::copy(entry.path(), copy).unwrap();
                }
            }
        }
        recipe
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs it; with its downloads there, it asks the network for nothing.
    fn make(&self) -> (bool, String) {
        let done = Command::new("python3")
            .arg(self.path("scripts/base.py"))
            .args(["--only", "amd64"])
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    }

    fn cached(&self, prefix: &str) -> PathBuf {
        let entries = fs::read_dir(self.path("target/base/cache")).unwrap().flatten();
        let found = entries.map(|e| e.path()).find(|p| {
            let name = p.file_name().unwrap().to_string_lossy();
            name.starts_with(prefix) && (name.contains("amd64") || name.contains("x86_64"))
        });
        found.unwrap_or_else(|| panic!("{prefix} is not in the cache; run `make base`"))
    }

    fn edit_lock(&self, from: &str, to: &str) {
        let path = self.path("pipelines/base.lock.yaml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

fn everything_below(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        out.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            everything_below(&entry.path(), out);
        }
    }
}

#[test]
fn the_base_holds_what_a_car_needs_and_nothing_is_writable_by_others() {
    let recipe = Recipe::new();
    let (ok, talk) = recipe.make();
    assert!(ok, "{talk}");
    let rootfs = recipe.path("target/base/rootfs/amd64");
    for name in ["lib64/ld-linux-x86-64.so.2", "usr/lib/libonnxruntime.so.1", "etc/passwd", "tmp"] {
        assert!(rootfs.join(name).exists(), "{name}");
    }
    assert!(fs::read_to_string(rootfs.join("etc/passwd")).unwrap().contains(":65532:65532:"));
    let mut all = Vec::new();
    everything_below(&rootfs, &mut all);
    let libraries = all.iter().filter(|p| p.to_string_lossy().contains(".so.")).count();
    assert_eq!(libraries, 9, "the loader, seven libraries, ONNX Runtime");
    for path in all {
        let kind = fs::symlink_metadata(&path).unwrap();
        assert!(!kind.file_type().is_symlink(), "{}", path.display());
        let mode = kind.permissions().mode() & 0o7777;
        assert!(mode == 0o755 || mode == 0o644, "{}: {mode:o}", path.display());
    }

    // What was changed, removed or added afterwards is noticed and mended.
    let library = rootfs.join("usr/lib/libonnxruntime.so.1");
    let good = fs::read(&library).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&library, bad).unwrap();
    fs::remove_file(rootfs.join("etc/group")).unwrap();
    fs::write(rootfs.join("usr/lib/more.so"), "").unwrap();
    let (ok, talk) = recipe.make();
    assert!(ok, "{talk}");
    assert!(fs::read(&library).unwrap() == good && rootfs.join("etc/group").exists());
    assert!(!rootfs.join("usr/lib/more.so").exists());
    let (ok, talk) = recipe.make();
    assert!(ok && talk.contains("complete, every file as the lock says"), "{talk}");
}

#[test]
fn a_download_with_another_hash_is_not_used() {
    for prefix in ["libc6_", "onnxruntime-"] {
        let recipe = Recipe::new();
        let path = recipe.cached(prefix);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let (ok, talk) = recipe.make();
        assert!(!ok && talk.contains("not used, and removed"), "{talk}");
        assert!(!path.exists() && !recipe.path("target/base/rootfs/amd64").exists());
    }
}

#[test]
fn a_lock_that_says_something_else_is_refused() {
    let recipe = Recipe::new();
    recipe.edit_lock("\"take\": \"usr/lib/os-release\"", "\"take\": \"usr/lib/no-release\"");
    let (ok, talk) = recipe.make();
    assert!(!ok && talk.contains("has no usr/lib/no-release"), "{talk}");

    let recipe = Recipe::new();
    let lock = fs::read_to_string(recipe.path("pipelines/base.lock.yaml")).unwrap();
    let file = lock.split("\"path\": \"usr/lib/os-release\"").nth(1).unwrap();
    let hash = file.split('"').nth(3).unwrap().to_owned();
    assert_eq!(hash.len(), 64);
    recipe.edit_lock(&hash, &"0".repeat(64));
    let (ok, talk) = recipe.make();
    assert!(!ok && talk.contains("usr/lib/os-release: sha256 is"), "{talk}");

    let recipe = Recipe::new();
    recipe.edit_lock("\"path\": \"usr/lib/os-release\"", "\"path\": \"../os-release\"");
    let (ok, talk) = recipe.make();
    assert!(!ok && talk.contains("leaves the root file system"), "{talk}");
}
