//! Which crates a program is made of, by its own word: the section `.dep-v0` of an ELF file.
//!
//! Source: cargo-auditable's format (zlib over JSON, `PARSING.md`), ELF-64 (System V ABI, chapter
//! 4). The binary is the operator's, but it is read as if it were not: nothing in it is executed,
//! and every offset and length is bounded.

use std::{io::Read as _, ops::Range};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// The section's name.
const SECTION: &[u8] = b".dep-v0";
/// Most sections looked at; programs have some forty.
const MAX_SECTIONS: u16 = 1024;
/// Largest list before unpacking, and after (bytes). A thousand crates take 100 KB.
const MAX_PACKED: usize = 1024 * 1024;
const MAX_UNPACKED: u64 = 8 * 1024 * 1024;
/// Most crates in a list.
const MAX_CRATES: usize = 10_000;
/// Size of a section header.
const HEADER: usize = 64;

/// A crate in a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `registry`, `local`, `git` or another word for where it is from.
    pub source: String,
    /// `build` where it helped to build and is not in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The crates it uses, by their place in the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<usize>,
    /// Whether it is the program itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
}

impl Crate {
    /// Whether it is in the program, and did not only help to build it.
    pub fn is_linked(&self) -> bool {
        self.kind.as_deref() != Some("build")
    }
}

#[derive(Deserialize)]
struct List {
    packages: Vec<Crate>,
}

/// The crates of a program; none where it does not say: it is no ELF file, or has no such section.
///
/// # Errors
/// When there is such a section and it cannot be used.
pub fn of(binary: &[u8]) -> anyhow::Result<Vec<Crate>> {
    let Some(packed) = section(binary) else { return Ok(Vec::new()) };
    parse(packed).context("its list of crates (.dep-v0) cannot be used")
}

fn parse(packed: &[u8]) -> anyhow::Result<Vec<Crate>> {
    ensure!(packed.len() <= MAX_PACKED, "{} bytes, at most {MAX_PACKED}", packed.len());
    let mut text = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(packed).take(MAX_UNPACKED + 1);
    reader.read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= MAX_UNPACKED, "unpacks to more than {MAX_UNPACKED} bytes");
    let list: List = serde_json::from_slice(&text)?;
    let crates = list.packages;
    ensure!(crates.len() <= MAX_CRATES, "{} crates, at most {MAX_CRATES}", crates.len());
    if crates.iter().flat_map(|one| &one.dependencies).any(|place| *place >= crates.len()) {
        bail!("a crate uses one that is not on the list");
    }
    Ok(crates)
}

/// The bytes of the section.
fn section(elf: &[u8]) -> Option<&[u8]> {
    // 64 bit, little-endian: what cars are.
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |bytes: &[u8], at: Range<usize>| -> Option<usize> {
        let mut wide = [0; 8];
        let found = bytes.get(at)?;
        wide[..found.len()].copy_from_slice(found);
        usize::try_from(u64::from_le_bytes(wide)).ok()
    };
    let (table, count) = (number(elf, 0x28..0x30)?, number(elf, 0x3c..0x3e)?);
    let (size, names) = (number(elf, 0x3a..0x3c)?, number(elf, 0x3e..0x40)?);
    if size != HEADER || count > usize::from(MAX_SECTIONS) {
        return None;
    }
    let header =
        |place: usize| elf.get(table.checked_add(place.checked_mul(HEADER)?)?..)?.get(..HEADER);
    let content = |header: &[u8]| {
        let start = number(header, 24..32)?;
        elf.get(start..start.checked_add(number(header, 32..40)?)?)
    };
    let names = content(header(names)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let name = names.get(number(header, 0..4)?..)?;
        let matches = name.starts_with(SECTION) && name.get(SECTION.len()) == Some(&0);
        matches.then(|| content(header)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn zlib(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    /// An ELF file of three sections: none, names, the list.
    fn elf(list: &[u8]) -> Vec<u8> {
        let names = b"\0.dep-v0\0.shstrtab\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let at = |file: &mut Vec<u8>, place: usize, value: usize| {
            file[place..place + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        };
        file.extend_from_slice(names);
        let start = file.len();
        file.extend_from_slice(list);
        let table = file.len();
        at(&mut file, 0x28, table);
        file[0x3a] = 64;
        file[0x3c] = 3;
        file[0x3e] = 1;
        file.resize(table + 3 * 64, 0);
        for (number, name, from, size) in [(1, 9, 64, names.len()), (2, 1, start, list.len())] {
            at(&mut file, table + number * 64, name);
            at(&mut file, table + number * 64 + 24, from);
            at(&mut file, table + number * 64 + 32, size);
        }
        file
    }

    const LIST: &str = r#"{"packages":[
        {"name":"a","version":"1.0.0","source":"local","root":true,"dependencies":[1]},
        {"name":"b","version":"2.0.0","source":"registry"},
        {"name":"c","version":"3.0.0","source":"registry","kind":"build"}]}"#;

    #[test]
    fn a_programs_list_is_read() {
        let crates = of(&elf(&zlib(LIST))).unwrap();
        let names: Vec<&str> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(crates[0].root && crates[1].is_linked() && !crates[2].is_linked());
        assert_eq!(of(b"#!/bin/sh\n").unwrap(), []);
        assert_eq!(of(&elf(b"")[..64]).unwrap(), [], "cut short");
    }

    #[test]
    fn lists_that_cannot_be_right_are_refused() {
        let bomb = zlib(&" ".repeat(9 << 20));
        let dangling = zlib(&LIST.replace("[1]", "[7]"));
        let many = vec![0; MAX_PACKED + 1];
        for (list, want) in [
            (&bomb, "unpacks"),
            (&dangling, "not on the list"),
            (&many, "at most"),
            (&zlib("{}"), "packages"),
            (&b"no zlib".to_vec(), "cannot be used"),
        ] {
            let error = format!("{:#}", of(&elf(list)).unwrap_err());
            assert!(error.contains(want), "{want}: {error}");
        }
    }

    /// Whatever the bytes are: an answer or an error, and soon.
    #[test]
    fn damaged_files_do_no_harm() {
        let good = elf(&zlib(LIST));
        for place in 0..good.len() {
            for bits in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[place] ^= bits;
                let _ = of(&bad);
            }
        }
    }
}
