//! Texts of others, made short and harmless for one line.

/// At most `most` characters on one line; control characters become spaces, what is invisible or
/// turns the direction of writing goes.
pub(crate) fn line(text: &str, most: usize) -> String {
    let hidden = |c: char| {
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    let control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    // One more than wanted, to know whether anything is cut.
    let seen = text.trim().chars().filter(|c| !hidden(*c)).take(most + 1);
    let mut line: String = seen.map(|c| if control(c) { ' ' } else { c }).collect();
    if line.chars().count() > most {
        line = line.chars().take(most.saturating_sub(1)).chain(['…']).collect();
    }
    line
}

/// The end of what a program said: one line of at most `most` characters.
pub(crate) fn tail(bytes: &[u8], most: usize) -> String {
    let from = bytes.len().saturating_sub(most * 4);
    let text = String::from_utf8_lossy(&bytes[from..]);
    let count = text.chars().count();
    let end: String = text.chars().skip(count.saturating_sub(most)).collect();
    line(&end, most)
}
