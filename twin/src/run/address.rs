//! Where to listen or to dial: TCP or a unix socket.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often a listener without a client, or a dialler without a server, looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Pause between two attempts to dial.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// Longest time for one attempt to dial.
const DIAL_ONE: Duration = Duration::from_secs(5);

/// An address as written: `HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String),
    /// Path of a unix socket.
    Unix(PathBuf),
}

/// An address that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an address; write HOST:PORT (port 0 takes any) or unix:PATH")]
pub struct BadAddress(String);

/// A socket that waits for clients.
#[derive(Debug)]
pub struct Listener {
    inner: ListenerKind,
    address: Address,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(bad());
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(text) => out.write_str(text),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Binds the address. A unix socket that a dead process left behind is replaced.
    pub fn listen(&self) -> io::Result<Listener> {
        let (inner, address) = match self {
            Self::Tcp(text) => {
                let listener = TcpListener::bind(text)?;
                listener.set_nonblocking(true)?;
                let bound = listener.local_addr()?;
                (ListenerKind::Tcp(listener), Self::Tcp(bound.to_string()))
            }
            Self::Unix(path) => {
                let is_socket =
                    path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket());
                if is_socket && UnixStream::connect(path).is_err() {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                (ListenerKind::Unix(listener), self.clone())
            }
        };
        Ok(Listener { inner, address })
    }

    /// Connects, trying again until `deadline`.
    pub fn dial(&self, deadline: Instant) -> io::Result<Stream> {
        loop {
            let tried = match self {
                Self::Tcp(text) => text.to_socket_addrs().and_then(|mut addresses| {
                    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
                    TcpStream::connect_timeout(&address, DIAL_ONE).map(Stream::Tcp)
                }),
                Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            };
            match tried {
                Ok(stream) => return stream.ready(),
                Err(error) if Instant::now() + DIAL_AGAIN >= deadline => return Err(error),
                Err(_) => std::thread::sleep(DIAL_AGAIN),
            }
        }
    }
}

impl Listener {
    /// The address clients can reach, with the port that was given.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client; none when `deadline` passes first.
    pub fn accept(&self, deadline: Option<Instant>) -> io::Result<Option<Stream>> {
        loop {
            let tried = match &self.inner {
                ListenerKind::Tcp(listener) => listener.accept().map(|(s, _)| Stream::Tcp(s)),
                ListenerKind::Unix(listener) => listener.accept().map(|(s, _)| Stream::Unix(s)),
            };
            match tried {
                Ok(stream) => return stream.ready().map(Some),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Ok(None);
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                // The client was gone before it was taken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Stream {
    /// Blocking, and without waiting to fill packets: a control is 60 bytes and urgent.
    fn ready(self) -> io::Result<Self> {
        match &self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
            }
            Self::Unix(stream) => stream.set_nonblocking(false)?,
        }
        Ok(self)
    }

    /// Longest time a read may take.
    pub fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// Longest time a write may take.
    pub fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!("127.0.0.1:9091".parse(), Ok(Address::Tcp("127.0.0.1:9091".into())));
        assert_eq!("[::1]:0".parse(), Ok(Address::Tcp("[::1]:0".into())));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        for text in ["", "9091", "host:", ":9091", "host:99999", "unix:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let address = Address::Unix(path.clone());
        let listener = address.listen().unwrap();
        assert!(address.listen().is_err(), "in use");
        drop(listener);
        assert!(!path.exists(), "removed at the end");
        std::fs::write(&path, "precious").unwrap();
        assert!(address.listen().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
