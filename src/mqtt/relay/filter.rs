//! Filter for the stream from the broker: passes on only complete packets that paho can parse.
//!
//! ```text
//!   bytes ──▶ cut into packets ──▶ unchanged ────────────────────────────▶ paho
//!                  │                   ▲
//!                  ├─ invalid PUBLISH ─┴─ replaced by a `Rejected`
//!                  ├─ long PUBLISH ────── beginning kept, remainder counted and hashed; then replaced
//!                  └─ other invalid packet ─ the connection ends with the reason
//! ```
//!
//! Memory stays bounded for any input.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::coalescing::MessageCount;
use super::packet::{FixedHeader, Malformed, PacketType, Publish, check};
use super::rejected::{Rejected, Token, lossy_topic};
use crate::domain::broker::MqttVersion;
use crate::domain::message::{MAX_HEAD_BYTES, Unfit, UnfitReason};

/// Maximum size of packets other than PUBLISH, far above reason codes and strings.
const MAX_CONTROL_BYTES: usize = 128 * 1024;

/// Maximum size of a PUBLISH without its payload: a topic of 64 KiB, and the same for properties.
const MAX_PUBLISH_HEAD_BYTES: usize = 128 * 1024;

/// Time of the last PINGRESP of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct LastPing(Arc<Mutex<Option<Instant>>>);

impl LastPing {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the broker has answered a ping within `time`.
    pub(super) fn is_within(&self, time: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| last.elapsed() < time)
    }
}

#[derive(Debug)]
pub(super) struct Filter {
    version: MqttVersion,
    token: Token,
    /// Maximum body size of a PUBLISH that is passed on.
    max_publish_bytes: usize,
    messages: MessageCount,
    last_ping: LastPing,
    /// Start of an incomplete packet.
    partial: Vec<u8>,
    is_connected: bool,
    skipping: Option<Skipping>,
}

/// Long PUBLISH with a remainder that is hashed but not kept.
#[derive(Debug)]
struct Skipping {
    flags: u8,
    publish: Publish,
    rejected: Rejected,
    payload_hash: Sha256,
    remaining: usize,
}

impl Filter {
    pub(super) fn new(
        version: MqttVersion,
        token: Token,
        max_payload_bytes: usize,
        messages: MessageCount,
        last_ping: LastPing,
    ) -> Filter {
        Filter {
            version,
            token,
            max_publish_bytes: max_payload_bytes.saturating_add(MAX_PUBLISH_HEAD_BYTES),
            messages,
            last_ping,
            partial: Vec::new(),
            is_connected: false,
            skipping: None,
        }
    }

    /// Whether the broker has answered CONNECT.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Processes received bytes, and appends the packets for paho to `out`.
    pub(super) fn process(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        if !self.partial.is_empty() {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(bytes);
            let used = self.process_packets(&whole, out)?;
            if used < whole.len() {
                whole.drain(..used);
                self.partial = whole;
            }
            return Ok(());
        }
        bytes = bytes.get(self.process_packets(bytes, out)?..).unwrap_or_default();
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Processes complete packets. Returns the number of processed bytes.
    fn process_packets(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut rest = bytes;
        loop {
            if self.skipping.is_some() {
                rest = self.skip(rest, out);
            }
            let Some(header) = FixedHeader::parse(rest, self.version)? else { break };
            self.check_order(header.kind)?;
            let used = if header.kind == PacketType::Publish && header.body_bytes > self.max_publish_bytes {
                self.start_skipping(header, rest)
            } else {
                self.process_packet(header, rest, out)?
            };
            match rest.get(used..) {
                Some(next) if used > 0 => rest = next,
                _ => break,
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn check_order(&self, kind: PacketType) -> Result<(), Malformed> {
        if (kind == PacketType::ConnAck) == self.is_connected && kind != PacketType::Disconnect {
            return Err(Malformed::Order(kind.name()));
        }
        Ok(())
    }

    /// Processes one packet. Returns its size, or 0 while it is incomplete.
    fn process_packet(
        &mut self,
        header: FixedHeader,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        if header.kind != PacketType::Publish && header.body_bytes > MAX_CONTROL_BYTES {
            return Err(Malformed::TooLong { kind: header.kind.name(), bytes: header.body_bytes });
        }
        let Some(packet) = bytes.get(..header.packet_bytes()) else { return Ok(0) };
        let body = packet.get(header.bytes..).unwrap_or_default();
        match header.kind {
            PacketType::Publish => {
                self.messages.add_one();
                let publish = Publish::parse(header.flags, body, self.version);
                match unfit(&publish) {
                    None => out.extend_from_slice(packet),
                    Some(reason) => self.reject(header.flags, &publish, reason, body, out),
                }
            }
            kind => {
                check(header, body, self.version)?;
                self.is_connected |= kind == PacketType::ConnAck;
                if kind == PacketType::PingResp {
                    self.last_ping.note();
                }
                out.extend_from_slice(packet);
            }
        }
        Ok(packet.len())
    }

    fn reject(&self, flags: u8, publish: &Publish, reason: UnfitReason, body: &[u8], out: &mut Vec<u8>) {
        // If the start of the payload is unknown, the dead letter shows the whole body.
        let payload = body.get(publish.payload_at.unwrap_or(0)..).unwrap_or_default();
        let rejected = Rejected {
            unfit: Unfit { reason, length: payload.len() as u64, sha256: Sha256::digest(payload).into() },
            topic: lossy_topic(body.get(publish.topic.clone()).unwrap_or_default()),
            head: payload.get(..MAX_HEAD_BYTES).unwrap_or(payload).to_vec(),
        };
        out.extend_from_slice(&rejected.to_packet(flags, publish, &self.token, self.version));
    }

    /// Starts to skip a long PUBLISH once topic, properties and the beginning of the payload are there. Returns 0 until
    /// then.
    fn start_skipping(&mut self, header: FixedHeader, bytes: &[u8]) -> usize {
        let kept = header.body_bytes.min(MAX_PUBLISH_HEAD_BYTES + MAX_HEAD_BYTES);
        let Some(body) = bytes.get(header.bytes..header.bytes + kept) else { return 0 };
        let publish = Publish::parse(header.flags, body, self.version);
        let payload_at = publish.payload_at.unwrap_or(0);
        let payload = body.get(payload_at..).unwrap_or_default();
        let rejected = Rejected {
            unfit: Unfit {
                reason: unfit(&publish).unwrap_or(UnfitReason::TooLarge),
                length: (header.body_bytes - payload_at) as u64,
                sha256: [0; 32],
            },
            topic: lossy_topic(body.get(publish.topic.clone()).unwrap_or_default()),
            head: payload.get(..MAX_HEAD_BYTES).unwrap_or(payload).to_vec(),
        };
        let payload_hash = Sha256::new_with_prefix(payload);
        let remaining = header.body_bytes - body.len();
        self.skipping = Some(Skipping { flags: header.flags, publish, rejected, payload_hash, remaining });
        header.bytes + body.len()
    }

    /// Skips the long PUBLISH. Returns the bytes after its end.
    fn skip<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(mut skipping) = self.skipping.take() else { return bytes };
        let (skipped, rest) = bytes.split_at(skipping.remaining.min(bytes.len()));
        skipping.payload_hash.update(skipped);
        skipping.remaining -= skipped.len();
        if skipping.remaining > 0 {
            self.skipping = Some(skipping);
        } else {
            let Skipping { flags, publish, mut rejected, payload_hash, .. } = skipping;
            rejected.unfit.sha256 = payload_hash.finalize().into();
            out.extend_from_slice(&rejected.to_packet(flags, &publish, &self.token, self.version));
        }
        rest
    }
}

fn unfit(publish: &Publish) -> Option<UnfitReason> {
    match publish.payload_at {
        _ if !publish.topic_is_text && !publish.topic.is_empty() => Some(UnfitReason::TopicNotUtf8),
        None => Some(UnfitReason::Malformed),
        Some(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::qos;
    use super::super::rejected::{push_length, push_prefixed};
    use super::*;

    pub(super) const LIMIT: usize = 1_000;

    const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

    pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        push_length(&mut packet, body.len());
        packet.extend_from_slice(body);
        packet
    }

    /// Builds a PUBLISH of MQTT 5 with packet identifier 7, except at `QoS` 0.
    pub(super) fn publish(flags: u8, topic: &[u8], properties: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        push_prefixed(&mut body, topic);
        if qos(flags) > 0 {
            body.extend_from_slice(&[0, 7]);
        }
        push_length(&mut body, properties.len());
        body.extend_from_slice(properties);
        body.extend_from_slice(payload);
        packet(0x30 | flags, &body)
    }

    fn filter() -> Filter {
        let mut filter =
            Filter::new(MqttVersion::V5, Token::new(), LIMIT, MessageCount::default(), LastPing::default());
        filter.process(CONNACK, &mut Vec::new()).unwrap();
        filter
    }

    fn passed(filter: &mut Filter, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        filter.process(bytes, &mut out).unwrap();
        out
    }

    #[test]
    fn answered_pings_are_noted() {
        let (mut filter, recently) = (filter(), Duration::from_hours(1));
        assert!(!filter.last_ping.is_within(recently));
        passed(&mut filter, &packet(0xd0, &[]));
        assert!(filter.last_ping.is_within(recently));
        assert!(!filter.last_ping.is_within(Duration::ZERO));
    }

    /// Returns the rejected message in the only packet for paho, and the rest of that packet.
    fn rejected(filter: &Filter, out: &[u8]) -> (Rejected, u8, Publish) {
        let header = FixedHeader::parse(out, MqttVersion::V5).unwrap().unwrap();
        assert_eq!((header.kind, header.packet_bytes()), (PacketType::Publish, out.len()));
        let body = &out[header.bytes..];
        let publish = Publish::parse(header.flags, body, MqttVersion::V5);
        assert_eq!(&body[publish.topic.clone()], filter.token.as_str().as_bytes());
        (Rejected::decode(&body[publish.payload_at.unwrap()..]).unwrap(), header.flags, publish)
    }

    #[test]
    fn valid_packets_pass_unchanged() {
        let user_property = [0x26, 0, 1, b'k', 0, 1, b'v', 0x0b, 5];
        let packets = [
            publish(0b0010, b"plant/1", &[], b"{}"),
            publish(0b0000, "\u{b0}C".as_bytes(), &user_property, &[0, 0xff]),
            packet(0x40, &[0, 1]),
            packet(0x90, &[0, 1, 0, 1]),
            packet(0xb0, &[0, 1, 0, 0]),
            packet(0xd0, &[]),
            packet(0xe0, &[0x8e]),
        ];
        for sound in packets {
            assert_eq!(passed(&mut filter(), &sound), sound);
        }
    }

    #[test]
    fn invalid_topics_are_rejected() {
        for topic in [b"a\0b".as_slice(), b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"] {
            let mut filter = filter();
            let out = passed(&mut filter, &publish(0b1011, topic, &[0x0b, 9], b"payload"));
            let (rejected, flags, publish) = rejected(&filter, &out);
            assert_eq!(rejected.unfit.reason, UnfitReason::TopicNotUtf8);
            assert_eq!((rejected.unfit.length, rejected.head.as_slice()), (7, b"payload".as_slice()));
            assert_eq!(<[u8; 32]>::from(Sha256::digest("payload")), rejected.unfit.sha256);
            assert!(rejected.topic.contains('\u{fffd}'));
            assert_eq!((flags, publish.packet_id, publish.subscription_ids), (0b1011, Some(7), vec![9]));
        }
    }

    #[test]
    fn invalid_publish_fields_are_rejected() {
        let nul = [0x26, 0, 1, 0, 0, 1, b'v'];
        let cut = [0x26, 0, 9, b'k'];
        let unknown = [0x7f, 0];
        for (bad, reason) in [
            (publish(0b0010, b"t", &nul, b"x"), UnfitReason::Malformed),
            (publish(0b0010, b"t", &cut, b"x"), UnfitReason::Malformed),
            (publish(0b0010, b"t", &unknown, b"x"), UnfitReason::Malformed),
            (publish(0b0110, b"t", &[], b"x"), UnfitReason::Malformed),
            (publish(0b0000, b"", &[0x23, 0, 1], b"x"), UnfitReason::Malformed),
            (packet(0x32, &[0, 1, b't', 0, 0, 0]), UnfitReason::Malformed),
            (packet(0x32, &[0, 9, b't']), UnfitReason::Malformed),
            (packet(0x32, &[]), UnfitReason::Malformed),
        ] {
            let mut filter = filter();
            let out = passed(&mut filter, &bad);
            assert_eq!(rejected(&filter, &out).0.unfit.reason, reason, "{bad:?}");
        }
    }

    #[test]
    fn long_messages_are_truncated_and_hashed() {
        let mut filter = filter();
        let payload: Vec<u8> = (0..900_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut out = Vec::new();
        let mut most = 0;
        for chunk in [publish(0b0010, b"long", &[], &payload), packet(0xd0, &[])].concat().chunks(1_000) {
            filter.process(chunk, &mut out).unwrap();
            most = most.max(filter.partial.capacity());
        }
        assert!(most <= 1024 * 1024);
        let (long, ping) = out.split_at(out.len() - 2);
        assert_eq!(ping, packet(0xd0, &[]));
        let (rejected, _, publish) = rejected(&filter, long);
        assert_eq!(rejected.unfit.reason, UnfitReason::TooLarge);
        assert_eq!(rejected.unfit.length, 900_000);
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&payload)), rejected.unfit.sha256);
        assert_eq!((rejected.topic.as_str(), publish.packet_id), ("long", Some(7)));
        assert_eq!(rejected.head, payload[..MAX_HEAD_BYTES]);
    }

    #[test]
    fn other_invalid_packets_end_the_connection() {
        for bad in [
            packet(0x10, &[]),
            packet(0xf0, &[0]),
            packet(0x20, &[0, 0, 0]),
            packet(0x90, &[0, 1, 0]),
            packet(0xe0, &[0x8e, 9]),
            vec![0x30, 0xff, 0xff, 0xff, 0xff],
            vec![0x90, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert!(filter().process(&bad, &mut Vec::new()).is_err(), "{bad:?}");
        }
        let mut fresh =
            Filter::new(MqttVersion::V5, Token::new(), LIMIT, MessageCount::default(), LastPing::default());
        assert!(fresh.process(&publish(0, b"t", &[], b""), &mut Vec::new()).is_err(), "before CONNACK");
    }

    #[test]
    fn tokens_in_payloads_reject_nothing() {
        let mut filter = filter();
        let theirs = publish(0b0010, Token::new().as_str().as_bytes(), &[], b"x");
        assert_eq!(passed(&mut filter, &theirs), theirs);
    }

    #[test]
    fn last_packet_for_paho_is_recognised() {
        let token = Token::new();
        for version in [MqttVersion::V5, MqttVersion::V311] {
            let packet = token.end_packet(version);
            let header = FixedHeader::parse(&packet, version).unwrap().unwrap();
            assert_eq!((header.kind, header.packet_bytes()), (PacketType::Publish, packet.len()));
            let body = &packet[header.bytes..];
            let publish = Publish::parse(header.flags, body, version);
            assert_eq!((publish.packet_id, unfit(&publish)), (None, None));
            let topic = str::from_utf8(&body[publish.topic]).unwrap();
            let payload = &body[publish.payload_at.unwrap()..];
            assert!(token.is_end(topic, payload));
            assert!(!Token::new().is_end(topic, payload));
            assert!(!token.is_end(topic, b"a rejected message"));
        }
    }

    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let topic = prop::collection::vec(any::<u8>(), 0..20);
        let properties = prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..20)];
        let payload = prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 0..200),
            1 => Just(vec![b'x'; LIMIT + MAX_PUBLISH_HEAD_BYTES + 1]),
        ];
        (0..16_u8, topic, properties, payload)
            .prop_map(|(flags, topic, properties, payload)| publish(flags, &topic, &properties, &payload))
    }

    proptest! {
        #[test]
        fn stream_boundaries_make_no_difference(
            messages in prop::collection::vec(messages(), 1..5),
            sizes in prop::collection::vec(1..5_000_usize, 1..40),
        ) {
            let stream = messages.concat();
            let mut whole = filter();
            let mut cut = Filter { token: whole.token.clone(), ..filter() };
            let expected = passed(&mut whole, &stream);
            let (mut out, mut rest, mut sizes) = (Vec::new(), stream.as_slice(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                cut.process(chunk, &mut out).unwrap();
                rest = behind;
            }
            prop_assert_eq!(out, expected);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz {
    use super::tests::{LIMIT, packet, publish};
    use super::*;
    use crate::fuzzing::{behaviour, fuzz_from};

    /// Checks that `out` holds only complete packets that paho can parse, and returns their kinds.
    fn kinds_of_valid_packets(mut out: &[u8], version: MqttVersion) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        while let Some(header) = FixedHeader::parse(out, version).unwrap() {
            let (packet, behind) = out.split_at(header.packet_bytes());
            let body = &packet[header.bytes..];
            if header.kind == PacketType::Publish {
                assert_eq!(unfit(&Publish::parse(header.flags, body, version)), None);
            }
            check(header, body, version).unwrap();
            kinds.push(header.kind.name());
            out = behind;
        }
        assert!(out.is_empty());
        kinds
    }

    #[test]
    fn fuzzed_input_yields_valid_packets() {
        let packets = [
            publish(0b0010, b"t", &[0x26, 0, 1, b'k', 0, 1, b'v', 0x0b, 5], b"{}"),
            packet(0x90, &[0, 1, 0, 1]),
            packet(0xe0, &[0x8e, 0]),
        ];
        fuzz_from("mqtt_packets", &[&packets.concat()], &["\0", "\u{26}", "t/#", "\u{b}\u{1}"], |input| {
            let mut seen = Vec::new();
            for version in [MqttVersion::V5, MqttVersion::V311] {
                let mut filter =
                    Filter::new(version, Token::new(), LIMIT, MessageCount::default(), LastPing::default());
                filter.is_connected = true;
                let mut out = Vec::new();
                // An error ends the connection. Earlier packets were passed on.
                let error = filter.process(input, &mut out).err().map(|error| error.to_string());
                let mut kinds = kinds_of_valid_packets(&out, version);
                kinds.truncate(4);
                seen.push((error, kinds));
            }
            behaviour(seen)
        });
    }
}
