//! Gives the linker the functions that a check runs, so that they lie together in the program:
//! a check then reads a third of the pages (`scripts/order.py` says how the list is made).
//!
//! Only rustc's own linker knows the option, and only where it is the default: on Linux for amd64,
//! with the toolchain that this repository pins. Elsewhere nothing changes.

use std::{env, path::Path, process::Command};

const LIST: &str = "order.txt";
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-changed=build.rs");
    let list = env::var("CARGO_MANIFEST_DIR").map(|dir| Path::new(&dir).join(LIST));
    if let (Ok(list), true) = (list, own_linker())
        && list.is_file()
    {
        println!("cargo:rustc-link-arg-bins=-Wl,--symbol-ordering-file={}", list.display());
        println!("cargo:rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}

/// Whether rustc links with the lld that came with it.
fn own_linker() -> bool {
    let is = |name: &str| env::var(name).is_ok_and(|value| value == TARGET);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = flags.contains("linker") || flags.contains("fuse-ld");
    let chosen = chosen || env::var("RUSTC_LINKER").is_ok();
    if !is("TARGET") || !is("HOST") || chosen {
        return false;
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    sysroot.is_some_and(|sysroot| {
        let lld = format!("{}/lib/rustlib/{TARGET}/bin/gcc-ld/ld.lld", sysroot.trim());
        Path::new(&lld).is_file()
    })
}
