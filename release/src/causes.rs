//! What went wrong, with what is below it.

use std::{error::Error, fmt::Write as _};

/// An error's text with those of its causes, the outermost first: clients' own texts often do not
/// say that a connection was refused.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let _ = write!(text, ": {cause}");
        below = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Level(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn every_cause_is_told_in_order() {
        let inner = Level("connection refused", None);
        assert_eq!(causes(&inner), "connection refused");
        let outer = Level("no answer", Some(Box::new(Level("connect", Some(Box::new(inner))))));
        assert_eq!(causes(&outer), "no answer: connect: connection refused");
    }
}
