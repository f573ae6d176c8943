//! What lives in a running gateway.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::waits::WaitStatus;
use crate::domain::posting::breaker::BreakerState;
use crate::observe::{
    ActorLoad, InboxReading, OutboxReading, Snapshot, Telemetry, timestamp, whole_milliseconds,
};

/// A running gateway.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GatewayStatus {
    /// When the process started.
    pub started_at: String,
    /// Whether it accepts messages.
    pub ready: bool,
    /// Why not, as in `/health/ready`.
    pub unready: Vec<UnreadyStatus>,
    /// Its connection to a broker.
    pub broker: BrokerStatus,
    /// Whether its last statements reached the database; null before the first one.
    pub database_reachable: Option<bool>,
    /// Its inbox; null until it is open.
    pub inbox: Option<InboxStatus>,
    /// The posts that it has to make; null until they are counted.
    pub outbox: Option<OutboxStatus>,
    /// Breakers of endpoints that are not closed.
    pub breakers: Vec<BreakerStatus>,
    /// Its actors.
    pub actors: Vec<ActorStatus>,
    /// Its actors that have waited for rows for more than two seconds.
    pub waits: Vec<WaitStatus>,
}

/// A reason for not accepting messages.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UnreadyStatus {
    /// The reason, a keyword.
    pub reason: String,
    /// Since when.
    pub since: String,
}

/// A connection to a broker.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct BrokerStatus {
    /// Whether it is connected; null before the first attempt.
    pub connected: Option<bool>,
    /// Since when.
    pub since: Option<String>,
    /// `host:port` of the broker to which it is connected.
    pub address: Option<String>,
}

/// The log between broker and database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxStatus {
    /// Its size.
    pub bytes: u64,
    /// Its maximum size.
    pub max_bytes: u64,
    /// Messages that are not in the database yet.
    pub waiting_messages: u64,
    /// When the oldest of them was received.
    pub oldest_at: Option<String>,
}

/// Posts that a gateway has to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxStatus {
    /// Their number.
    pub posts: u64,
    /// Age of the oldest.
    pub oldest_age_seconds: u64,
    /// Age at which a post becomes a dead letter.
    pub max_age_seconds: u64,
}

/// A breaker that holds posts back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    /// Scheme, host and port of the endpoints.
    pub origin: String,
    /// `open` or `half_open`.
    pub state: String,
    /// Since when.
    pub since: String,
}

/// An actor and its mailbox.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActorStatus {
    /// Its name, as in the log.
    pub actor: String,
    /// Its state.
    pub state: String,
    /// Since when.
    pub since: String,
    /// Messages that wait or are being handled.
    pub depth: usize,
    /// Capacity of the mailbox.
    pub capacity: usize,
    /// Messages that it handled in a second of the last minute.
    pub handled_per_second: f64,
    /// Milliseconds that 99 % of its messages of the last minute waited at most; null without messages. A minute also
    /// stands for longer times.
    pub wait_p99_ms: Option<f64>,
    /// Milliseconds that 99 % of its messages of the last minute were handled in; null without messages.
    pub handle_p99_ms: Option<f64>,
    /// Milliseconds for which it has been handling its present message; 0 if it has none.
    pub in_hand_ms: u64,
    /// Number of restarts.
    pub restarts: u64,
}

impl GatewayStatus {
    /// The state of this process.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let unready: Vec<UnreadyStatus> = telemetry
            .unready_reasons()
            .into_iter()
            .map(|unready| UnreadyStatus {
                reason: unready.reason.as_str().to_owned(),
                since: timestamp(unready.since),
            })
            .collect();
        let broker = &telemetry.metrics.broker;
        let snapshot = telemetry.snapshot();
        Self {
            started_at: timestamp(telemetry.started_at()),
            ready: unready.is_empty(),
            unready,
            broker: BrokerStatus {
                connected: broker.is_connected(),
                since: broker.since().map(timestamp),
                address: broker.address().map(|address| address.to_string()),
            },
            database_reachable: telemetry.metrics.database.is_up(),
            inbox: telemetry.inbox().map(InboxStatus::from),
            outbox: snapshot.and_then(Snapshot::outbox).map(OutboxStatus::from),
            breakers: BreakerStatus::holding(telemetry),
            actors: telemetry.actor_loads().into_iter().map(ActorStatus::from).collect(),
            waits: WaitStatus::all(telemetry),
        }
    }
}

impl BreakerStatus {
    /// The breakers of this process that are not closed.
    #[must_use]
    pub fn holding(telemetry: &Telemetry) -> Vec<Self> {
        let readings = telemetry.metrics.endpoints.read().into_iter();
        let breakers = readings.filter_map(|(origin, reading)| Some((origin, reading.breaker?)));
        let holding = breakers.filter(|(_, (state, _))| *state != BreakerState::Closed);
        let status = |(origin, (state, since)): (String, (BreakerState, SystemTime))| Self {
            origin,
            state: state.as_str().to_owned(),
            since: timestamp(since),
        };
        holding.map(status).collect()
    }
}

impl From<InboxReading> for InboxStatus {
    fn from(inbox: InboxReading) -> Self {
        Self {
            bytes: inbox.bytes,
            max_bytes: inbox.max_bytes,
            waiting_messages: inbox.uncommitted_records,
            oldest_at: inbox.oldest_uncommitted.map(timestamp),
        }
    }
}

impl From<OutboxReading> for OutboxStatus {
    fn from(outbox: OutboxReading) -> Self {
        Self {
            posts: outbox.depth,
            oldest_age_seconds: outbox.oldest_age.as_secs(),
            max_age_seconds: outbox.max_age.as_secs(),
        }
    }
}

impl From<ActorLoad> for ActorStatus {
    fn from(ActorLoad { actor, handled_per_second, wait_p99, handle_p99 }: ActorLoad) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            actor: actor.actor,
            state: actor.state.to_owned(),
            since: timestamp(actor.since),
            depth: actor.depth,
            capacity: actor.capacity,
            handled_per_second,
            wait_p99_ms: wait_p99.map(milliseconds),
            handle_p99_ms: handle_p99.map(milliseconds),
            in_hand_ms: whole_milliseconds(actor.age),
            restarts: actor.restarts.iter().map(|(_, count)| count).sum(),
        }
    }
}
