//! A message on its way: as the broker hands it over, and as the inbox keeps it.

/// Position of a record in an inbox. Offsets rise, have gaps, and are never used twice.
pub type Offset = u64;

/// Each start of a gateway issues offsets of a range of its own, which begins at a multiple of this.
pub const OFFSETS_PER_START: Offset = 1 << 40;

/// Primary key of a row in `flows`.
pub type FlowId = i64;

/// Identifier of an MQTT v5 subscription (1 to 268,435,455).
pub type SubscriptionId = u32;

/// What the broker handed over, before it has an offset.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// Topic name it was published to.
    pub topic: &'a str,
    /// Payload, byte for byte.
    pub payload: &'a [u8],
    /// Facts of its delivery.
    pub delivery: &'a DeliveryFacts,
}

/// How a message was delivered to us: what routing and the recognition of redelivery need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFacts {
    /// Quality of service of this delivery, 0 to 2.
    pub qos: u8,
    /// MQTT packet identifier; 0 at `QoS` 0.
    pub packet_id: u16,
    /// The broker says it may have sent this before (DUP).
    pub duplicate: bool,
    /// The broker kept this message from before the subscription.
    pub retained: bool,
    /// Identifiers of the v5 subscriptions that matched; empty where the broker names none.
    pub subscription_ids: Vec<SubscriptionId>,
    /// User properties of MQTT 5, in order: the first of them, up to [`MAX_USER_PROPERTIES_BYTES`].
    pub user_properties: Vec<(String, String)>,
}

/// So much of a message's user properties is kept, in bytes of names and values. They are no part
/// of what is stored or posted; a flow may have its key in one of them, and that is short.
pub const MAX_USER_PROPERTIES_BYTES: usize = 16 * 1024;

/// A message in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the inbox.
    pub offset: Offset,
    /// When it was appended: microseconds since 1970, UTC.
    pub received_at_us: i64,
    /// Topic name it was published to.
    pub topic: String,
    /// What was published.
    pub body: Body,
    /// Facts of its delivery.
    pub delivery: DeliveryFacts,
}

/// Payload of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The payload, byte for byte.
    Whole(Vec<u8>),
    /// The payload was above the limit: its beginning, its true length in bytes and its hash.
    Head {
        /// The first bytes.
        head: Vec<u8>,
        /// Length of the whole payload in bytes.
        length: u64,
        /// SHA-256 of the whole payload.
        sha256: [u8; 32],
    },
}

impl Body {
    /// What is kept of the payload.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Head { head: bytes, .. } => bytes,
        }
    }
}
