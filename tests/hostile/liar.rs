//! A registry that lies: what stands between a client and a real one, and answers chosen requests
//! as no registry should.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Longest wait for a byte.
const PATIENCE: Duration = Duration::from_mins(1);
/// What an endless answer brings at most (bytes).
const FLOOD: usize = 64 << 20;

/// What is wrong with an answer.
#[derive(Clone, Debug)]
pub(super) enum Lie {
    /// These bytes instead of any answer.
    Says(String),
    /// This status with these header lines; the real registry hears nothing.
    Status(u16, String),
    /// One letter in the middle of the body, or in the payload of a bundle, is another.
    Flipped,
    /// The body ends after so many bytes, whatever the head says.
    Cut(usize),
    /// The body does not end.
    Endless,
    /// No answer, ever.
    Silent,
    /// The real answer to another path.
    Instead(String),
    /// A success that says nothing and did nothing.
    Pretend(u16),
}

/// Which requests are lied to: the method, and a part of the path.
type Rule = (&'static str, String, Lie);

pub(super) struct Liar {
    pub(super) host: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    /// In front of a real registry.
    pub(super) fn before(real: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (rules, asked) = (Arc::default(), Arc::default());
        let liar = Self { host, rules: Arc::clone(&rules), asked: Arc::clone(&asked) };
        let real = real.to_owned();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rules, asked, real) = (Arc::clone(&rules), Arc::clone(&asked), real.clone());
                thread::spawn(move || drop(serve(stream, &real, &rules, &asked)));
            }
        });
        liar
    }

    /// From now on lies to these requests, and to no others.
    pub(super) fn lie(&self, method: &'static str, path: &str, lie: Lie) {
        *self.rules.lock().unwrap() = vec![(method, path.to_owned(), lie)];
        self.asked.lock().unwrap().clear();
    }

    pub(super) fn honest(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// What was asked since the last lie was set, as `METHOD PATH`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request: its first line, its other lines but `Connection`, its body.
struct Request {
    method: String,
    path: String,
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Self> {
        let mut first = String::new();
        stream.read_line(&mut first)?;
        let mut words = first.split(' ').map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let (mut head, mut length, mut chunked) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_lowercase();
            chunked |= lower.starts_with("transfer-encoding:");
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            // The lengths are written anew.
            if !["connection:", "content-length:", "transfer-encoding:"]
                .iter()
                .any(|name| lower.starts_with(name))
            {
                head.push_str(&line);
            }
        }
        let mut body = vec![0; length];
        if chunked {
            body = unchunked(stream)?;
        } else {
            stream.read_exact(&mut body)?;
        }
        Ok(Self { method, path, head, body })
    }

    /// The real registry's whole answer to this request, or to one for another path.
    fn forward(&self, real: &str, path: &str) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(real)?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        let Self { method, head, body, .. } = self;
        let length = body.len();
        let head = format!("{head}Connection: close\r\nContent-Length: {length}\r\n");
        write!(upstream, "{method} {path} HTTP/1.1\r\n{head}\r\n")?;
        upstream.write_all(body)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn unchunked(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend(&chunk[..size]);
    }
}

fn serve(
    stream: TcpStream,
    real: &str,
    rules: &Mutex<Vec<Rule>>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = stream.try_clone()?;
    let request = Request::read(&mut BufReader::new(stream))?;
    let Request { method, path, .. } = &request;
    asked.lock().unwrap().push(format!("{method} {path}"));
    let lie = rules
        .lock()
        .unwrap()
        .iter()
        .find(|(of, part, _)| of == method && path.contains(part.as_str()))
        .map(|(.., lie)| lie.clone());
    let answered = |path: &str| request.forward(real, path);
    match lie {
        None => out.write_all(&answered(path)?),
        Some(Lie::Says(text)) => out.write_all(text.as_bytes()),
        Some(Lie::Status(status, lines)) => {
            let body = "<html>no";
            let length = body.len();
            let head = format!("{lines}Connection: close\r\nContent-Length: {length}\r\n");
            write!(out, "HTTP/1.1 {status} Lie\r\n{head}\r\n{body}")
        }
        Some(Lie::Flipped) => {
            let mut answer = answered(path)?;
            let body = body_of(&answer);
            let payload = answer.windows(9).position(|nine| nine == b"\"payload\"");
            let middle = payload.map_or(body + (answer.len() - body) / 2, |at| at + 40);
            answer[middle] = if answer[middle] == b'A' { b'B' } else { b'A' };
            out.write_all(&answer)
        }
        Some(Lie::Cut(bytes)) => {
            let answer = answered(path)?;
            let end = (body_of(&answer) + bytes).min(answer.len());
            out.write_all(&answer[..end])
        }
        Some(Lie::Endless) => {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\n\
                 Connection: close\r\n\r\n"
            )?;
            let lump = vec![b' '; 1 << 16];
            (0..FLOOD / lump.len()).try_for_each(|_| out.write_all(&lump))
        }
        Some(Lie::Silent) => {
            thread::sleep(PATIENCE);
            Ok(())
        }
        Some(Lie::Instead(path)) => out.write_all(&answered(&path)?),
        Some(Lie::Pretend(status)) => {
            write!(out, "HTTP/1.1 {status} Lie\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        }
    }
}

/// Where the body of an answer begins.
fn body_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4)
}
