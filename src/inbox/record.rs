//! The encoding of a record on disk, little endian:
//!
//! ```text
//! marker 4 │ body length 4 │ crc32 4 │ offset 8 │ body: received_at 8, flags 1, packet id 2,
//!          identifiers 2, topic length 2, identifiers 4 each, topic,
//!          [user properties 2, each: name length 2, value length 2, name, value],
//!          [length 8 and sha256 32 of the whole payload, when only its head is kept], payload
//! ```
//!
//! Fields in brackets are present if a flag is set. Format 1 has no user properties and never sets that flag,
//! so the same code reads it.
//!
//! The checksum covers length, offset and body. Its seed and the marker are derived from the inbox id. A record
//! of another inbox inside a payload is therefore never read as a record of this inbox.

use sha2::{Digest, Sha256};

use super::meta::InboxId;
use crate::domain::message::{
    Body, DeliveryFacts, MAX_HEAD_BYTES, MAX_USER_PROPERTIES_BYTES, Offset, Publication, Record, Unfit,
    UnfitReason,
};

/// Bytes before the body.
pub(super) const FRAME_BYTES: usize = 20;

/// Length of the marker.
pub(super) const MARKER_BYTES: usize = 4;

/// The longest topic that MQTT allows.
const MAX_TOPIC_BYTES: usize = u16::MAX as usize;

const QOS_BITS: u8 = 0b0000_0011;
const DUPLICATE: u8 = 0b0000_0100;
const RETAINED: u8 = 0b0000_1000;
const HEAD_ONLY: u8 = 0b0001_0000;
const USER_PROPERTIES: u8 = 0b0010_0000;
/// The two highest bits hold the reason why only the head is kept. Older versions read "too large".
const UNFIT_REASON_SHIFT: u8 = 6;

/// Encodes and decodes the records of one inbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    marker: [u8; MARKER_BYTES],
    seed: u32,
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) offset: Offset,
    /// Bytes of the whole record, frame included.
    pub(super) record_bytes: u64,
    checksum: u32,
}

impl Codec {
    pub(super) fn new(id: &InboxId) -> Codec {
        let [m0, m1, m2, m3, s0, s1, s2, s3, ..] = *id.bytes();
        Codec { marker: [m0, m1, m2, m3], seed: u32::from_le_bytes([s0, s1, s2, s3]) }
    }

    pub(super) fn marker(self) -> [u8; MARKER_BYTES] {
        self.marker
    }

    /// Replaces the content of `out` with an encoded record. A payload above `payload_limit` bytes is reduced
    /// to head, length and hash.
    pub(super) fn encode(
        self,
        out: &mut Vec<u8>,
        offset: Offset,
        publication: &Publication<'_>,
        received_at_us: i64,
        payload_limit: usize,
    ) {
        let topic = sendable(publication.topic);
        let delivery = publication.delivery;
        // A record without identifiers is routed by its topic, which is better than an incomplete list.
        let ids = Some(delivery.subscription_ids.as_slice())
            .filter(|ids| u16::try_from(ids.len()).is_ok())
            .unwrap_or_default();
        let unfit = publication.unfit.or_else(|| too_large(publication.payload, payload_limit));
        let payload = match unfit {
            Some(_) => publication.payload.get(..MAX_HEAD_BYTES).unwrap_or(publication.payload),
            None => publication.payload,
        };
        let properties = kept(&delivery.user_properties);

        out.clear();
        out.extend_from_slice(&self.marker);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&received_at_us.to_le_bytes());
        out.push(flags(delivery, unfit, !properties.is_empty()));
        out.extend_from_slice(&delivery.packet_id.to_le_bytes());
        out.extend_from_slice(&length16(ids.len()).to_le_bytes());
        out.extend_from_slice(&length16(topic.len()).to_le_bytes());
        for id in ids {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(topic.as_bytes());
        write_properties(out, properties);
        if let Some(unfit) = unfit {
            out.extend_from_slice(&unfit.length.to_le_bytes());
            out.extend_from_slice(&unfit.sha256);
        }
        out.extend_from_slice(payload);
        self.seal(out);
    }

    /// Writes length and checksum into the frame.
    fn seal(self, record: &mut [u8]) {
        let body_bytes = u32::try_from(record.len() - FRAME_BYTES).unwrap_or(u32::MAX);
        record[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        let checksum = self.checksum(record);
        record[8..12].copy_from_slice(&checksum.to_le_bytes());
    }

    fn checksum(self, record: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed);
        hasher.update(&record[4..8]);
        hasher.update(&record[12..]);
        hasher.finalize()
    }

    /// Reads the frame at the start of `bytes`. Returns `None` if there is no frame.
    pub(super) fn frame(self, bytes: &[u8]) -> Option<Frame> {
        let mut fields = RecordFields(bytes);
        if fields.array()? != self.marker {
            return None;
        }
        let body_bytes = u32::from_le_bytes(fields.array()?);
        let checksum = u32::from_le_bytes(fields.array()?);
        let offset = u64::from_le_bytes(fields.array()?);
        Some(Frame { offset, record_bytes: FRAME_BYTES as u64 + u64::from(body_bytes), checksum })
    }

    /// Returns whether the checksum of `record`, which has the length of its frame, is correct.
    pub(super) fn is_intact(self, frame: &Frame, record: &[u8]) -> bool {
        record.len() >= FRAME_BYTES && self.checksum(record) == frame.checksum
    }
}

/// Decodes an intact record. Returns `None` only for a record written by a defective program.
pub(super) fn decode(record: &[u8]) -> Option<Record> {
    let mut fields = RecordFields(record);
    fields.take(FRAME_BYTES - 8)?;
    let offset = u64::from_le_bytes(fields.array()?);
    let received_at_us = i64::from_le_bytes(fields.array()?);
    let [flags] = fields.array()?;
    let packet_id = u16::from_le_bytes(fields.array()?);
    let ids = usize::from(u16::from_le_bytes(fields.array()?));
    let topic_bytes = usize::from(u16::from_le_bytes(fields.array()?));
    let (ids, _) = fields.take(ids * 4)?.as_chunks::<4>();
    let topic = text(fields.take(topic_bytes)?)?;
    let user_properties =
        if flags & USER_PROPERTIES == 0 { Vec::new() } else { read_properties(&mut fields)? };
    let body = if flags & HEAD_ONLY == 0 {
        Body::Whole(fields.0.to_vec())
    } else {
        let reason = UnfitReason::from_code(flags >> UNFIT_REASON_SHIFT)?;
        let length = u64::from_le_bytes(fields.array()?);
        let unfit = Unfit { reason, length, sha256: fields.array()? };
        Body::Head { unfit, head: fields.0.to_vec() }
    };
    let delivery = DeliveryFacts {
        qos: flags & QOS_BITS,
        packet_id,
        duplicate: flags & DUPLICATE != 0,
        retained: flags & RETAINED != 0,
        subscription_ids: ids.iter().map(|id| u32::from_le_bytes(*id)).collect(),
        user_properties,
    };
    Some(Record { offset, received_at_us, topic, body, delivery })
}

/// The unread bytes of a record.
struct RecordFields<'a>(&'a [u8]);

impl<'a> RecordFields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

/// Returns the first properties up to the size limit, because a publisher may send megabytes of them.
fn kept(properties: &[(String, String)]) -> &[(String, String)] {
    let mut bytes = 0;
    let fitting = properties.iter().take_while(|(name, value)| {
        // The two length fields count as well, which bounds the number of empty properties.
        bytes += name.len() + value.len() + 4;
        bytes <= MAX_USER_PROPERTIES_BYTES
    });
    properties.get(..fitting.count()).unwrap_or_default()
}

/// Writes the properties, or nothing if there are none.
fn write_properties(out: &mut Vec<u8>, properties: &[(String, String)]) {
    if properties.is_empty() {
        return;
    }
    out.extend_from_slice(&length16(properties.len()).to_le_bytes());
    for (name, value) in properties {
        out.extend_from_slice(&length16(name.len()).to_le_bytes());
        out.extend_from_slice(&length16(value.len()).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
}

fn read_properties(fields: &mut RecordFields<'_>) -> Option<Vec<(String, String)>> {
    let count = u16::from_le_bytes(fields.array()?);
    let property = |_| {
        let name_bytes = usize::from(u16::from_le_bytes(fields.array()?));
        let value_bytes = usize::from(u16::from_le_bytes(fields.array()?));
        Some((text(fields.take(name_bytes)?)?, text(fields.take(value_bytes)?)?))
    };
    (0..count).map(property).collect()
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn flags(delivery: &DeliveryFacts, unfit: Option<Unfit>, user_properties: bool) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    (delivery.qos & QOS_BITS)
        | bit(delivery.duplicate, DUPLICATE)
        | bit(delivery.retained, RETAINED)
        | bit(unfit.is_some(), HEAD_ONLY)
        | unfit.map_or(0, |unfit| unfit.reason.code() << UNFIT_REASON_SHIFT)
        | bit(user_properties, USER_PROPERTIES)
}

fn too_large(payload: &[u8], limit: usize) -> Option<Unfit> {
    (payload.len() > limit).then(|| Unfit {
        reason: UnfitReason::TooLarge,
        length: payload.len() as u64,
        sha256: Sha256::digest(payload).into(),
    })
}

/// Truncates a topic that is longer than MQTT allows. No broker sends one, and a refusal would block the
/// intake.
fn sendable(topic: &str) -> &str {
    topic.get(..topic.floor_char_boundary(MAX_TOPIC_BYTES)).unwrap_or(topic)
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codec() -> Codec {
        Codec::new(&InboxId::from_bytes(*b"0123456789abcdef"))
    }

    fn delivery() -> impl Strategy<Value = DeliveryFacts> {
        let ids = prop::collection::vec(any::<u32>(), 0..4);
        let properties = prop::collection::vec((".{0,9}", ".{0,9}"), 0..4);
        (0..3_u8, any::<u16>(), any::<bool>(), any::<bool>(), ids, properties).prop_map(
            |(qos, packet_id, duplicate, retained, subscription_ids, user_properties)| DeliveryFacts {
                qos,
                packet_id,
                duplicate,
                retained,
                subscription_ids,
                user_properties,
            },
        )
    }

    fn encoded(
        offset: Offset,
        topic: &str,
        payload: &[u8],
        delivery: &DeliveryFacts,
        limit: usize,
    ) -> Vec<u8> {
        let mut out = vec![7; 9];
        codec().encode(&mut out, offset, &Publication { topic, payload, delivery, unfit: None }, -5, limit);
        out
    }

    proptest! {
        #[test]
        fn a_record_is_read_back(
            offset: u64, topic in ".{0,40}", payload in prop::collection::vec(any::<u8>(), 0..300), delivery in delivery()
        ) {
            let bytes = encoded(offset, &topic, &payload, &delivery, 300);
            let frame = codec().frame(&bytes).unwrap();
            prop_assert_eq!(frame.record_bytes, bytes.len() as u64);
            prop_assert!(codec().is_intact(&frame, &bytes));
            prop_assert_eq!(
                decode(&bytes).unwrap(),
                Record { offset, received_at_us: -5, topic, body: Body::Whole(payload), delivery }
            );
        }

        #[test]
        fn any_flipped_bit_is_detected(byte in 0..60_usize, bit in 0..8) {
            let mut bytes = encoded(77, "plant/1", &[9; 30], &DeliveryFacts::default(), 100);
            let length = bytes.len();
            bytes[byte % length] ^= 1_u8 << bit;
            let intact = codec().frame(&bytes).is_some_and(|frame| {
                frame.record_bytes == bytes.len() as u64 && codec().is_intact(&frame, &bytes)
            });
            prop_assert!(!intact);
        }
    }

    #[test]
    fn a_large_payload_becomes_head_and_hash() {
        let payload = vec![b'x'; MAX_HEAD_BYTES + 10];
        let bytes = encoded(1, "t", &payload, &DeliveryFacts::default(), MAX_HEAD_BYTES + 9);
        let expected = Body::Head {
            head: vec![b'x'; MAX_HEAD_BYTES],
            unfit: Unfit {
                reason: UnfitReason::TooLarge,
                length: MAX_HEAD_BYTES as u64 + 10,
                sha256: Sha256::digest(&payload).into(),
            },
        };
        assert_eq!(decode(&bytes).unwrap().body, expected);
    }

    /// A record in format 1.
    #[test]
    fn records_without_properties_keep_their_encoding() {
        const FORMAT_1: &[u8] = b"0123\x16\x00\x00\x00C\xc4\xad\xe3M\x00\x00\x00\x00\x00\x00\x00\
            \xfb\xff\xff\xff\xff\xff\xff\xff\x094\x12\x01\x00\x01\x00,\x01\x00\x00t{}";
        let delivery = DeliveryFacts {
            qos: 1,
            packet_id: 0x1234,
            retained: true,
            subscription_ids: vec![300],
            ..DeliveryFacts::default()
        };
        assert_eq!(encoded(77, "t", b"{}", &delivery, 10), FORMAT_1);
        let frame = codec().frame(FORMAT_1).unwrap();
        assert!(codec().is_intact(&frame, FORMAT_1));
        assert_eq!(decode(FORMAT_1).unwrap().delivery, delivery);
    }

    #[test]
    fn excess_user_properties_are_dropped() {
        let with = |user_properties| DeliveryFacts { user_properties, ..DeliveryFacts::default() };
        let kept = |properties: &[(String, String)]| {
            let bytes = encoded(1, "t", b"{}", &with(properties.to_vec()), 10);
            let record = decode(&bytes).unwrap();
            assert_eq!(record.body, Body::Whole(b"{}".to_vec()));
            let kept = record.delivery.user_properties;
            assert_eq!(kept, properties[..kept.len()]);
            kept.len()
        };
        let property = |value: &str| ("key".to_owned(), value.to_owned());
        assert_eq!(kept(&[property("1"), property(&"x".repeat(1_000_000)), property("2")]), 1);
        assert_eq!(kept(&vec![property("1"); 100_000]), MAX_USER_PROPERTIES_BYTES / 8);
        assert_eq!(kept(&vec![(String::new(), String::new()); 100_000]), MAX_USER_PROPERTIES_BYTES / 4);
    }

    #[test]
    fn a_record_of_another_inbox_is_rejected() {
        let bytes = encoded(1, "t", b"{}", &DeliveryFacts::default(), 10);
        assert_eq!(Codec::new(&InboxId::from_bytes([3; 16])).frame(&bytes), None);
    }

    #[test]
    fn a_long_topic_is_cut_at_a_character() {
        let topic = "ä".repeat(MAX_TOPIC_BYTES);
        let bytes = encoded(1, &topic, b"", &DeliveryFacts::default(), 10);
        assert_eq!(decode(&bytes).unwrap().topic.len(), MAX_TOPIC_BYTES - 1);
    }
}
