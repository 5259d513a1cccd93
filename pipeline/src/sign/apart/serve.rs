//! The signer's side of the socket: who may connect, how much at once, how fast, how long.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    judge::Allowed,
    wire::{self, Answer, Ask, Code, MAX_REQUEST, Refusal, Request},
};
use crate::sign::Signer;

/// A caller has this long for its request, and this long to take the answer.
const TALK_TIME: Duration = Duration::from_secs(5);
/// Callers at once; each may hold a request in memory, twice.
const CALLERS: usize = 8;
/// A pause after `accept` failed (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Digests of subjects in a line of the log.
const SHOWN: usize = 8;

/// The users that are answered.
pub type Peers = BTreeSet<u32>;

/// How much is answered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests a minute; as many may come at once.
    pub per_minute: u32,
}

/// What each connection is served with.
struct Desk {
    signer: Signer,
    allowed: Allowed,
    budget: Mutex<Budget>,
}

/// Requests that may still come: filled evenly, never above a minute's.
struct Budget {
    per_minute: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    fn new(per_minute: u32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_minute, left: per_minute, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_minute / 60.0).min(self.per_minute);
        self.at = now;
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}

/// Serves until `stop` becomes true. Nothing that a caller does ends it.
pub async fn serve(
    listener: &UnixListener,
    signer: Signer,
    allowed: Allowed,
    peers: Peers,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let budget = Mutex::new(Budget::new(limits.per_minute, Instant::now()));
    let desk = Arc::new(Desk { signer, allowed, budget });
    let room = Arc::new(Semaphore::new(CALLERS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let refused = if !peers.contains(&peer.uid()) {
            Some(Refusal::new(Code::Peer, format!("user {} is not on the list", peer.uid())))
        } else if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                desk.meet(stream, peer).await;
                drop(permit);
            });
            continue;
        } else {
            Some(Refusal::new(Code::Busy, format!("{CALLERS} callers are being served")))
        };
        if let Some(refusal) = refused {
            told(peer, &refusal);
            // It fits into an empty socket's buffer; who does not read it is not waited for.
            drop(stream.try_write(&wire::line(&Answer::Refused(refusal))));
        }
    }
    // Those under way get their answer.
    let all = u32::try_from(CALLERS).expect("a small number");
    drop(timeout(TALK_TIME, room.acquire_many(all)).await);
}

fn told(peer: UCred, refusal: &Refusal) {
    tracing::warn!(
        peer.uid = peer.uid(),
        peer.pid = peer.pid(),
        code = refusal.code.name(),
        "refused: {}",
        refusal.message
    );
}

impl Desk {
    async fn meet(&self, mut stream: UnixStream, peer: UCred) {
        let answer = match timeout(TALK_TIME, read(&mut stream)).await {
            Ok(Ok(line)) => self.answer(&line, peer),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Refusal::new(Code::Slow, format!("no request within {TALK_TIME:?}"))),
        };
        let answer = answer.unwrap_or_else(|refusal| {
            told(peer, &refusal);
            Answer::Refused(refusal)
        });
        let write = async {
            stream.write_all(&wire::line(&answer)).await?;
            stream.shutdown().await
        };
        drop(timeout(TALK_TIME, write).await);
    }

    fn answer(&self, line: &[u8], peer: UCred) -> Result<Answer, Refusal> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = budget.take(Instant::now());
        drop(budget);
        if !granted {
            return Err(Refusal::new(Code::Rate, "too many requests in this minute"));
        }
        let request = Request::parse(line)?;
        if request.ask == Ask::PublicKey {
            let pem = self.signer.public_pem();
            let pem = pem.ok_or_else(|| Refusal::new(Code::Failed, "there is no public half"))?;
            return match request.payload.is_empty() {
                true => Ok(Answer::PublicKey(pem)),
                false => Err(Refusal::new(Code::Request, "the public key takes no payload")),
            };
        }
        let judged = self.allowed.judge(request.ask, &request.bytes()?)?;
        let signed = tokio::task::block_in_place(|| self.signer.sign(&judged.message));
        let signature = signed.map_err(|error| {
            tracing::error!("no signature: {error:#}");
            Refusal::new(Code::Failed, "the key did not sign; see the signer's log")
        })?;
        let more = judged.subjects.len().saturating_sub(SHOWN);
        let subjects = judged.subjects[..judged.subjects.len() - more].join(" ");
        tracing::info!(
            peer.uid = peer.uid(),
            peer.pid = peer.pid(),
            predicate = judged.predicate,
            subjects,
            more,
            "signed"
        );
        Ok(Answer::Signature(STANDARD.encode(signature)))
    }
}

/// Reads one line, or all that comes until the other side is done.
async fn read(stream: &mut UnixStream) -> Result<Vec<u8>, Refusal> {
    let mut line = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut part).await;
        let read = read.map_err(|error| Refusal::new(Code::Request, error.to_string()))?;
        let fresh = &part[..read];
        let end = fresh.iter().position(|byte| *byte == b'\n');
        line.extend(&fresh[..end.unwrap_or(read)]);
        if line.len() > MAX_REQUEST {
            let why = format!("a request of more than {MAX_REQUEST} bytes");
            return Err(Refusal::new(Code::TooLarge, why));
        }
        if end.is_some() || read == 0 {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_then_evenly() {
        let start = Instant::now();
        let mut budget = Budget::new(60, start);
        let taken = (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(taken, 60);
        let later = start + Duration::from_millis(5100);
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 5);
        let much_later = later + Duration::from_hours(3);
        assert_eq!((0..100).filter(|_| budget.take(much_later)).count(), 60);
    }
}
