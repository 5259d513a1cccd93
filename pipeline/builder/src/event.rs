//! What a build says while it runs. What the Dockerfile's programs print is a stranger's text: it is
//! cut to size and cleared of control characters before anybody sees it.

use pitlane_release::Digest;
use serde::Serialize;

/// Longest line that is passed on, in bytes.
const MAX_LINE: usize = 4096;
/// Longest text of an error, in bytes.
const MAX_MESSAGE: usize = 2000;

/// A piece of progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// The context was packed; it is sent now.
    Packed {
        /// Bytes of the archive.
        bytes: u64,
        /// Files, folders and links in it.
        entries: u64,
        /// Digest of the archive: the same files give the same.
        digest: Digest,
    },
    /// A step began.
    Step {
        /// The instruction, as the engine shows it.
        text: String,
    },
    /// A line of output.
    Log {
        /// The line.
        text: String,
    },
    /// The log is full; what follows is not passed on. Steps still are.
    LogCut {
        /// The limit, in bytes.
        max: u64,
    },
    /// The image is there and is read back.
    Saving {
        /// What the engine calls it.
        image: String,
    },
}

/// Passes events on, as long as the log has room.
pub(crate) struct Events<'a> {
    sink: &'a mut (dyn FnMut(Event) + Send),
    left: u64,
    max: u64,
    cut: bool,
    partial: String,
}

impl<'a> Events<'a> {
    pub(crate) fn new(sink: &'a mut (dyn FnMut(Event) + Send), max: u64) -> Self {
        Self { sink, left: max, max, cut: false, partial: String::new() }
    }

    pub(crate) fn say(&mut self, event: Event) {
        (self.sink)(event);
    }

    /// A step; counts like a line of the log, so that ten thousand steps are bounded, too.
    pub(crate) fn step(&mut self, text: &str) {
        self.flush();
        let text = clean(text, MAX_LINE);
        if self.room(text.len()) {
            (self.sink)(Event::Step { text });
        }
    }

    /// Output as it comes, in pieces of any size.
    pub(crate) fn output(&mut self, text: &str) {
        if self.cut {
            return;
        }
        for piece in text.split_inclusive(['\n', '\r']) {
            if self.partial.len() < MAX_LINE {
                self.partial.push_str(piece.get(..MAX_LINE).unwrap_or(piece));
            }
            if piece.ends_with(['\n', '\r']) {
                self.flush();
            }
        }
    }

    /// Ends a line that has no end.
    pub(crate) fn flush(&mut self) {
        let text = clean(&std::mem::take(&mut self.partial), MAX_LINE);
        if !text.is_empty() && self.room(text.len()) {
            (self.sink)(Event::Log { text });
        }
    }

    fn room(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes as u64) {
            Some(left) if !self.cut => {
                self.left = left;
                true
            }
            _ => {
                if !std::mem::replace(&mut self.cut, true) {
                    (self.sink)(Event::LogCut { max: self.max });
                }
                false
            }
        }
    }
}

/// An engine's error as it may be shown.
pub(crate) fn message(text: &str) -> String {
    clean(text, MAX_MESSAGE)
}

/// A stranger's text as one line: no escapes, no controls, no marks that turn text around.
fn clean(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        let shown = match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() => '\u{fffd}',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c => c,
        };
        if out.len() + shown.len_utf8() > max {
            break;
        }
        out.push(shown);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(max: u64, pieces: &[&str]) -> Vec<Event> {
        let mut all = Vec::new();
        let mut sink = |event| all.push(event);
        let mut events = Events::new(&mut sink, max);
        for piece in pieces {
            events.output(piece);
        }
        events.flush();
        events.step("last");
        all
    }

    #[test]
    fn lines_are_put_together_cleaned_and_counted() {
        let log = |text: &str| Event::Log { text: text.into() };
        let step = Event::Step { text: "last".into() };
        assert_eq!(said(99, &["a", "b\nc\r", "d"]), [log("ab"), log("c"), log("d"), step]);
        assert_eq!(said(99, &["\u{1b}[2Jx\u{202e}\n"])[0], log("\u{fffd}[2Jx\u{fffd}"));
        assert_eq!(said(5, &["aaa\n", "bbb\n", "c\n"]), [log("aaa"), Event::LogCut { max: 5 }]);
        let endless = "x".repeat(3 * MAX_LINE);
        assert_eq!(said(1 << 20, &[&endless])[0], log(&endless[..MAX_LINE]));
    }
}
