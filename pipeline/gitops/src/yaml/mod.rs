//! YAML as text with places: what is read, where it stands, and the proof that an edit is one.
//!
//! A parser that gives the byte range of every scalar finds the place, the bytes in that range are
//! replaced, and the whole is read again, by events and by values. Nothing is ever printed from a
//! tree, so there is nothing that could be printed differently.

mod at;
mod change;
mod tree;

pub(crate) use at::At;
pub(crate) use change::{Change, apply};
pub(crate) use tree::{Node, Tree};

use crate::EditRefusal;

/// Largest file that is read or edited (bytes).
pub const MAX_FILE: usize = 1024 * 1024;

/// The text of a file of somebody else's repository.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, EditRefusal> {
    if bytes.len() > MAX_FILE {
        return Err(EditRefusal::TooLarge);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(EditRefusal::Encoding("UTF-16 or UTF-32"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| EditRefusal::Encoding("no UTF-8 text"))?;
    if text.contains('\0') {
        return Err(EditRefusal::Encoding("binary"));
    }
    Ok(text)
}
