//! The packets of a publisher, in both versions of the protocol, by the codec of `rumqttc`. Pure.
//!
//! Sources: MQTT 5.0 and 3.1.1, OASIS standards, chapters 3.1 to 3.4 and 3.14.

use bytes::{Bytes, BytesMut};
use rumqttc::{mqttbytes::v4, v5::mqttbytes as v5};
use zeroize::Zeroizing;

use super::CONTENT_TYPE;
use crate::config::Version;

/// Largest packet that is read (bytes): acknowledgements with a reason are far shorter.
pub(super) const MAX_INCOMING: usize = 16 * 1024;
/// Largest packet that is written: far above the largest message.
const MAX_OUTGOING: usize = 1 << 20;

/// What the broker is told first.
pub(super) struct Hello {
    pub(super) version: Version,
    pub(super) client: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<String>>,
}

/// What a broker says, as far as a publisher wants to know.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// It takes us; with the largest packet it takes, and whether it keeps messages.
    Welcome { most: Option<u32>, retains: bool, acknowledges: bool },
    /// It does not take us.
    Refused(String),
    /// It has a message, or will not have it.
    Acknowledged { packet: u16, refused: Option<Refusal> },
    /// It ends the connection.
    Goodbye(String),
    /// Something else, which a publisher need not mind.
    Other,
}

/// Why it will not have a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// Whether the same message may be taken another time.
    pub(super) may_pass: bool,
}

/// A message to publish, to be acknowledged.
pub(super) struct Message<'a> {
    pub(super) packet: u16,
    pub(super) topic: &'a str,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
    pub(super) id: &'a str,
}

/// `CONNECT`: a clean session, since nothing is subscribed to; no keep-alive, since connections do
/// not stay.
pub(super) fn hello(hello: &Hello) -> Result<BytesMut, String> {
    let mut bytes = BytesMut::new();
    let password = hello.password.as_deref().cloned().unwrap_or_default();
    match hello.version {
        Version::V5 => {
            let login = hello.user.clone().map(|user| v5::v5::Login::new(user, password));
            let mut properties = v5::v5::ConnectProperties::new();
            properties.max_packet_size = u32::try_from(MAX_INCOMING).ok();
            let connect = v5::v5::Connect {
                keep_alive: 0,
                client_id: hello.client.clone(),
                clean_start: true,
                properties: Some(properties),
            };
            connect.write(&None, &login, &mut bytes).map_err(|error| error.to_string())?;
        }
        Version::V311 => {
            let mut connect = v4::Connect::new(hello.client.clone());
            connect.keep_alive = 0;
            if let Some(user) = &hello.user {
                connect.set_login(user.clone(), password);
            }
            connect.write(&mut bytes).map_err(|error| error.to_string())?;
        }
    }
    Ok(bytes)
}

/// PUBLISH.
pub(super) fn publish(version: Version, message: &Message<'_>) -> Result<BytesMut, String> {
    let mut bytes = BytesMut::new();
    let Message { packet, topic, payload, retain, id } = message;
    match version {
        Version::V5 => {
            let properties = v5::v5::PublishProperties {
                // It is text.
                payload_format_indicator: Some(1),
                content_type: Some(CONTENT_TYPE.to_owned()),
                user_properties: vec![("id".to_owned(), (*id).to_owned())],
                ..v5::v5::PublishProperties::default()
            };
            let qos = v5::QoS::AtLeastOnce;
            let mut publish = v5::v5::Publish::new(*topic, qos, payload.clone(), Some(properties));
            (publish.pkid, publish.retain) = (*packet, *retain);
            publish.write(&mut bytes).map_err(|error| error.to_string())?;
        }
        Version::V311 => {
            let qos = rumqttc::QoS::AtLeastOnce;
            let mut publish = v4::Publish::from_bytes(*topic, qos, payload.clone());
            (publish.pkid, publish.retain) = (*packet, *retain);
            let packet = v4::Packet::Publish(publish);
            packet.write(&mut bytes, MAX_OUTGOING).map_err(|error| error.to_string())?;
        }
    }
    Ok(bytes)
}

/// DISCONNECT, the normal one; the same in both versions.
pub(super) const GOODBYE: [u8; 2] = [0xe0, 0];

/// The next packet, taken off the buffer; none while it is not whole.
pub(super) fn next(version: Version, buffer: &mut BytesMut) -> Result<Option<Said>, String> {
    match version {
        Version::V5 => {
            let most = u32::try_from(MAX_INCOMING).ok();
            match v5::v5::Packet::read(buffer, most) {
                Ok(packet) => Ok(Some(said_v5(packet))),
                Err(v5::Error::InsufficientBytes(_)) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        }
        Version::V311 => match v4::Packet::read(buffer, MAX_INCOMING) {
            Ok(packet) => Ok(Some(said_v4(&packet))),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn said_v5(packet: v5::v5::Packet) -> Said {
    use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason};
    match packet {
        Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
            let properties = ack.properties.as_ref();
            Said::Welcome {
                most: properties.and_then(|known| known.max_packet_size),
                retains: properties.and_then(|known| known.retain_available) != Some(0),
                acknowledges: properties.and_then(|known| known.max_qos) != Some(0),
            }
        }
        Packet::ConnAck(ack) => Said::Refused(format!("{:?}", ack.code)),
        Packet::PubAck(ack) => {
            let refused = match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                reason => Some(Refusal {
                    why: format!("{reason:?}"),
                    may_pass: !matches!(
                        reason,
                        PubAckReason::NotAuthorized
                            | PubAckReason::TopicNameInvalid
                            | PubAckReason::PayloadFormatInvalid
                    ),
                }),
            };
            Said::Acknowledged { packet: ack.pkid, refused }
        }
        Packet::Disconnect(bye) => Said::Goodbye(format!("{:?}", bye.reason_code)),
        _ => Said::Other,
    }
}

fn said_v4(packet: &v4::Packet) -> Said {
    match packet {
        v4::Packet::ConnAck(ack) if ack.code == v4::ConnectReturnCode::Success => {
            Said::Welcome { most: None, retains: true, acknowledges: true }
        }
        v4::Packet::ConnAck(ack) => Said::Refused(format!("{:?}", ack.code)),
        v4::Packet::PubAck(ack) => Said::Acknowledged { packet: ack.pkid, refused: None },
        v4::Packet::Disconnect => Said::Goodbye("no reason given".into()),
        _ => Said::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the standards' own figures, written by hand.
    #[test]
    fn packets_are_those_of_the_standards() {
        let message = Message {
            packet: 7,
            topic: "a/b",
            payload: Bytes::from_static(b"{}"),
            retain: true,
            id: "i",
        };
        let old = publish(Version::V311, &message).unwrap();
        assert_eq!(&old[..], b"\x33\x09\x00\x03a/b\x00\x07{}");
        let new = publish(Version::V5, &message).unwrap();
        assert_eq!(&new[..2], b"\x33\x42");
        assert_eq!(&new[2..10], b"\x00\x03a/b\x00\x07\x38");
        let login = |version| Hello {
            version,
            client: "c".into(),
            user: Some("u".into()),
            password: Some(Zeroizing::new("p".into())),
        };
        let old = hello(&login(Version::V311)).unwrap();
        assert_eq!(&old[..], b"\x10\x13\x00\x04MQTT\x04\xc2\x00\x00\x00\x01c\x00\x01u\x00\x01p");
        let new = hello(&login(Version::V5)).unwrap();
        assert_eq!(&new[..12], b"\x10\x19\x00\x04MQTT\x05\xc2\x00\x00");
    }

    #[test]
    fn words_of_brokers() {
        for (version, bytes, want) in [
            (Version::V311, &b"\x20\x02\x00\x05"[..], Said::Refused("NotAuthorized".into())),
            (Version::V311, b"\x40\x02\x00\x07", Said::Acknowledged { packet: 7, refused: None }),
            (Version::V5, b"\x40\x02\x00\x07", Said::Acknowledged { packet: 7, refused: None }),
            (
                Version::V5,
                b"\x20\x08\x00\x00\x05\x27\x00\x00\x01\x00",
                Said::Welcome { most: Some(256), retains: true, acknowledges: true },
            ),
            (
                Version::V5,
                b"\x20\x07\x00\x00\x04\x24\x00\x25\x00",
                Said::Welcome { most: None, retains: false, acknowledges: false },
            ),
            (
                Version::V5,
                b"\x40\x04\x00\x07\x87\x00",
                Said::Acknowledged {
                    packet: 7,
                    refused: Some(Refusal { why: "NotAuthorized".into(), may_pass: false }),
                },
            ),
        ] {
            let mut buffer = BytesMut::from(bytes);
            assert_eq!(next(version, &mut buffer), Ok(Some(want)));
            assert!(buffer.is_empty());
            let mut half = BytesMut::from(&bytes[..bytes.len() - 1]);
            assert_eq!(next(version, &mut half), Ok(None));
        }
        // One that would be as large as it says.
        let mut flood = BytesMut::from(&b"\x20\xff\xff\xff\x7f"[..]);
        assert!(next(Version::V5, &mut flood).is_err());
        assert!(next(Version::V311, &mut flood).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]
        #[test]
        fn no_bytes_of_a_broker_make_it_panic(
            kind in 0..16u8, flags in 0..16u8, body: Vec<u8>, raw: Vec<u8>, cut in 0..8usize
        ) {
            let mut packet = vec![kind << 4 | flags, u8::try_from(body.len().min(127)).unwrap()];
            packet.extend(body.iter().take(127));
            packet.truncate(packet.len().saturating_sub(cut));
            for version in [Version::V5, Version::V311] {
                let _ = next(version, &mut BytesMut::from(&packet[..]));
                let _ = next(version, &mut BytesMut::from(&raw[..]));
            }
        }
    }
}
