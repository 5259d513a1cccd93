//! Bounded HTTP/1.1 listeners, with and without TLS: connections, handshakes, headers and the end
//! have limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Connections open at once; an API server keeps a handful.
const CONNECTIONS: usize = 512;
/// Longest TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// A connection's first request has its headers in this time: who opens one has something to ask.
const FIRST_TIME: Duration = Duration::from_secs(10);
/// A client has this long for each request's headers, the wait on a kept-alive connection
/// included: longer than the 90 s after which an API server closes an idle one itself.
const HEADER_TIME: Duration = Duration::from_mins(2);
/// Bytes of headers; an API server sends about 400.
const HEADER_BYTES: usize = 32 * 1024;
/// A pause after `accept` failed (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests under way get this long once the end was asked for.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Serves until `stop` becomes true, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = asked(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                tokio::spawn(async move {
                    connection(stream, tls, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if timeout(DRAIN_TIME, room.acquire_many(all)).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}

/// Resolves when the end was asked for, or when nobody is left who could ask.
async fn asked(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Resolves when nothing was asked in the first time.
async fn silent(begun: &AtomicBool, first: Duration) {
    tokio::time::sleep(first).await;
    if begun.load(Relaxed) {
        std::future::pending::<()>().await;
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else { return requests(stream, router, stop, FIRST_TIME).await };
    match timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, router, stop, FIRST_TIME).await,
        // An API server that does not trust the certificate ends here: worth more than a whisper.
        Ok(Err(error)) => tracing::warn!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took longer than {HANDSHAKE_TIME:?}"),
    }
}

async fn requests<S>(stream: S, router: Router, mut stop: watch::Receiver<bool>, first: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = AtomicBool::new(false);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_BYTES);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = silent(&begun, first) => {
            tracing::debug!("a connection brought no request within {first:?}");
            return;
        }
        () = asked(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const FIRST: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(5);

    fn open() -> (tokio::io::DuplexStream, watch::Sender<bool>) {
        let (client, server) = tokio::io::duplex(4096);
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(async || "here"));
        tokio::spawn(requests(server, router, stopping, FIRST));
        (client, stop)
    }

    #[tokio::test]
    async fn a_connection_without_a_request_ends_soon() {
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n"] {
            let (mut client, _stop) = open();
            client.write_all(begun).await.unwrap();
            let mut all = Vec::new();
            let ended = timeout(LONG, client.read_to_end(&mut all)).await;
            assert!(ended.is_ok(), "{} bytes hold it", begun.len());
            assert!(all.is_empty());
        }
    }

    #[tokio::test]
    async fn one_that_asked_is_kept_for_the_next_request() {
        let (mut client, _stop) = open();
        let mut answer = vec![0; 1024];
        for _ in 0..2 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let read = timeout(LONG, client.read(&mut answer)).await.unwrap().unwrap();
            assert!(answer[..read].ends_with(b"here"), "{read} bytes");
            tokio::time::sleep(2 * FIRST).await;
        }
    }
}
