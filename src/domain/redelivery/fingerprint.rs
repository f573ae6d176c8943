//! A message as the guard sees it: its packet identifier and hashes of what it holds.

use sha2::{Digest, Sha256};

use crate::domain::message::{Body, DeliveryFacts, Publication, Record};

/// A message of `QoS` 1 or 2, reduced to what tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// As the broker numbered it; 0 where it could not be read.
    pub packet_id: u16,
    /// The broker says that it may have sent it before.
    pub duplicate: bool,
    /// What it holds.
    pub content: Content,
}

/// What is equal in two deliveries of the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// 64 bits of the topic's SHA-256.
    pub topic: u64,
    /// 128 bits of the payload's SHA-256.
    pub payload: u128,
    /// Sent as a retained message.
    pub retained: bool,
}

impl Fingerprint {
    /// Of a message as the broker hands it over; `None` at `QoS` 0, which is never sent again.
    #[must_use]
    pub fn from_publication(publication: &Publication<'_>) -> Option<Fingerprint> {
        let payload = || {
            let sha256 = publication.unfit.map(|unfit| unfit.sha256);
            leading_bits(sha256.unwrap_or_else(|| Sha256::digest(publication.payload).into()))
        };
        Fingerprint::new(publication.delivery, publication.topic, payload)
    }

    /// Of a message in the inbox: equal to what it was when it came.
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
