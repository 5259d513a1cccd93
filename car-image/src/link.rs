//! The connection to a simulator: TCP or a socket in the file system, every call bounded in time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::cli::SimAddr;

/// One try to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// A read returns after this long, so that the reader can look at signals.
pub(crate) const READ: Duration = Duration::from_millis(100);
/// A simulator that does not take a hundred bytes for so long has hung.
const WRITE: Duration = Duration::from_millis(500);

/// An open connection.
#[derive(Debug)]
pub(crate) enum Link {
    /// Over the network.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

impl Link {
    /// Connects once.
    pub(crate) fn open(address: &SimAddr) -> io::Result<Self> {
        let link = match address {
            SimAddr::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            SimAddr::Tcp(text) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let mut found = None;
                for address in text.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => {
                            found = Some(stream);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                let stream = found.ok_or(last)?;
                // A control message is one small packet that must not wait for another.
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
        };
        link.set_timeouts()?;
        Ok(link)
    }

    /// A second handle to the same connection.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// Ends the connection for all its handles; what was written is still delivered.
    pub(crate) fn close(&self) {
        // A connection that is already gone cannot be closed; that is as good.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn set_timeouts(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(READ))?;
                stream.set_write_timeout(Some(WRITE))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(READ))?;
                stream.set_write_timeout(Some(WRITE))
            }
        }
    }
}

impl Read for Link {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(out),
            Self::Unix(stream) => stream.read(out),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
