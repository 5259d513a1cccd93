//! Whatever comes from outside is bounded: bytes, uploads, time.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{Answer, Digest, Server, TOKEN};
use crate::listen::BoundedListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| {
        config.limits.blob_bytes = 1000;
        config.limits.quota_bytes = 2500;
    })
    .await;
    let post =
        |bytes: &[u8]| format!("POST /v2/cars/a/blobs/uploads/?digest={}", Digest::of(bytes));
    let large = vec![0; 1001];
    let answer = server.push(&post(&large), &[], &large).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"));
    // Also when the pieces are small.
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    assert_eq!(server.push(&format!("PATCH {at}"), &[], &large[..900]).await.status, 202);
    assert_eq!(server.push(&format!("PATCH {at}"), &[], &large[..101]).await.status, 413);
    // What an upload has taken counts, and is given back with it.
    server.blob("cars/a", &[1; 1000]).await;
    let refused = server.push(&post(&[2; 1000]), &[], &[2; 1000]).await;
    assert_eq!((refused.status, refused.code().as_str()), (507, "DENIED"));
    assert_eq!(server.push(&format!("DELETE {at}"), &[], b"").await.status, 204);
    server.blob("cars/a", &[2; 1000]).await;
    assert_eq!(server.registry.used_bytes(), 2000);
    server.stop().await;
    // Counted again at the next start.
    let server = Server::with(&dir, |config| config.limits.quota_bytes = 2500).await;
    assert_eq!(server.registry.used_bytes(), 2000);
    assert_eq!(server.push(&post(&[3; 501]), &[], &[3; 501]).await.status, 507);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| {
        config.limits.uploads = 2;
        config.limits.upload_idle = Duration::from_millis(1500);
    })
    .await;
    let start = "POST /v2/cars/a/blobs/uploads/";
    let at = server.push(start, &[], b"").await.header("location").to_owned();
    assert_eq!(server.push(start, &[], b"").await.status, 202);
    let third = server.push(start, &[], b"").await;
    assert_eq!((third.status, third.code().as_str()), (429, "TOOMANYREQUESTS"));
    let whole = format!("{start}?digest={}", Digest::of(b"x"));
    assert_eq!(server.push(&whole, &[], b"x").await.status, 429);
    // Idle uploads go by themselves.
    let began = Instant::now();
    while server.push(start, &[], b"").await.status != 202 {
        assert!(began.elapsed() < Duration::from_secs(10), "uploads never expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.push(&format!("PATCH {at}"), &[], b"x").await.code(), "BLOB_UPLOAD_UNKNOWN");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_body_is_cut_and_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::with(&dir, |config| config.limits.body_stall = Duration::from_millis(300)).await;
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "PATCH {at} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\nabcd"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Answer::parse(&answer).status, 408);
    assert_eq!(server.push(&format!("GET {at}"), &[], b"").await.header("range"), "0-3");
    let put = format!("PUT {at}?digest={}", Digest::of(b"abcdefgh"));
    assert_eq!(server.push(&put, &["Content-Range: 4-7"], b"efgh").await.status, 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_silent_end_and_make_room() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(|| async { "here" });
    let listener = BoundedListener::new(listener, 1, Duration::from_millis(400));
    let task = tokio::spawn(async move { axum::serve(listener, app).await });
    // The only place is held by who sends half a header.
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let began = Instant::now();
    tokio::time::timeout(Duration::from_secs(10), next.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Answer::parse(&answer).body, b"here");
    assert!(began.elapsed() >= Duration::from_millis(300), "the limit of connections did not hold");
    assert_eq!(silent.read(&mut [0; 10]).await.unwrap_or(0), 0);
    task.abort();
}
