//! A connection to a broker that publishes: one message at a time, each acknowledged.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::wire::{self, GOODBYE, Hello, MAX_INCOMING, Message, Refusal, Said};
use crate::{Failure, config::Version};

/// Packets that are not ours to mind before an answer, at most: a broker that only talks is cut.
const MAX_CHATTER: usize = 64;

/// TCP, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    version: Version,
    address: String,
    packet: u16,
    most: Option<u32>,
    retains: bool,
}

impl Session {
    /// Says hello. Time limits are the caller's.
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        hello: &Hello,
        address: &str,
    ) -> Result<Self, Failure> {
        let mut session = Self {
            stream,
            buffer: BytesMut::new(),
            version: hello.version,
            address: address.to_owned(),
            packet: 0,
            most: None,
            retains: true,
        };
        let bytes = wire::hello(hello).map_err(|why| session.never(&why))?;
        session.write(&bytes).await?;
        match session.read().await? {
            Said::Welcome { acknowledges: false, .. } => {
                Err(session.later("it acknowledges no messages (maximum QoS 0)"))
            }
            Said::Welcome { most, retains, acknowledges: true } => {
                (session.most, session.retains) = (most, retains);
                Ok(session)
            }
            // The password may be put right before the message is old.
            Said::Refused(why) => Err(session.later(&format!("it does not take us: {why}"))),
            Said::Goodbye(why) => Err(session.later(&format!("it ends the connection: {why}"))),
            Said::Acknowledged { .. } | Said::Other => {
                Err(session.later("it does not answer as a broker does"))
            }
        }
    }

    /// Publishes and waits for the acknowledgement.
    pub(super) async fn publish(
        &mut self,
        topic: &str,
        payload: Bytes,
        retain: bool,
        id: &str,
    ) -> Result<(), Failure> {
        if retain && !self.retains {
            return Err(self.never("it keeps no messages, leave stateTopic out"));
        }
        // 0 is no number of a packet.
        self.packet = self.packet.checked_add(1).unwrap_or(1);
        let message = Message { packet: self.packet, topic, payload, retain, id };
        let bytes = wire::publish(self.version, &message).map_err(|why| self.never(&why))?;
        if self.most.is_some_and(|most| bytes.len() as u64 > u64::from(most)) {
            return Err(self.never("the message is larger than the broker takes"));
        }
        self.write(&bytes).await?;
        for _ in 0..MAX_CHATTER {
            match self.read().await? {
                Said::Acknowledged { packet, refused } if packet == self.packet => {
                    return match refused {
                        None => Ok(()),
                        Some(Refusal { why, may_pass: true }) => Err(self.later(&why)),
                        Some(Refusal { why, may_pass: false }) => Err(self.never(&why)),
                    };
                }
                Said::Goodbye(why) => {
                    return Err(self.later(&format!("it ends the connection: {why}")));
                }
                Said::Refused(why) => return Err(self.later(&why)),
                Said::Acknowledged { .. } | Said::Welcome { .. } | Said::Other => {}
            }
        }
        Err(self.later("it talks, but does not acknowledge the message"))
    }

    /// Says goodbye, without waiting for anything.
    pub(super) async fn close(mut self) {
        let _ = self.write(&GOODBYE).await;
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| self.later(&crate::text::chain(&error)))
    }

    async fn read(&mut self) -> Result<Said, Failure> {
        loop {
            let next = wire::next(self.version, &mut self.buffer);
            if let Some(said) = next.map_err(|why| self.later(&format!("bad packet: {why}")))? {
                return Ok(said);
            }
            if self.buffer.len() > MAX_INCOMING {
                return Err(self.later("bad packet: too long"));
            }
            let read = (&mut self.stream).take(4096).read_buf(&mut self.buffer).await;
            match read {
                Ok(0) => return Err(self.later("it closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(self.later(&crate::text::chain(&error))),
            }
        }
    }

    fn later(&self, why: &str) -> Failure {
        Failure::later(format!("{}: {why}", self.address))
    }

    fn never(&self, why: &str) -> Failure {
        Failure::never(format!("{}: {why}", self.address))
    }
}
