//! Parser for MQTT packets from the broker: fixed header, parts of PUBLISH, and properties of MQTT 5.
//!
//! Parses just enough to know that paho can parse the rest. Allocates nothing.

use std::ops::Range;

use crate::domain::broker::MqttVersion;
use crate::domain::message::SubscriptionId;

/// Maximum bytes of a length field: four with seven bits each.
const MAX_LENGTH_BYTES: usize = 4;

/// Reason why a packet cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("invalid length field")]
    Length,
    #[error("truncated packet")]
    Truncated,
    #[error("packet type {0} is not allowed from a broker")]
    Type(u8),
    #[error("{0} before CONNACK, or a second CONNACK")]
    Order(&'static str),
    #[error("{kind} of {bytes} bytes exceeds the maximum size")]
    TooLong { kind: &'static str, bytes: usize },
    #[error("invalid property")]
    Property,
    #[error("a string is not UTF-8 or contains NUL")]
    Text,
    #[error("PUBLISH without topic, with QoS 3, or with packet identifier 0")]
    Publish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketType {
    ConnAck,
    Publish,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack,
    SubAck,
    UnsubAck,
    PingResp,
    Disconnect,
}

impl PacketType {
    fn from_type(number: u8, version: MqttVersion) -> Result<PacketType, Malformed> {
        Ok(match number {
            2 => PacketType::ConnAck,
            3 => PacketType::Publish,
            4..=7 => PacketType::Ack,
            9 => PacketType::SubAck,
            11 => PacketType::UnsubAck,
            13 => PacketType::PingResp,
            14 if version == MqttVersion::V5 => PacketType::Disconnect,
            other => return Err(Malformed::Type(other)),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            PacketType::ConnAck => "CONNACK",
            PacketType::Publish => "PUBLISH",
            PacketType::Ack => "PUBACK, PUBREC, PUBREL or PUBCOMP",
            PacketType::SubAck => "SUBACK",
            PacketType::UnsubAck => "UNSUBACK",
            PacketType::PingResp => "PINGRESP",
            PacketType::Disconnect => "DISCONNECT",
        }
    }
}

/// Fixed header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedHeader {
    pub(super) kind: PacketType,
    /// Lower four bits of the first byte.
    pub(super) flags: u8,
    /// Size of the fixed header.
    pub(super) bytes: usize,
    /// Size of the body.
    pub(super) body_bytes: usize,
}

impl FixedHeader {
    /// Parses a fixed header. Returns `None` if bytes are missing.
    pub(super) fn parse(bytes: &[u8], version: MqttVersion) -> Result<Option<FixedHeader>, Malformed> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        let kind = PacketType::from_type(first >> 4, version)?;
        let mut fields = PacketFields(rest);
        match fields.variable_length() {
            Ok(body_bytes) => Ok(Some(FixedHeader {
                kind,
                flags: first & 0x0f,
                bytes: bytes.len() - fields.0.len(),
                body_bytes,
            })),
            Err(Malformed::Truncated) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn packet_bytes(self) -> usize {
        self.bytes + self.body_bytes
    }
}

/// Unread fields of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketFields<'a>(pub(super) &'a [u8]);

impl<'a> PacketFields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed::Truncated)
    }

    pub(super) fn two_bytes(&mut self) -> Result<u16, Malformed> {
        let bytes: [u8; 2] = self.take(2)?.try_into().map_err(|_| Malformed::Truncated)?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// Reads a length and as many bytes, the format of strings and binary data.
    pub(super) fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    pub(super) fn variable_length(&mut self) -> Result<usize, Malformed> {
        let mut value = 0;
        for index in 0..MAX_LENGTH_BYTES {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Length)
    }

    fn text(&mut self) -> Result<(), Malformed> {
        if is_text(self.prefixed()?) { Ok(()) } else { Err(Malformed::Text) }
    }

    /// Checks a block of properties. Calls `on_subscription` for each subscription identifier.
    pub(super) fn properties(
        &mut self,
        mut on_subscription: impl FnMut(SubscriptionId),
    ) -> Result<(), Malformed> {
        let length = self.variable_length()?;
        let mut properties = PacketFields(self.take(length)?);
        while !properties.0.is_empty() {
            match properties.byte()? {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => {
                    properties.byte()?;
                }
                0x13 | 0x21..=0x23 => {
                    properties.two_bytes()?;
                }
                0x02 | 0x11 | 0x18 | 0x27 => {
                    properties.take(4)?;
                }
                0x0b => {
                    let id = properties.variable_length()?;
                    on_subscription(SubscriptionId::try_from(id).map_err(|_| Malformed::Property)?);
                }
                0x09 | 0x16 => {
                    properties.prefixed()?;
                }
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => properties.text()?,
                0x26 => {
                    properties.text()?;
                    properties.text()?;
                }
                _ => return Err(Malformed::Property),
            }
        }
        Ok(())
    }
}

/// Whether both Rust and C can hold the bytes as a string.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'))
}

/// Checks the body of a packet other than PUBLISH, because paho parses all of its fields.
pub(super) fn check(header: FixedHeader, body: &[u8], version: MqttVersion) -> Result<(), Malformed> {
    let mut fields = PacketFields(body);
    match (header.kind, version) {
        (PacketType::Publish | PacketType::PingResp, _) => Ok(()),
        (PacketType::ConnAck | PacketType::Ack | PacketType::UnsubAck, MqttVersion::V311) => {
            fields.take(2).map(|_| ())
        }
        (PacketType::ConnAck, MqttVersion::V5) => {
            fields.take(2)?;
            fields.properties(|_| {})
        }
        (PacketType::SubAck, MqttVersion::V311) => fields.take(3).map(|_| ()),
        (PacketType::SubAck | PacketType::UnsubAck, MqttVersion::V5) => {
            fields.take(2)?;
            fields.properties(|_| {})?;
            fields.byte().map(|_| ())
        }
        (PacketType::Ack, MqttVersion::V5) => {
            fields.take(2)?;
            reason_and_properties(fields)
        }
        (PacketType::Disconnect, _) => reason_and_properties(fields),
    }
}

/// Checks reason code and properties, which may both be missing at the end of a packet.
fn reason_and_properties(mut fields: PacketFields<'_>) -> Result<(), Malformed> {
    if fields.byte().is_err() || fields.0.is_empty() { Ok(()) } else { fields.properties(|_| {}) }
}

/// Parsed parts of a PUBLISH.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Publish {
    /// Range of the topic in the body; up to the end if the body is shorter.
    pub(super) topic: Range<usize>,
    pub(super) packet_id: Option<u16>,
    pub(super) subscription_ids: Vec<SubscriptionId>,
    /// Start of the payload; `None` if an earlier field is invalid.
    pub(super) payload_at: Option<usize>,
    pub(super) topic_is_text: bool,
}

impl Publish {
    /// Parses as much of the body as possible. The body may be cut off within the payload.
    pub(super) fn parse(flags: u8, body: &[u8], version: MqttVersion) -> Publish {
        let mut publish = Publish::default();
        publish.payload_at = publish.read_up_to_payload(flags, body, version).ok();
        publish
    }

    fn read_up_to_payload(
        &mut self,
        flags: u8,
        body: &[u8],
        version: MqttVersion,
    ) -> Result<usize, Malformed> {
        let mut fields = PacketFields(body);
        let topic_bytes = usize::from(fields.two_bytes()?);
        self.topic = 2..(2 + topic_bytes).min(body.len());
        self.topic_is_text = is_text(body.get(self.topic.clone()).unwrap_or_default());
        fields.take(topic_bytes)?;
        let has_id = qos(flags) > 0;
        if has_id {
            self.packet_id = Some(fields.two_bytes()?).filter(|id| *id != 0);
        }
        if version == MqttVersion::V5 {
            fields.properties(|id| self.subscription_ids.push(id))?;
        }
        if topic_bytes == 0 || qos(flags) > 2 || self.packet_id.is_some() != has_id {
            return Err(Malformed::Publish);
        }
        Ok(body.len() - fields.0.len())
    }
}

pub(super) fn qos(flags: u8) -> u8 {
    (flags >> 1) & 3
}
