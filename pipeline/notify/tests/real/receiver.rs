//! An HTTP receiver over real sockets that can be good, slow, wrong and hostile.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// What it does with a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status line, headers, a body.
    Say(&'static str, Vec<String>, String),
    /// A status, and then a body without an end.
    Endless(&'static str),
    /// Nothing, for ever.
    Hang,
}

impl Answer {
    pub(super) fn status(status: &'static str) -> Self {
        Self::Say(status, Vec::new(), String::new())
    }
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A receiver; gone when dropped.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// One that answers the n-th request (from 0) as it is told.
    pub(super) async fn new(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None, answer).await
    }

    /// One at an address, with TLS where a certificate and its key (DER) are given.
    pub(super) async fn at(
        address: SocketAddr,
        tls: Option<(Vec<u8>, Vec<u8>)>,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answer) = (asked.clone(), Arc::new(answer));
        let acceptor = tls.map(|(certificate, key)| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider);
            let config = config.with_safe_default_protocol_versions().unwrap();
            let config = config.with_no_client_auth();
            let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
            TlsAcceptor::from(Arc::new(
                config.with_single_cert(vec![certificate.into()], key).unwrap(),
            ))
        });
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (kept.clone(), answer.clone());
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    match acceptor {
                        None => talk(stream, &kept, &*answer).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            talk(stream, &kept, &*answer).await;
                        }
                    }
                });
            }
        });
        Self { address, asked, task }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kept: &Mutex<Vec<Asked>>,
    answer: &(impl Fn(usize) -> Answer + ?Sized),
) {
    let mut bytes = Vec::new();
    loop {
        let Some(asked) = request(&mut stream, &mut bytes).await else { return };
        let number = {
            let mut kept = kept.lock().unwrap();
            kept.push(asked);
            kept.len() - 1
        };
        match answer(number) {
            Answer::Say(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
                let headers: String =
                    headers.iter().map(|header| header.clone() + "\r\n").collect();
                head.push_str(&headers);
                let all = format!("{head}\r\n{body}");
                if stream.write_all(all.as_bytes()).await.is_err() {
                    return;
                }
            }
            Answer::Endless(status) => {
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let block = vec![b'x'; 65536];
                while stream.write_all(&block).await.is_ok() {}
                return;
            }
            Answer::Hang => {
                tokio::time::sleep(Duration::from_hours(1)).await;
            }
        }
    }
}

/// One request, with a `Content-Length`, off the stream.
async fn request(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut lines = head.lines();
            let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers.get("content-length")?.parse().unwrap();
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some(Asked { target, headers, body });
            }
        }
        let mut part = [0; 8192];
        match stream.read(&mut part).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&part[..read]),
            _ => return None,
        }
    }
}
