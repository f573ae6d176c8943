//! The fingerprint of a message: its packet identifier and hashes of its content.

use sha2::{Digest, Sha256};

use crate::domain::message::{Body, DeliveryFacts, Publication, Record};

/// Identifying features of a message of `QoS` 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Packet identifier assigned by the broker; 0 if it could not be read.
    pub packet_id: u16,
    /// DUP flag: the broker may have sent the message before.
    pub duplicate: bool,
    /// Hashes of the content.
    pub content: Content,
}

/// Features that are equal in all deliveries of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// 64 bits of the topic's SHA-256.
    pub topic: u64,
    /// 128 bits of the payload's SHA-256.
    pub payload: u128,
    /// Retained flag.
    pub retained: bool,
}

impl Fingerprint {
    /// Returns the fingerprint of a received message, or `None` at `QoS` 0, which is never redelivered.
    #[must_use]
    pub fn from_publication(publication: &Publication<'_>) -> Option<Fingerprint> {
        let payload = || {
            let sha256 = publication.unfit.map(|unfit| unfit.sha256);
            leading_bits(sha256.unwrap_or_else(|| Sha256::digest(publication.payload).into()))
        };
        Fingerprint::new(publication.delivery, publication.topic, payload)
    }

    /// Returns the fingerprint of a stored message, equal to its fingerprint on receipt.
    #[must_use]
    pub fn from_record(record: &Record) -> Option<Fingerprint> {
        let payload = || match &record.body {
            Body::Whole(payload) => leading_bits(Sha256::digest(payload).into()),
            Body::Head { unfit, .. } => leading_bits(unfit.sha256),
        };
        Fingerprint::new(&record.delivery, &record.topic, payload)
    }

    fn new(delivery: &DeliveryFacts, topic: &str, payload: impl FnOnce() -> u128) -> Option<Fingerprint> {
        if delivery.qos == 0 {
            return None;
        }
        let topic = leading_bits(Sha256::digest(topic).into()) >> 64;
        Some(Fingerprint {
            packet_id: delivery.packet_id,
            duplicate: delivery.duplicate,
            content: Content {
                topic: u64::try_from(topic).unwrap_or(u64::MAX),
                payload: payload(),
                retained: delivery.retained,
            },
        })
    }
}

fn leading_bits(hash: [u8; 32]) -> u128 {
    let (halves, _) = hash.as_chunks::<16>();
    halves.first().map_or(0, |half| u128::from_be_bytes(*half))
}
