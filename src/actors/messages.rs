//! What the actors say to each other. All of it in one place, to be read as one protocol.
//!
//! ```text
//!  MqttActor ── ConnectionEstablished, ConnectionLost ──▶ FlowRegistryActor ── AnnounceConnection ──▶ MqttActor
//!  FlowRegistryActor ── Subscribe, Unsubscribe, ResyncSubscriptions, UseServers ──▶ MqttActor
//!  FlowRegistryActor ── NewRoutingTable ──▶ RouterActor ── AnnounceTable ──▶ FlowRegistryActor
//!  paho callback ── InboxGrew ──▶ RouterActor
//!  RouterActor ── OpenLane, ProcessBatch ──▶ FlowWorkerActor ── LaneOpened ──▶ RouterActor
//!  FlowWorkerActor ── Deliver, DeliverFromTable ──▶ DeliveryActor ◀── FollowFlows ── FlowRegistryActor
//!  every actor ── ActorExited ──▶ SupervisorActor ── Drain… ──▶ all
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::Message;

use crate::domain::batch::{Batch, BatchOutcome, Lane, OpenedLane};
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::CommittedRows;
use crate::domain::routing::RoutingTable;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::InboxError;
use crate::mqtt::{BrokerServer, MqttError, SessionEnd};
use crate::store::BatchFailure;

/// To the broker connection: subscribe these filters. Answers once the broker has.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SubscribeOutcome>, SubscribeError>")]
pub struct Subscribe {
    /// Filters that are wanted, and the flows for which.
    pub filters: Subscriptions,
    /// Whether each gets a v5 subscription identifier.
    pub with_ids: bool,
}

/// Why the broker's subscriptions are not what was asked for. All of it is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The connection does not carry it.
    #[error(transparent)]
    Link(#[from] MqttError),
    /// The identifiers cannot be kept in the inbox directory.
    #[error(transparent)]
    Book(#[from] InboxError),
}

/// What the broker said to one filter.
#[derive(Debug, Clone)]
pub struct SubscribeOutcome {
    /// The filter.
    pub filter: String,
    /// The reason the broker gave, when it refused.
    pub refusal: Option<String>,
    /// The `QoS` that it granted, where that is lower than what was asked for.
    pub lowered_to: Option<u8>,
}

/// To the broker connection: these filters are no longer wanted. Answers once the broker has, or has refused: then it
/// sends on, which the log says, and the session goes on to hold them.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), SubscribeError>")]
pub struct Unsubscribe {
    /// Filters that go.
    pub filters: BTreeSet<TopicFilter>,
}

/// To the broker connection, after each connect: make the session's filters these.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SubscribeOutcome>, SubscribeError>")]
pub struct ResyncSubscriptions {
    /// The broker for whose session it was found out; at another one it would be wrong.
    pub server: Arc<str>,
    /// All filters that are wanted, and the flows for which.
    pub filters: Subscriptions,
    /// Whether each gets a v5 subscription identifier.
    pub with_ids: bool,
}

/// To the broker connection: the table of brokers was read anew.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UseServers {
    /// Those to connect to, in order.
    pub servers: Vec<BrokerServer>,
    /// Why other rows are passed over.
    pub skipped: Vec<String>,
}

/// The broker accepted the connection.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "()")]
pub struct ConnectionEstablished {
    /// `host:port` of the broker.
    pub server: Arc<str>,
    /// Whether messages name the subscriptions they come by (v5).
    pub names_subscriptions: bool,
    /// Whether `$share/…` is understood, by the broker's own word (v5).
    pub shares_subscriptions: bool,
    /// Whether the broker goes on with the session of an earlier connection.
    pub session_kept: bool,
}

/// The connection to the broker is gone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ConnectionLost;

/// Reads the flows from the database anew, now.
///
/// Sent by the registry to itself at each interval, by SIGHUP, and by whoever changed a flow.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReloadFlows;

/// To the registry of a gateway that goes for good: answers when others have all its flows, and the broker was told. No
/// answer means that the registry ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<HandedOver>")]
pub struct AwaitHandover;

/// Nothing is subscribed any more by a gateway that goes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    /// The broker to which that was told went on with an earlier session, and may have messages for it.
    pub session_kept: bool,
    /// Whether it is known what that session held; else something may still be subscribed.
    pub has_book: bool,
}

/// To the registry: the router has started and has no table.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceTable;

/// To the broker connection: the registry has started and does not know whether there is one.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AnnounceConnection;

/// To the router: route by this table from the next record on. Answers when it does.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NewRoutingTable {
    /// The table.
    pub table: Arc<RoutingTable>,
}

/// To the router: there is something to read.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct InboxGrew;

/// To a worker: take your lane over (again) and say where it stands.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct OpenLane;

/// To the router: a lane was taken over; batches of older epochs are void.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LaneOpened {
    /// The lane.
    pub lane: Lane,
    /// Where it stands, and which flows it has left behind.
    pub opened: OpenedLane,
}

/// To the router: the database is behind what was committed to it. Have the lane taken over again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReopenLane {
    /// The lane.
    pub lane: Lane,
}

/// To a worker: bring this into SQL. Answers when it is there, with one result for each message
/// and flow; flows that are locked elsewhere are named instead, and nothing of theirs is done.
#[derive(Debug, Message)]
#[rtype(result = "Result<BatchOutcome, BatchFailure>")]
pub struct ProcessBatch {
    /// The work.
    pub batch: Batch,
}

/// To the delivery: these are committed, post them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// In the order of their numbers, within a flow.
    pub items: Vec<OutboxItem>,
}

/// To the delivery: the table has rows that nobody handed it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeliverFromTable {
    /// Those that a worker committed; `None` for whatever is there.
    pub rows: Option<Vec<CommittedRows>>,
}

/// To the delivery: the flows were read. Look where those post whose messages wait.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct FollowFlows;

/// To the broker connection, at the end: disconnect.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), MqttError>")]
pub struct Disconnect {
    /// What becomes of the session.
    pub session_end: SessionEnd,
}

/// To the router, at the end: answers when all of the inbox is in SQL.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DrainInbox;

/// To the delivery, at the end: begin no post; answers when none is under way.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DrainDelivery;

/// To the supervisor: an actor ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ActorExited {
    /// Which.
    pub actor: super::ActorId,
    /// Which of its lives ended.
    pub generation: u64,
    /// Why, in a word.
    pub reason: super::ExitReason,
    /// Why, for people.
    pub cause: String,
}

/// To the supervisor: end everything, in order.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
