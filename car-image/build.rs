//! Puts the list of crates that the program is made of into the program itself, so that whoever
//! has the binary can say what is in it: the SBOM of a release is read from it.
//!
//! The list is a section `.dep-v0` in cargo-auditable's format (zlib over JSON, its
//! `PARSING.md`), which scanners of others read as well. It depends on the lock and the target
//! alone, so the same sources give the same bytes. The section comes from an object file that the
//! linker's own driver assembles: placing it from Rust would take `unsafe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// The symbol that keeps the section when the linker drops what nobody uses.
const SYMBOL: &str = "PITLANE_CRATES";

/// A crate: name, version.
type Name = (String, String);

#[derive(Default)]
struct Crate {
    /// Where it comes from: `registry`, `git`, `local`.
    source: &'static str,
    proc_macro: bool,
    uses: BTreeSet<Name>,
}

fn main() {
    for file in ["build.rs", "Cargo.toml", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    // Other systems' objects and linkers are other; no car runs them.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    if let Err(why) = embed() {
        println!("cargo::warning=the program will not list its crates, nor will SBOMs: {why}");
    }
}

fn embed() -> Result<(), String> {
    let listed = run(Command::new(var("CARGO")?).args([
        "tree",
        "--package=pitlane-car",
        "--edges=normal",
        "--prefix=depth",
        "--format={p}",
        "--offline",
        "--locked",
        "--target",
        &var("TARGET")?,
    ]))?;
    let (root, crates) = parse(&listed)?;
    let out = var("OUT_DIR")?;
    let [list, source, object] =
        ["crates.z", "crates.S", "crates.o"].map(|n| Path::new(&out).join(n));
    let fail = |error: std::io::Error| format!("{out}: {error}");
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(json(&root, &crates).as_bytes()).map_err(fail)?;
    fs::write(&list, zlib.finish().map_err(fail)?).map_err(fail)?;
    // Allocated, so that stripping leaves it; the file is found by -I, so that no path of this
    // machine gets into the object.
    let text = format!(
        ".section .dep-v0,\"a\"\n.globl {SYMBOL}\n{SYMBOL}:\n.incbin \"crates.z\"\n\
         .section .note.GNU-stack,\"\"\n"
    );
    fs::write(&source, text).map_err(fail)?;
    let driver = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".into());
    let include = format!("-Wa,-I{out}");
    let mut assemble = Command::new(driver);
    run(assemble.arg(include).arg("-c").arg(&source).arg("-o").arg(&object))?;
    println!("cargo::rustc-link-arg-bins={}", object.display());
    println!("cargo::rustc-link-arg-bins=-Wl,--undefined={SYMBOL}");
    Ok(())
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

fn run(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{command:?}: {error}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{command:?}: {}", said.lines().next().unwrap_or("failed")));
    }
    String::from_utf8(done.stdout).map_err(|_| "cargo's answer is not UTF-8".into())
}

/// Lines such as `2serde v1.0.0` and `1derive v1.0.0 (proc-macro) (*)`: depth, name, version.
fn parse(tree: &str) -> Result<(Name, BTreeMap<Name, Crate>), String> {
    let mut crates: BTreeMap<Name, Crate> = BTreeMap::new();
    let mut above: Vec<Name> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let mut words = line[digits..].split(' ');
        let (Ok(depth), Some(name), Some(version)) =
            (line[..digits].parse::<usize>(), words.next(), words.next())
        else {
            return Err(format!("cargo tree printed `{line}`"));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        if depth > above.len() || !(name.to_owned() + version).chars().all(plain) {
            return Err(format!("cargo tree printed `{line}`"));
        }
        let found: Name = (name.into(), version.trim_start_matches('v').into());
        above.truncate(depth);
        if let Some(parent) = above.last() {
            crates.entry(parent.clone()).or_default().uses.insert(found.clone());
        }
        let entry = crates.entry(found.clone()).or_default();
        entry.proc_macro |= line.contains("(proc-macro)");
        // In brackets: a URL for git, a path for this workspace, nothing for the registry.
        entry.source = match line {
            line if line.contains("://") => "git",
            line if line.contains("(/") => "local",
            _ => "registry",
        };
        above.push(found);
    }
    let root = above.first().cloned().ok_or("cargo tree printed nothing")?;
    Ok((root, crates))
}

/// What ends up in the program: everything that is reached without passing a procedural macro.
fn linked(root: &Name, crates: &BTreeMap<Name, Crate>) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let mut todo = vec![root.clone()];
    while let Some(name) = todo.pop() {
        let Some(one) = crates.get(&name).filter(|one| !one.proc_macro) else { continue };
        if found.insert(name) {
            todo.extend(one.uses.iter().cloned());
        }
    }
    found
}

fn json(root: &Name, crates: &BTreeMap<Name, Crate>) -> String {
    let linked = linked(root, crates);
    let place = |wanted: &Name| crates.keys().position(|name| name == wanted).unwrap_or(0);
    let mut text = String::from("{\"packages\":[");
    for (number, (name, one)) in crates.iter().enumerate() {
        let source = one.source;
        let comma = if number == 0 { "" } else { "," };
        let (title, version) = name;
        let _ = write!(
            text,
            "{comma}{{\"name\":\"{title}\",\"version\":\"{version}\",\"source\":\"{source}\""
        );
        if !linked.contains(name) {
            text.push_str(",\"kind\":\"build\"");
        }
        if !one.uses.is_empty() {
            let uses: Vec<String> = one.uses.iter().map(|name| place(name).to_string()).collect();
            let _ = write!(text, ",\"dependencies\":[{}]", uses.join(","));
        }
        if name == root {
            text.push_str(",\"root\":true");
        }
        text.push('}');
    }
    text.push_str("]}");
    text
}
