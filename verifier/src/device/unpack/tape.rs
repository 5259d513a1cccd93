//! The tar stream of a layer, read block by block.
//!
//! One parser decides where an entry begins and how long it is, so that the well-known desync
//! (a pax `size` that one reader honours and another ignores) has no second opinion to exploit:
//! a `size` record must repeat what the header says. Kinds are an allow-list; extensions that a
//! car image never needs (sparse files, multi-volume) are refused by name. Extension bodies are
//! bounded, because they are held in memory.
//!
//! Source: POSIX.1-2017 pax, GNU tar manual; the header fields are decoded by the `tar` crate.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::{Fail, Rule};

const BLOCK: usize = 512;
/// Largest extension body (long name, pax header): a path and some attributes.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// The kinds of entries that are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    HardLink,
}

/// One entry: its header and the extensions before it, decoded.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of content that follow; 0 unless a file.
    pub(super) size: u64,
    /// Permission bits as written, with setuid and the like.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: i64,
}

/// What extension headers say about the entry after them.
#[derive(Clone, Debug, Default)]
struct Extra {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    seen: [bool; 3],
}

/// Reads entries from an uncompressed tar stream.
pub(super) struct Tape<R> {
    inner: R,
    /// Content and padding of the current entry not yet read.
    left: u64,
    padding: u64,
    headers: u64,
    max_headers: u64,
    /// Name of the entry last begun, for errors.
    pub(super) at: Option<String>,
}

impl<R: Read> Tape<R> {
    /// `max_headers` counts entries and extensions together.
    pub(super) fn new(inner: R, max_headers: u64) -> Self {
        Self { inner, left: 0, padding: 0, headers: 0, max_headers, at: None }
    }

    /// Headers read so far.
    pub(super) const fn headers(&self) -> u64 {
        self.headers
    }

    /// The next entry; `None` after the end marker, when nothing but zeros followed it.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fail> {
        self.skip()?;
        let mut extra = Extra::default();
        loop {
            let mut block = [0; BLOCK];
            self.exact(&mut block, "in a header, or without an end marker")?;
            if block.iter().all(|b| *b == 0) {
                if extra.seen.contains(&true) {
                    return Err(
                        Rule::Header("an extension header belongs to no entry".into()).into()
                    );
                }
                return self.end().map(|()| None);
            }
            self.headers += 1;
            if self.headers > self.max_headers {
                return Err(Rule::TooManyEntries(self.max_headers).into());
            }
            let header = Header::from_byte_slice(&block);
            let bad = |what: &str| Fail::from(Rule::Header(what.into()));
            let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum();
            if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
                return Err(bad("its checksum is wrong"));
            }
            let size = header.entry_size().map_err(|_| bad("its size is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    let body = self.extension(size, &mut extra, 0)?;
                    extra.name.get_or_insert(until_nul(body));
                }
                EntryType::GNULongLink => {
                    let body = self.extension(size, &mut extra, 1)?;
                    extra.link.get_or_insert(until_nul(body));
                }
                EntryType::XHeader => {
                    let body = self.extension(size, &mut extra, 2)?;
                    pax(&body, &mut extra)?;
                }
                EntryType::XGlobalHeader => {
                    // Git archives carry a comment here. Anything else would change later
                    // entries from afar.
                    let body = self.body(size)?;
                    if records(&body).any(|r| !r.is_ok_and(|(key, _)| key == b"comment")) {
                        return Err(
                            Rule::Pax("a global header may carry a comment only".into()).into()
                        );
                    }
                }
                _ => return self.entry(header, size, extra).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extra: Extra) -> Result<Entry, Fail> {
        let name = extra.name.unwrap_or_else(|| header.path_bytes().into_owned());
        self.at = Some(super::shown(&name));
        let link = extra
            .link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let kind = match header.entry_type() {
            // Before POSIX a directory was a file whose name ends in a slash.
            EntryType::Regular if name.ends_with(b"/") => Kind::Dir,
            EntryType::Regular => Kind::File,
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Block => return Err(Rule::Kind("block device").into()),
            EntryType::Char => return Err(Rule::Kind("character device").into()),
            EntryType::Fifo => return Err(Rule::Kind("named pipe").into()),
            EntryType::GNUSparse => return Err(Rule::Kind("sparse file").into()),
            _ => return Err(Rule::Kind("entry of an unknown type").into()),
        };
        if extra.size.is_some_and(|pax| pax != size) {
            return Err(Rule::Pax("its size differs from the header's".into()).into());
        }
        if kind != Kind::File && size != 0 {
            return Err(Rule::Header("content behind an entry that has none".into()).into());
        }
        let number = |n: io::Result<u64>, what: &str| {
            n.ok()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| Fail::from(Rule::Header(format!("its {what} is no number"))))
        };
        self.left = size;
        self.padding = padding(size);
        Ok(Entry {
            name,
            link,
            kind,
            size,
            mode: header.mode().map_err(|_| Rule::Header("its mode is no number".into()))?,
            uid: extra.uid.map_or_else(|| number(header.uid(), "owner"), Ok)?,
            gid: extra.gid.map_or_else(|| number(header.gid(), "group"), Ok)?,
            mtime: header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0),
        })
    }

    /// Copies the content of the current entry.
    pub(super) fn copy(&mut self, out: &mut impl Write, buffer: &mut [u8]) -> Result<(), Fail> {
        while self.left > 0 {
            let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let n = match self.inner.read(&mut buffer[..want]) {
                Ok(0) => return Err(Rule::Truncated("in a file").into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fail::stream(error)),
            };
            out.write_all(&buffer[..n]).map_err(|e| Fail::io("cannot write", e))?;
            self.left -= n as u64;
        }
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Fail> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let n = io::copy(&mut Read::by_ref(&mut self.inner).take(rest), &mut io::sink())
            .map_err(Fail::stream)?;
        if n < rest {
            return Err(Rule::Truncated("in a file").into());
        }
        Ok(())
    }

    /// After the first zero block only zeros may follow: the second marker block and padding.
    fn end(&mut self) -> Result<(), Fail> {
        self.at = None;
        let mut buffer = [0; 4096];
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if buffer[..n].iter().all(|b| *b == 0) => {}
                Ok(_) => return Err(Rule::Trailing.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fail::stream(error)),
            }
        }
    }

    fn extension(&mut self, size: u64, extra: &mut Extra, which: usize) -> Result<Vec<u8>, Fail> {
        if std::mem::replace(&mut extra.seen[which], true) {
            return Err(Rule::Header("two extensions of one kind before one entry".into()).into());
        }
        self.body(size)
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>, Fail> {
        if size > MAX_EXTENSION {
            return Err(Rule::Header(format!("an extension of {size} bytes")).into());
        }
        let mut body = vec![0; usize::try_from(size + padding(size)).unwrap_or(0)];
        self.exact(&mut body, "in an extension")?;
        body.truncate(usize::try_from(size).unwrap_or(0));
        Ok(body)
    }

    fn exact(&mut self, buffer: &mut [u8], place: &'static str) -> Result<(), Fail> {
        self.inner.read_exact(buffer).map_err(|error| match error.kind() {
            // The stream's own errors (limits, bad compression) carry a rule; a plain end is ours.
            io::ErrorKind::UnexpectedEof if error.get_ref().is_none_or(|e| !e.is::<Rule>()) => {
                Rule::Truncated(place).into()
            }
            _ => Fail::stream(error),
        })
    }
}

const fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    // GNU tar ends long names with a NUL; one further in stays and is refused with the name.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

type Record<'b> = Result<(&'b [u8], &'b [u8]), Rule>;

/// The records of a pax header: `LENGTH KEY=VALUE\n`, where the length counts the whole record.
fn records(body: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = (|| {
            let space = rest.iter().take(8).position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|b| *b == b'=')?;
            rest = &rest[length..];
            Some((&record[..equals], &record[equals + 1..]))
        })();
        if record.is_none() {
            rest = &[];
        }
        Some(record.ok_or_else(|| Rule::Pax("a record is malformed".into())))
    })
}

fn pax(body: &[u8], extra: &mut Extra) -> Result<(), Rule> {
    fn number<N: std::str::FromStr>(value: &[u8]) -> Result<N, Rule> {
        let text =
            std::str::from_utf8(value).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        text.and_then(|t| t.parse().ok()).ok_or_else(|| Rule::Pax("a number is malformed".into()))
    }
    for record in records(body) {
        let (key, value) = record?;
        match key {
            b"path" => extra.name = Some(value.to_vec()),
            b"linkpath" => extra.link = Some(value.to_vec()),
            b"size" => extra.size = Some(number(value)?),
            b"uid" => extra.uid = Some(number(value)?),
            b"gid" => extra.gid = Some(number(value)?),
            _ if key.starts_with(b"GNU.sparse.") => return Err(Rule::Kind("sparse file")),
            // Times to the nanosecond, names of owners, attributes and capabilities: not used,
            // the last two on purpose.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_count_their_own_length() {
        let all = |body: &[u8]| records(body).map(|r| r.map(|(k, _)| k.len())).collect::<Vec<_>>();
        assert_eq!(all(b"12 path=abc\n11 uid=100\n"), [Ok(4), Ok(3)]);
        for bad in [
            &b"13 path=abc\n"[..],
            b"11 path=abc\n",
            b"99999999 a=b\n",
            b"-2 a=b\n",
            b"4 a\n",
            b"a=b\n",
            b"1 a=b\n",
        ] {
            assert!(all(bad).contains(&Err(Rule::Pax("a record is malformed".into()))), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_blocks_never_panic(mut bytes in proptest::collection::vec(0_u8..=255, 0..2048), fix: bool) {
            if fix && bytes.len() >= 512 {
                let mut header = Header::new_gnu();
                header.as_mut_bytes().copy_from_slice(&bytes[..512]);
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            let mut tape = Tape::new(&bytes[..], 100);
            while let Ok(Some(_)) = tape.next() {}
        }
    }
}
