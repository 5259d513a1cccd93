//! What the lab can be told to do wrong, request by request.

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and a page of HTML; nothing is done.
    Status(u16),
    /// It is never answered; nothing is done.
    Hangs,
    /// It is done, and the connection ends without an answer.
    Lost,
    /// It is done, and the answer ends in its middle.
    Truncated,
    /// It is done, and the answer does not stop for megabytes.
    Floods,
    /// It is answered with this body and status 200 (201 to a `POST`); nothing is done.
    Says(String),
    /// It is sent elsewhere.
    Redirects(String),
}

/// Which requests a fault is for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method; any when empty.
    pub method: String,
    /// A part of the path.
    pub path: String,
    /// How many matching requests pass first.
    pub skip: usize,
    /// How many matching requests it is done to after that.
    pub times: usize,
    /// What is done.
    pub fault: Fault,
}

impl Rule {
    /// For the next matching request.
    pub fn once(method: &str, path: &str, fault: Fault) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), skip: 0, times: 1, fault }
    }

    /// For all matching requests.
    pub fn always(method: &str, path: &str, fault: Fault) -> Self {
        Self { times: usize::MAX, ..Self::once(method, path, fault) }
    }
}

/// What is to go wrong with this request.
pub(crate) fn due(rules: &mut [Rule], method: &str, path: &str) -> Option<Fault> {
    for rule in rules {
        let meant = (rule.method.is_empty() || rule.method == method) && path.contains(&rule.path);
        if !meant || rule.times == 0 {
            continue;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        rule.times = rule.times.saturating_sub(1);
        return Some(rule.fault.clone());
    }
    None
}
