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
    /// Payload, byte for byte; of an unfit message only its beginning.
    pub payload: &'a [u8],
    /// Why it reaches no flow, where the MQTT client knows already.
    pub unfit: Option<Unfit>,
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
    /// The beginning of the payload of a message that reaches no flow.
    Head {
        /// The first bytes, up to [`MAX_HEAD_BYTES`].
        head: Vec<u8>,
        /// Why, and facts of the whole payload.
        unfit: Unfit,
    },
}

/// So much of the payload of an unfit message is kept.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why a message reaches no flow, and facts of its payload, of which only the beginning is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// Why.
    pub reason: UnfitReason,
    /// Length of the whole payload in bytes.
    pub length: u64,
    /// SHA-256 of the whole payload.
    pub sha256: [u8; 32],
}

/// Why a message reaches no flow, whatever its payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnfitReason {
    /// It is longer than allowed.
    TooLarge,
    /// Its topic is not UTF-8, or holds NUL.
    TopicNotUtf8,
    /// The PUBLISH packet breaks another rule of MQTT.
    Malformed,
}

impl UnfitReason {
    /// Two bits, as the inbox keeps it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::TooLarge => 0,
            Self::TopicNotUtf8 => 1,
            Self::Malformed => 2,
        }
    }

    /// The opposite of [`code`](Self::code).
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::TooLarge, Self::TopicNotUtf8, Self::Malformed].into_iter().find(|reason| reason.code() == code)
    }
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
