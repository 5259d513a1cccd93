//! A bounded load on the webhook, for `make bench`: loopback, kept-alive connections, every
//! delivery with an id of its own, every answer checked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::secret::sign;

/// The longest load and the most connections: this is for one machine's loopback.
const MAX_TIME: Duration = Duration::from_mins(1);
const MAX_CONNECTIONS: usize = 256;
/// An answer of the webhook is a few hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// The webhook's listener.
    pub address: SocketAddr,
    /// The shared secret.
    pub secret: Vec<u8>,
    /// A push payload in which `@TAG@` stands for the tag; without it all deliveries repeat one.
    pub body: String,
    /// Connections, 1 to 256.
    pub connections: usize,
    /// For how long, 60 s at most.
    pub time: Duration,
}

/// What came back. Latencies are milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Deliveries answered 202.
    pub accepted: u64,
    /// Any other answer.
    pub other: u64,
    /// Accepted deliveries per second.
    pub rate: f64,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Worst.
    pub max_ms: f64,
}

/// Sends deliveries until the time is over and counts the answers. An `io::Error` says that a
/// connection broke: the load then has no result.
pub async fn bench_webhook(load: Load) -> std::io::Result<LoadReport> {
    let time = load.time.min(MAX_TIME);
    let connections = load.connections.clamp(1, MAX_CONNECTIONS);
    let (load, number) = (Arc::new(load), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (load, number) = (Arc::clone(&load), Arc::clone(&number));
            tokio::spawn(async move { connection(&load, &number, start + time).await })
        })
        .collect();
    let (mut latencies, mut other) = (Vec::new(), 0);
    for task in tasks {
        let (mine, refused) = task.await.map_err(std::io::Error::other)??;
        latencies.extend(mine);
        other += refused;
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: usize| {
        let index = (latencies.len() * part / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    let accepted = latencies.len() as u64;
    let rate = f64::from(u32::try_from(accepted).unwrap_or(u32::MAX)) / elapsed;
    Ok(LoadReport { accepted, other, rate, p50_ms: at(500), p99_ms: at(990), max_ms: at(1000) })
}

/// One connection's accepted latencies in microseconds, and how many answers were others.
async fn connection(
    load: &Load,
    number: &AtomicU64,
    until: Instant,
) -> std::io::Result<(Vec<u32>, u64)> {
    let stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let (mut latencies, mut other) = (Vec::new(), 0);
    let fixed = sign(&load.secret, load.body.as_bytes());
    let varies = load.body.contains("@TAG@");
    while Instant::now() < until {
        let n = number.fetch_add(1, Ordering::Relaxed);
        let tagged = varies.then(|| load.body.replace("@TAG@", &format!("v0.0.{n}")));
        let body = tagged.as_deref().unwrap_or(&load.body);
        let signature = tagged.as_ref().map(|body| sign(&load.secret, body.as_bytes()));
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             X-GitHub-Event: push\r\nX-GitHub-Delivery: bench-{}-{n}\r\n\
             X-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n{body}",
            std::process::id(),
            signature.as_ref().unwrap_or(&fixed),
            body.len(),
        );
        let start = Instant::now();
        stream.get_mut().write_all(request.as_bytes()).await?;
        let status = answer(&mut stream).await?;
        if status == 202 {
            latencies.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
        } else {
            other += 1;
        }
    }
    Ok((latencies, other))
}

/// Reads one answer whole; its status.
async fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<u16> {
    let wrong = |what: &str| std::io::Error::other(format!("the webhook's answer {what}"));
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_ANSWER {
            return Err(wrong("has endless headers"));
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if length > MAX_ANSWER {
        return Err(wrong("is too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    status.ok_or_else(|| wrong("has no status"))
}
