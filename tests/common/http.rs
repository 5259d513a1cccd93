//! As much of an HTTP client as loopback tests need: one request, one connection.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longest wait for a connection or the next byte.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        super::json(&self.body)
    }
}

/// Sends a request; `None` when nobody answers it whole.
pub(crate) fn send(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let address: SocketAddr = host.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    exchange(&mut stream, method, host, path, headers, body)
}

/// The same over any connection, which ends with the answer.
pub(crate) fn exchange(
    stream: &mut (impl std::io::Read + std::io::Write),
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    stream.flush().ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(!head.contains("transfer-encoding: chunked"), "{path}: chunks are not read here");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_off(end + 4);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if method != "HEAD" && length.is_some_and(|length| length.parse() != Ok(body.len())) {
        return None;
    }
    Some(Answer { status, body })
}

/// A plain GET.
pub(crate) fn get(host: &str, path: &str) -> Option<Answer> {
    send("GET", host, path, &[], b"")
}
