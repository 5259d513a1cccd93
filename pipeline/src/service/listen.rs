//! A bounded HTTP/1.1 listener: connections, header time and shutdown have limits.
//!
//! axum's own `serve` sets no time for reading headers, so a thousand idle sockets would hold it
//! for ever; this one closes them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// Connections open at once; about 20 KB each when idle.
const CONNECTIONS: usize = 1024;
/// A client has this long for each request's headers, the wait on a kept-alive connection
/// included.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// Bytes of headers; GitHub sends about 1 KB.
const HEADER_BYTES: usize = 32 * 1024;
/// A pause after `accept` failed (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests under way get this long once a shutdown was asked for.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Serves until `stop` becomes true, then lets requests under way end (10 s at most).
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = asked(&mut stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(connection(stream, peer, router.clone(), stop.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).expect("a small number");
    if timeout(DRAIN_TIME, room.acquire_many(all)).await.is_err() {
        tracing::warn!("connections were still open at shutdown");
    }
}

/// Resolves when a stop was asked for, or when nobody is left who could ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    drop(stream.set_nodelay(true));
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_BYTES);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = asked(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
