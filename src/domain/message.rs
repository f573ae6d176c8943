//! A message as the broker delivers it and as the inbox stores it.

/// Position of a record in an inbox. Offsets ascend, may have gaps, and are never reused.
pub type Offset = u64;

/// Size of the offset range of one gateway start. Each range begins at a multiple of it.
pub const OFFSETS_PER_START: Offset = 1 << 40;

/// Primary key of a row in `flows`.
pub type FlowId = i64;

/// Identifier of an MQTT v5 subscription (1 to 268,435,455).
pub type SubscriptionId = u32;

/// A message from the broker that has no offset yet.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// Topic name it was published to.
    pub topic: &'a str,
    /// Payload, byte for byte; only its beginning if the message is unfit.
    pub payload: &'a [u8],
    /// The cause if the MQTT client has found the message unfit for any flow.
    pub unfit: Option<Unfit>,
    /// Facts of its delivery.
    pub delivery: &'a DeliveryFacts,
}

/// Facts of a delivery that routing and duplicate detection need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFacts {
    /// Quality of service of this delivery, 0 to 2.
    pub qos: u8,
    /// MQTT packet identifier; 0 at `QoS` 0.
    pub packet_id: u16,
    /// The DUP flag: the broker may have sent this message before.
    pub duplicate: bool,
    /// The RETAIN flag: the message is older than the subscription.
    pub retained: bool,
    /// Identifiers of the matching MQTT 5 subscriptions; empty if the broker sends none.
    pub subscription_ids: Vec<SubscriptionId>,
    /// The first MQTT 5 user properties, in order, up to [`MAX_USER_PROPERTIES_BYTES`].
    pub user_properties: Vec<(String, String)>,
}

/// Maximum size of the kept user properties: bytes of names and values. They are neither stored nor posted, and serve
/// only as message keys, which are short.
pub const MAX_USER_PROPERTIES_BYTES: usize = 16 * 1024;

/// A message in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position in the inbox.
    pub offset: Offset,
    /// When it was appended: microseconds since 1970, UTC.
    pub received_at_us: i64,
    /// Topic name it was published to.
    pub topic: String,
    /// The payload.
    pub body: Body,
    /// Facts of its delivery.
    pub delivery: DeliveryFacts,
}

/// Payload of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The payload, byte for byte.
    Whole(Vec<u8>),
    /// The beginning of the payload of an unfit message.
    Head {
        /// The first bytes, up to [`MAX_HEAD_BYTES`].
        head: Vec<u8>,
        /// The cause, and facts of the whole payload.
        unfit: Unfit,
    },
}

/// Maximum size of the kept payload of an unfit message.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The cause why a message reaches no flow, and facts of its truncated payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// The cause.
    pub reason: UnfitReason,
    /// Length of the whole payload in bytes.
    pub length: u64,
    /// SHA-256 of the whole payload.
    pub sha256: [u8; 32],
}

/// A cause to reject a message before its payload is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnfitReason {
    /// The payload is longer than allowed.
    TooLarge,
    /// The topic is not UTF-8, or contains NUL.
    TopicNotUtf8,
    /// The PUBLISH packet breaks another rule of MQTT.
    Malformed,
}

impl UnfitReason {
    /// Two-bit code in the format of the inbox.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::TooLarge => 0,
            Self::TopicNotUtf8 => 1,
            Self::Malformed => 2,
        }
    }

    /// Returns the reason with this [`code`](Self::code).
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::TooLarge, Self::TopicNotUtf8, Self::Malformed].into_iter().find(|reason| reason.code() == code)
    }
}

impl Body {
    /// The kept bytes of the payload.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Head { head: bytes, .. } => bytes,
        }
    }
}
