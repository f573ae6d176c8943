//! The messages between the actors, in one place, to be read as one protocol.
//!
//! ```text
//!  MqttActor ── BrokerConnection, ConnectionLost ──▶ FlowRegistryActor ── AnnounceConnection ──▶ MqttActor
//!  FlowRegistryActor ── Subscribe, Unsubscribe, ResyncSubscriptions, UseServers ──▶ MqttActor
//!  FlowRegistryActor ── NewRoutingTable ──▶ RouterActor ── AnnounceTable ──▶ FlowRegistryActor
//!  paho callback ── InboxGrew ──▶ RouterActor
//!  RouterActor ── OpenLane, ProcessBatch ──▶ FlowWorkerActor ── LaneOpened ──▶ RouterActor
//!  FlowWorkerActor ── Deliver, DeliverFromTable ──▶ DeliveryActor ◀── CountOutbox ── FlowRegistryActor
//!  every actor ── ActorExited ──▶ SupervisorActor ── Drain… ──▶ all
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::Message;

use crate::domain::batch::{Batch, BatchOutcome, Lane, OpenedLane};
use crate::domain::broker::{Broker, BrokerConnection};
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::CommittedRows;
use crate::domain::routing::RoutingTable;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::InboxError;
use crate::mqtt::{MqttError, SessionEnd};
use crate::store::LaneFenced;

/// To the MQTT actor: subscribes these filters. Answered after the SUBACK.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SubscribeOutcome>, SubscribeError>")]
pub struct Subscribe {
    /// Wanted filters, each with its flows.
    pub filters: Subscriptions,
    /// Whether each filter gets an MQTT 5 subscription identifier.
    pub with_ids: bool,
}

/// Reasons for which the broker's subscriptions differ from the requested ones. Each of them may be retried.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The request could not be sent or was not answered.
    #[error(transparent)]
    Link(#[from] MqttError),
    /// The subscription identifiers cannot be stored in the inbox directory.
    #[error(transparent)]
    Book(#[from] InboxError),
}

/// The broker's answer for one filter.
#[derive(Debug, Clone)]
pub struct SubscribeOutcome {
    /// The filter.
    pub filter: String,
    /// The broker's reason code, if it refused the filter.
    pub refusal: Option<String>,
    /// The granted `QoS`, if it is lower than the requested one.
    pub lowered_to: Option<u8>,
}

/// To the MQTT actor: unsubscribes these filters. Answered after the UNSUBACK. A filter whose removal the broker
/// refuses is logged and stays in the session.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), SubscribeError>")]
pub struct Unsubscribe {
    /// Filters to remove.
    pub filters: BTreeSet<TopicFilter>,
}

/// To the MQTT actor, after each connect: makes the session hold exactly these filters. Filters whose UNSUBSCRIBE the
/// broker does not answer are logged and stay on record, except for a retiring gateway.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SubscribeOutcome>, SubscribeError>")]
pub struct ResyncSubscriptions {
    /// The broker for whose session the request was computed. It does not apply to any other broker.
    pub server: Arc<str>,
    /// All wanted filters, each with its flows.
    pub filters: Subscriptions,
    /// Whether each filter gets an MQTT 5 subscription identifier.
    pub with_ids: bool,
    /// Whether the gateway retires. It then needs the answer to each UNSUBSCRIBE.
    pub retires: bool,
}

/// To the MQTT actor: the table of brokers was reloaded.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UseServers {
    /// Brokers to connect to, in order of preference.
    pub servers: Vec<Broker>,
    /// Reasons for which rows of the table are skipped.
    pub skipped: Vec<String>,
}

/// The broker accepted the connection.
impl Message for BrokerConnection {
    type Result = ();
}

/// The connection to the broker is lost.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ConnectionLost;

/// Reloads the flows from the database now.
///
/// Sent by the registry to itself at each interval, on SIGHUP, and after a flow was changed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReloadFlows;

/// To the registry of a retiring gateway: answered when other gateways have subscribed all its flows and the broker
/// has confirmed the UNSUBSCRIBE. A closed channel means that the registry ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<HandedOver>")]
pub struct AwaitHandover;

/// State in which a retiring gateway has unsubscribed everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The broker resumed an earlier session, which may still queue messages.
    pub session_kept: bool,
    /// The subscriptions of that session are on record. If not, the session may still hold some.
    pub has_record: bool,
}

/// To the registry: the router has started and needs a routing table.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceTable;

/// To the MQTT actor: the registry has started and needs the state of the connection.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceConnection;

/// To the router: use this routing table from the next record on. Answered when it is in use.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NewRoutingTable {
    /// The routing table.
    pub table: Arc<RoutingTable>,
}

/// To the router: records are waiting.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct InboxGrew;

/// To a worker: takes over the lane (again) and reports its position.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct OpenLane;

/// To the router: a lane was taken over. Batches of older epochs are void.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LaneOpened {
    /// The lane.
    pub lane: Lane,
    /// The lane's position and its lagging flows.
    pub opened: OpenedLane,
}

/// To the router: the database lacks transactions that it had committed. Causes the lane to be taken over again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReopenLane {
    /// The lane.
    pub lane: Lane,
}

/// To a worker: writes this batch to the database. Answered after the commit, with one result per message and flow.
/// Flows that another process locks are listed in the answer; none of their messages is written.
#[derive(Debug, Message)]
#[rtype(result = "Result<BatchOutcome, LaneFenced>")]
pub struct ProcessBatch {
    /// The batch.
    pub batch: Batch,
}

/// To the delivery: posts these committed messages.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// Messages, ordered by sequence number within a flow.
    pub items: Vec<OutboxItem>,
}

/// To the delivery: loads rows of the outbox that were not handed over in memory.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeliverFromTable {
    /// Rows that a worker committed; `None` requests a sweep of the whole table.
    pub rows: Option<Vec<CommittedRows>>,
}

/// To the delivery: the flows were reloaded. Counts the waiting messages again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CountOutbox;

/// To the MQTT actor, at shutdown: disconnects.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), MqttError>")]
pub struct Disconnect {
    /// Decides whether the broker keeps the session.
    pub session_end: SessionEnd,
}

/// To the router, at shutdown: answered when the whole inbox is in the database.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DrainInbox;

/// To the delivery, at shutdown: starts no further posts. Answered when none is in flight.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DrainDelivery;

/// To the supervisor: an actor ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ActorExited {
    /// The actor.
    pub actor: super::ActorId,
    /// The generation that ended.
    pub generation: u64,
    /// Reason as a keyword.
    pub reason: super::mailbox::ExitReason,
    /// Cause as text for the log.
    pub cause: String,
}

/// To the supervisor: shuts everything down in order.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
