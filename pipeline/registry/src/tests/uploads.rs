//! Uploads in every form that clients use, and downloads in whole and in part.

use super::{Digest, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_status_and_finish() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let digest = Digest::of(b"one two three");
    let start = server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await;
    assert_eq!((start.status, start.header("range")), (202, "0-0"));
    let at = start.header("location").to_owned();
    let first = server.push(&format!("PATCH {at}"), &["Content-Range: 0-3"], b"one ").await;
    assert_eq!((first.status, first.header("range")), (202, "0-3"));
    // The same chunk again is out of order, and says where to go on.
    let again = server.push(&format!("PATCH {at}"), &["Content-Range: 0-3"], b"one ").await;
    assert_eq!((again.status, again.header("range")), (416, "0-3"));
    assert_eq!(again.header("location"), at);
    let status = server.push(&format!("GET {at}"), &[], b"").await;
    assert_eq!((status.status, status.header("range")), (204, "0-3"));
    // Docker sends its only chunk without a range.
    assert_eq!(server.push(&format!("PATCH {at}"), &[], b"two ").await.header("range"), "0-7");
    let last =
        server.push(&format!("PUT {at}?digest={digest}"), &["Content-Range: 8-12"], b"three").await;
    assert_eq!(last.status, 201);
    assert_eq!(last.header("location"), format!("/v2/cars/a/blobs/{digest}"));
    assert_eq!(last.header("docker-content-digest"), digest.to_string());
    assert_eq!(server.get(&format!("/v2/cars/a/blobs/{digest}")).await.body, b"one two three");
    assert_eq!(server.push(&format!("GET {at}"), &[], b"").await.status, 404);

    // A chunked body, and an empty PUT with an escaped digest.
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    let chunked = format!(
        "PATCH {at} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        super::TOKEN
    );
    assert_eq!(server.raw(chunked.as_bytes()).await.header("range"), "0-4");
    let digest = Digest::of(b"abcde").to_string().replace(':', "%3A");
    assert_eq!(server.push(&format!("PUT {at}?digest={digest}"), &[], b"").await.status, 201);

    // A wrong digest ends the upload, and nothing appears.
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    let wrong = Digest::of(b"right");
    let answer = server.push(&format!("PUT {at}?digest={wrong}"), &[], b"wrong").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    for digest in [wrong, Digest::of(b"wrong")] {
        assert_eq!(server.get(&format!("/v2/cars/a/blobs/{digest}")).await.status, 404);
    }
    assert_eq!(server.push(&format!("GET {at}"), &[], b"").await.status, 404);

    // Given up.
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    server.push(&format!("PATCH {at}"), &[], b"abc").await;
    assert_eq!(server.push(&format!("DELETE {at}"), &[], b"").await.status, 204);
    assert_eq!(server.push(&format!("PATCH {at}"), &[], b"abc").await.status, 404);
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
    assert_eq!(server.registry.used_bytes(), 13 + 5);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let digest = server.blob("cars/a", b"blob").await;
    for from in ["&from=cars/a", "&from=nobody", ""] {
        let line = format!("POST /v2/cars/b/blobs/uploads/?mount={digest}{from}");
        let answer = server.push(&line, &[], b"").await;
        assert_eq!(answer.status, 201, "{from}");
        assert_eq!(answer.header("location"), format!("/v2/cars/b/blobs/{digest}"));
    }
    let absent = Digest::of(b"absent");
    let answer = server
        .push(&format!("POST /v2/cars/b/blobs/uploads/?mount={absent}&from=cars/a"), &[], b"")
        .await;
    assert_eq!(answer.status, 202);
    let at = answer.header("location").to_owned();
    assert_eq!(server.push(&format!("PUT {at}?digest={absent}"), &[], b"absent").await.status, 201);
    // The same blob again costs nothing.
    let used = server.registry.used_bytes();
    server.blob("cars/c", b"blob").await;
    // The second copy is let go by the thread that flushes, a moment after the answer.
    for _ in 0..100 {
        if server.registry.used_bytes() == used {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(server.registry.used_bytes(), used);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    // Larger than what one read takes, and with no period that a piece's size divides.
    let large: Vec<u8> = (0..1_000_003u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let digest = server.blob("cars/a", &large).await;
    let path = format!("/v2/cars/a/blobs/{digest}");
    let whole = server.get(&path).await;
    assert_eq!((whole.status, whole.header("content-length")), (200, "1000003"));
    assert_eq!(whole.header("docker-content-digest"), digest.to_string());
    assert!(whole.body == large);
    let head = server.ask(&format!("HEAD {path}"), &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "1000003", 0));
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=500000-900000", 500_000, 900_001),
        ("bytes=999999-", 999_999, 1_000_003),
        ("bytes=-3", 1_000_000, 1_000_003),
        ("bytes=1-99999999", 1, 1_000_003),
    ] {
        let part = server.ask(&format!("GET {path}"), &[&format!("Range: {range}")], b"").await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {start}-{}/1000003", end - 1));
        assert!(part.body == large[start..end], "{range}");
    }
    let past = server.ask(&format!("GET {path}"), &["Range: bytes=1000003-"], b"").await;
    assert_eq!((past.status, past.header("content-range")), (416, "bytes */1000003"));
    let several = server.ask(&format!("GET {path}"), &["Range: bytes=0-1,5-6"], b"").await;
    assert_eq!((several.status, several.body.len()), (200, large.len()));
    let changed =
        server.ask(&format!("GET {path}"), &["Range: bytes=0-0", "If-Range: \"x\""], b"").await;
    assert_eq!(changed.status, 200);
    let same =
        server.ask(&format!("GET {path}"), &[&format!("If-None-Match: \"{digest}\"")], b"").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let empty = server.blob("cars/a", b"").await;
    let answer = server.get(&format!("/v2/cars/a/blobs/{empty}")).await;
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, "0", 0));
    server.stop().await;
}
