//! Rejected PUBLISH packets, and the replacement that paho receives.
//!
//! The topic of the replacement is a secret of this process, so publishers cannot forge it. Its payload is an encoded
//! [`Rejected`]. Paho handles the replacement as any other message, and acknowledges it once the inbox has stored it.

use super::packet::{Publish, qos};
use crate::domain::broker::MqttVersion;
use crate::domain::message::{Unfit, UnfitReason};

/// Secret topic of rejected messages, random for each process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Token(String);

impl Token {
    pub(in super::super) fn new() -> Token {
        Token(format!("{:032x}", rand::random::<u128>()))
    }

    pub(in super::super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the message that tells the message callback that none follows.
    pub(super) fn end_packet(&self, version: MqttVersion) -> Vec<u8> {
        let mut body = Vec::new();
        push_prefixed(&mut body, self.0.as_bytes());
        if version == MqttVersion::V5 {
            push_length(&mut body, 0);
        }
        let mut packet = vec![0x30];
        push_length(&mut packet, body.len());
        packet.extend_from_slice(&body);
        packet
    }

    /// Whether a message is an [`end_packet`](Self::end_packet). A [`Rejected`] is never empty.
    pub(in super::super) fn is_end(&self, topic: &str, payload: &[u8]) -> bool {
        payload.is_empty() && topic == self.0
    }
}

/// Rejected message: reason, and the parts that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Rejected {
    pub(in super::super) unfit: Unfit,
    /// Bytes that are not text, and NUL, are replaced by U+FFFD.
    pub(in super::super) topic: String,
    pub(in super::super) head: Vec<u8>,
}

impl Rejected {
    pub(super) fn to_packet(
        &self,
        flags: u8,
        publish: &Publish,
        token: &Token,
        version: MqttVersion,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        push_prefixed(&mut body, token.as_str().as_bytes());
        let mut first = 0x30 | (flags & 0b1001);
        if let Some(id) = publish.packet_id {
            // QoS 3 does not exist. Acknowledging it as QoS 1 may stop its redelivery.
            first |= if qos(flags) == 2 { 0b0100 } else { 0b0010 };
            body.extend_from_slice(&id.to_be_bytes());
        }
        if version == MqttVersion::V5 {
            let mut properties = Vec::new();
            for id in &publish.subscription_ids {
                properties.push(0x0b);
                push_length(&mut properties, *id as usize);
            }
            push_length(&mut body, properties.len());
            body.extend_from_slice(&properties);
        }
        self.write(&mut body);
        let mut packet = vec![first];
        push_length(&mut packet, body.len());
        packet.extend_from_slice(&body);
        packet
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.unfit.reason.code());
        out.extend_from_slice(&self.unfit.length.to_be_bytes());
        out.extend_from_slice(&self.unfit.sha256);
        push_prefixed(out, self.topic.as_bytes());
        out.extend_from_slice(&self.head);
    }

    /// Decodes a payload of [`to_packet`](Self::to_packet).
    pub(in super::super) fn decode(payload: &[u8]) -> Option<Rejected> {
        let (reason, rest) = payload.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sha256, rest) = rest.split_first_chunk()?;
        let (topic_bytes, rest) = rest.split_first_chunk()?;
        let (topic, head) = rest.split_at_checked(usize::from(u16::from_be_bytes(*topic_bytes)))?;
        let unfit = Unfit {
            reason: UnfitReason::from_code(*reason)?,
            length: u64::from_be_bytes(*length),
            sha256: *sha256,
        };
        Some(Rejected { unfit, topic: str::from_utf8(topic).ok()?.to_owned(), head: head.to_vec() })
    }
}

/// Converts a topic to text, truncated to fit a packet: replacement characters could make it too long.
pub(super) fn lossy_topic(topic: &[u8]) -> String {
    let mut lossy_topic = String::from_utf8_lossy(topic).replace('\0', "\u{fffd}");
    lossy_topic.truncate(lossy_topic.floor_char_boundary(usize::from(u16::MAX)));
    lossy_topic
}

pub(super) fn push_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

/// Appends a variable byte integer of MQTT.
pub(super) fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0x7f);
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}
