//! Gates as they run: real programs, well-behaved and not, as plain processes and in the jail.

#[cfg(test)]
mod real {
    mod hostile;
    mod jail;
    mod scanners;
    mod secrets;
    mod support;
}
