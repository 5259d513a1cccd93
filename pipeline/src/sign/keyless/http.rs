//! Requests to the services: bounded in bytes, time and tries.

use std::time::Duration;

use pitlane_release::causes;
use reqwest::{RequestBuilder, Url};

use super::error::KeylessError;

/// Waits before the second and the third try. Longer outages are for whoever started us to
/// repeat; certificates and tokens live for minutes.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Longest time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Most of a refused request's answer that is shown (characters).
const SHOWN: usize = 300;

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// For https, through the proxy that the environment names.
    secure: reqwest::Client,
    /// For plain http, which is for this machine alone: no proxy gets to see a token.
    plain: reqwest::Client,
}

/// A service, as errors name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service<'a> {
    pub(super) name: &'static str,
    pub(super) url: &'a Url,
}

impl Service<'_> {
    /// An error about what this service did.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> KeylessError {
        // An address may carry a secret in its query.
        let mut url = self.url.clone();
        url.set_query(None);
        KeylessError::Service { service: self.name, url: url.to_string(), why: why.to_string() }
    }
}

/// Why one try failed, and whether another may do better.
struct Failure {
    why: String,
    again: bool,
}

impl Http {
    /// A client whose requests take no longer than this each. Redirects are not followed: a token
    /// goes where the operator said.
    pub(super) fn new(limit: Duration) -> Result<Self, KeylessError> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_LIMIT.min(limit))
                .timeout(limit)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("pitlane/", env!("CARGO_PKG_VERSION")))
        };
        let failed = |error: reqwest::Error| KeylessError::Services(causes(&error));
        Ok(Self {
            secure: builder().build().map_err(failed)?,
            plain: builder().no_proxy().build().map_err(failed)?,
        })
    }

    fn client(&self, service: Service<'_>) -> &reqwest::Client {
        if service.url.scheme() == "https" { &self.secure } else { &self.plain }
    }

    /// Posts a body and gives the answer's, of at most so many bytes. The body holds this secret,
    /// unless it is empty.
    pub(super) async fn post(
        &self,
        service: Service<'_>,
        media: &str,
        body: Vec<u8>,
        secret: &str,
        most: usize,
    ) -> Result<Vec<u8>, KeylessError> {
        let body = bytes::Bytes::from(body);
        let request = || {
            let request = self.client(service).post(service.url.clone()).body(body.clone());
            request.header(reqwest::header::CONTENT_TYPE, media)
        };
        retried(service, request, secret, most).await
    }

    /// Gets something with a bearer token.
    pub(super) async fn get(
        &self,
        service: Service<'_>,
        bearer: &str,
        most: usize,
    ) -> Result<Vec<u8>, KeylessError> {
        let request = || self.client(service).get(service.url.clone()).bearer_auth(bearer);
        retried(service, request, bearer, most).await
    }
}

/// A text of somebody else on one line, with a secret that he was told as `***`.
pub(super) fn without(secret: &str, text: &str) -> String {
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    if secret.is_empty() { line } else { line.replace(secret, "***") }
}

/// Tries again what may pass: no connection, 429 and 5xx. A time-out is final, so that the whole
/// has an end that one can wait for.
async fn retried(
    service: Service<'_>,
    request: impl Fn() -> RequestBuilder,
    secret: &str,
    most: usize,
) -> Result<Vec<u8>, KeylessError> {
    let mut pauses = PAUSES.iter();
    loop {
        let failure = match once(request(), secret, most).await {
            Ok(body) => return Ok(body),
            Err(failure) => failure,
        };
        match pauses.next().filter(|_| failure.again) {
            Some(pause) => {
                tracing::warn!(url = %service.url.origin().ascii_serialization(), why = failure.why,
                    "{} failed, trying again", service.name);
                tokio::time::sleep(*pause).await;
            }
            None => return Err(service.error(failure.why)),
        }
    }
}

async fn once(request: RequestBuilder, secret: &str, most: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: reqwest::Error| Failure {
        again: error.is_connect() && !error.is_timeout(),
        why: causes(&error.without_url()),
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > most {
            let why = format!("it answers with more than {most} bytes");
            return Err(Failure { why, again: false });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    // Before it is cut: half a token is one that nobody would recognise.
    let text = without(secret, &String::from_utf8_lossy(&body));
    let shown: String = text.chars().take(SHOWN).collect();
    let again = status.is_server_error() || status.as_u16() == 429;
    Err(Failure { why: format!("it answers {status}: {shown}"), again })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::TcpListener,
        process::Command,
        thread,
    };

    use super::*;

    const TARGET: &str = "PITLANE_TEST_TARGET";
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.c2VjcmV0.c2lnbmF0dXJl";

    /// A service that gives one answer; what it was asked comes out at the end.
    fn service(answer: String) -> (Url, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !String::from_utf8_lossy(&asked).contains("\r\n\r\n") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).unwrap();
                assert_ne!(read, 0, "no whole request");
                asked.extend(&part[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, served)
    }

    fn answer(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }

    async fn ask(url: &Url) -> Result<Vec<u8>, KeylessError> {
        let http = Http::new(Duration::from_secs(20)).unwrap();
        http.get(Service { name: "token service", url }, TOKEN, 4096).await
    }

    #[tokio::test]
    async fn a_refusal_does_not_repeat_the_token() {
        // The second one is where the text is cut.
        let body = format!("{TOKEN} is no good, says {}{TOKEN}", "x".repeat(230));
        let (url, served) = service(answer("403 Forbidden", &body));
        let error = ask(&url).await.unwrap_err().to_string();
        assert!(served.join().unwrap().contains(TOKEN), "it was sent");
        assert!(error.contains("403") && error.contains("*** is no good"), "{error}");
        assert!(!error.contains(&TOKEN[..8]), "{error}");
    }

    #[test]
    fn plain_http_goes_through_no_proxy() {
        let (url, served) = service(answer("200 OK", "good"));
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let module = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([&format!("{module}::child"), "--exact", "--ignored", "--nocapture"]);
        child.env_remove("NO_PROXY").env_remove("no_proxy").env(TARGET, url.as_str());
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            child.env(name, format!("http://{}", proxy.local_addr().unwrap()));
        }
        let mut child = child.spawn().unwrap();
        let ended = loop {
            match proxy.accept() {
                Ok(_) => break Err("the proxy was asked"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            if let Some(status) = child.try_wait().unwrap() {
                break Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        };
        if ended.is_err() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(ended.unwrap().success(), "the child did not get its answer");
        assert!(served.join().unwrap().contains(TOKEN), "the service itself was asked");
    }

    /// Asks in an environment of its own.
    #[tokio::test]
    #[ignore = "started by the test above"]
    async fn child() {
        let url = std::env::var(TARGET).expect("the test above names it").parse().unwrap();
        assert_eq!(ask(&url).await.unwrap(), b"good");
    }
}
