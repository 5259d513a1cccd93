//! `Range` of a download and `Content-Range` of an upload, as pure functions of their text.

/// What a `Range` header asks of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, or one in a form that is not served (several ranges, another unit),
    /// which RFC 9110 lets a server ignore.
    All,
    /// These bytes: the first, and one past the last. Never empty, never past the end.
    Part {
        /// Offset of the first byte.
        start: u64,
        /// Offset after the last byte.
        end: u64,
    },
    /// Nothing of the blob lies in the range: 416.
    Unsatisfiable,
}

/// Reads a `Range` header against a blob of `size` bytes (RFC 9110 section 14.1.2).
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::All };
    let (first, last) = (first.trim(), last.trim());
    let part = match (number(first), number(last)) {
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.is_empty() => (start, size),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Wanted::All,
    };
    if part.0 < part.1 {
        Wanted::Part { start: part.0, end: part.1 }
    } else {
        Wanted::Unsatisfiable
    }
}

/// Reads the `Content-Range` of an upload's chunk: `first-last`, both included, optionally with
/// the unit and total of RFC 9110 (`bytes 0-99/*`), which some clients add. Gives the first offset
/// and the length; `None` when it is not of that form.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec.strip_prefix("bytes ").or_else(|| spec.strip_prefix("bytes=")).unwrap_or(spec);
    let spec = spec.split_once('/').map_or(spec, |(range, _)| range);
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let length = last.checked_sub(first)?.checked_add(1)?;
    Some((first, length))
}

/// Digits only: `parse` alone would also take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.bytes().any(|b| !b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let part = |start, end| Wanted::Part { start, end };
        for (header, size, want) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-9", 10, part(0, 10)),
            ("bytes=5-", 10, part(5, 10)),
            ("bytes=5-99", 10, part(5, 10)),
            ("bytes=-3", 10, part(7, 10)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=10-12", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=0-18446744073709551615", 10, part(0, 10)),
            ("bytes=3-2", 10, Wanted::All),
            ("bytes=0-1,3-4", 10, Wanted::All),
            ("bytes=-", 10, Wanted::All),
            ("bytes=+1-2", 10, Wanted::All),
            ("lines=0-1", 10, Wanted::All),
            ("bytes=99999999999999999999-", 10, Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), size), want, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
    }

    #[test]
    fn chunks() {
        assert_eq!(chunk("0-99"), Some((0, 100)));
        assert_eq!(chunk("100-100"), Some((100, 1)));
        assert_eq!(chunk("bytes 0-99/*"), Some((0, 100)));
        assert_eq!(chunk("bytes 0-99/100"), Some((0, 100)));
        for bad in
            ["", "-", "0", "5-4", "0-", "-4", "a-b", "0-18446744073709551615", "+0-1", " 1 - 2"]
        {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_inside(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..1000) {
            if let Wanted::Part { start, end } = wanted(Some(&header), size) {
                prop_assert!(start < end && end <= size);
            }
        }

        #[test]
        fn chunk_round_trip(first in 0u64..1 << 40, length in 1u64..1 << 40) {
            prop_assert_eq!(chunk(&format!("{first}-{}", first + length - 1)), Some((first, length)));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}", size in any::<u64>()) {
            let _ = (wanted(Some(&text), size), chunk(&text));
        }
    }
}
