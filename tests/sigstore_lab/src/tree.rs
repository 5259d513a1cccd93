//! A Merkle tree (RFC 6962, 2.1), and the signed note of its state (C2SP tlog-checkpoint).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};

/// Entries that are there before the first, so that every proof has hashes.
const BEFORE: usize = 5;

/// A hash.
pub(crate) type Hash = [u8; 32];

/// A tree, as the hashes of its leaves.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Hash>);

/// An entry's place in the tree, with its proof.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) size: usize,
    pub(crate) root: Hash,
    pub(crate) path: Vec<Hash>,
}

impl Tree {
    /// A tree with some entries of nobody.
    pub(crate) fn new() -> Self {
        let filled = (0..BEFORE).map(|_| {
            let mut leaf = [0; 32];
            OsRng.fill_bytes(&mut leaf);
            leaf
        });
        Self(filled.collect())
    }

    /// Appends an entry.
    pub(crate) fn append(&mut self, entry: &[u8]) -> Place {
        let index = self.0.len();
        self.0.push(Sha256::new().chain_update([0]).chain_update(entry).finalize().into());
        let (size, root) = (self.0.len(), root(&self.0));
        Place { index, size, root, path: path(index, &self.0) }
    }
}

impl Place {
    /// The text of a checkpoint, which the log signs.
    pub(crate) fn checkpoint(&self, origin: &str) -> String {
        format!("{origin}\n{}\n{}\n", self.size, STANDARD.encode(self.root))
    }
}

/// A signed note: text, blank line, signature with the first bytes of its key's id.
pub(crate) fn note(text: &str, name: &str, key_id: &[u8], signature: &[u8]) -> String {
    let signature = STANDARD.encode([&key_id[..4], signature].concat());
    format!("{text}\n\u{2014} {name} {signature}\n")
}

/// The largest power of two below a length.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            let both = Sha256::new().chain_update([1]).chain_update(root(left));
            both.chain_update(root(right)).finalize().into()
        }
    }
}

fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = match index.checked_sub(left.len()) {
        None => (path(index, left), root(right)),
        Some(index) => (path(index, right), root(left)),
    };
    path.push(sibling);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known roots of the reference implementation's first test entries.
    #[test]
    fn roots_are_those_of_the_reference() {
        let entries: [&[u8]; 4] = [b"", b"\x00", b"\x10", b"\x20\x21"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        let mut tree = Tree(Vec::new());
        for (entry, want) in entries.into_iter().zip(roots) {
            let root = tree.append(entry).root;
            assert_eq!(hex::encode(root), want);
        }
    }
}
