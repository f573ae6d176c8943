//! Reads the inbox, finds the flows of each message, and sends batches to the lanes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Message, MessageResult,
    ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;

use super::actor_guard::ActorGuard;
use super::directory::Directory;
use super::inbox_signal::InboxSignal;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceTable, DrainInbox, InboxGrew, LaneOpened, NewRoutingTable, OpenLane, ProcessBatch, ReopenLane,
};
use super::report::moment;
use crate::domain::batch::{Batch, BatchOutcome, Lane};
use crate::domain::condition::Change;
use crate::domain::inbox_growth::{INBOX_GROWING_PERCENT, InboxGrowth};
use crate::domain::lanes::{
    BatchContext, IdleLane, Lanes, Opening, Replayed, SetBack, Wakeups, linger_after, max_lagging,
};
use crate::domain::payload::PayloadLimits;
use crate::domain::routing_history::RoutingHistory;
use crate::domain::subscription_ids::Bindings;
use crate::inbox::{Inbox, InboxReader, KeptTables, SubscriptionIdStore};
use crate::observe::Telemetry;
use crate::observe::whole_milliseconds;
use crate::store::LaneFenced;

/// Interval at which the progress of idle lanes is stored and failed work is retried.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of records that one lane scans per turn.
const SCAN_LIMIT: usize = 4_096;

/// Reads the inbox and dispatches batches.
pub struct RouterActor {
    guard: ActorGuard,
    parts: RouterParts,
    /// With the callers that wait until the inbox is drained.
    lanes: Lanes<InboxReader, oneshot::Sender<()>>,
    /// The routing tables in force have not been written to disk.
    tables_unsaved: bool,
    /// Origin of the times of `wakeups`.
    born: Instant,
    wakeups: Wakeups,
    growth: InboxGrowth,
}

/// Dependencies of the router; the factory keeps them for a restart.
#[derive(Clone)]
pub struct RouterParts {
    /// The inbox to read.
    pub inbox: Inbox,
    /// Raised when the inbox has grown.
    pub signal: InboxSignal,
    /// Routing tables by offset; they outlive the router.
    pub tables: Arc<Mutex<RoutingHistory>>,
    /// Persistent copy of the routing tables.
    pub kept_tables: KeptTables,
    /// Meaning of subscription identifiers.
    pub subscription_ids: Arc<Mutex<SubscriptionIdStore>>,
    /// Addresses of the other actors.
    pub directory: Directory,
    /// Limits of a payload, equal to the workers' limits.
    pub payload: PayloadLimits,
    /// Maximum number of messages per batch; a message counts once for each of its flows.
    pub batch_max_messages: usize,
    /// Maximum number of payload bytes per batch.
    pub batch_max_bytes: usize,
    /// Maximum pause of a busy lane between two batches.
    pub max_linger: Duration,
    /// Receives the opened lanes and the counters of the inbox.
    pub observed: Arc<Telemetry>,
}

/// Sent by the router to itself when a turn is over and more records are available.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
struct Continue;

impl RouterActor {
    /// Creates a router. It reads nothing before it has a routing table and an open lane.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: RouterParts) -> Self {
        let lanes = Lanes::new(parts.inbox.lanes(), &parts.inbox.reader(0), parts.inbox.progress().lanes);
        Self {
            guard,
            parts,
            lanes,
            tables_unsaved: false,
            born: Instant::now(),
            wakeups: Wakeups::default(),
            growth: InboxGrowth::default(),
        }
    }

    /// Sends a batch to every free lane for which records are available.
    fn pump(&mut self, context: &mut Context<Self>, idle: IdleLane) {
        if !self.tables().is_current() {
            return;
        }
        // While every lane is busy, new records cannot be dispatched and no wake-up is needed.
        if self.lanes.is_any_free() {
            self.parts.signal.take_down();
        }
        for lane in 0..self.parts.inbox.lanes() {
            self.pump_lane(context, lane, idle);
        }
        if self.lanes.queue_scan() {
            context.notify(self.guard.mailbox().enclose(Continue));
        }
        self.release();
        for caller in self.lanes.take_drained(self.parts.inbox.next_offset()) {
            // A caller that timed out has dropped its receiver.
            let _ = caller.send(());
        }
    }

    fn pump_lane(&mut self, context: &mut Context<Self>, lane: Lane, idle: IdleLane) {
        let bindings = self.bindings();
        let tables = Arc::clone(&self.parts.tables);
        let tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
        let batch_context = BatchContext {
            tables: &tables,
            binding_of: &|id| bindings.get(id),
            lanes: self.parts.inbox.lanes(),
            payload: &self.parts.payload,
            max_pairs: self.parts.batch_max_messages,
            max_bytes: self.parts.batch_max_bytes,
            scan_limit: SCAN_LIMIT,
            max_lagging: max_lagging(self.parts.inbox.bytes(), self.parts.inbox.max_bytes()),
        };
        match self.lanes.next_batch(lane, &batch_context, idle) {
            Ok(Some((batch, more))) => self.dispatch(context, batch, more),
            Ok(None) => {}
            // The next tick retries.
            Err(error) => log::error!(lane; "Cannot read the inbox: {error}"),
        }
    }

    /// Sends `batch` to its worker. `more` states that the lane has records beyond the batch.
    fn dispatch(&mut self, context: &mut Context<Self>, batch: Batch, more: bool) {
        crash_point!("router-dispatch");
        let (lane, epoch) = (batch.lane, batch.epoch);
        let Some(slot) = self.parts.directory.workers.get(lane as usize) else { return };
        let weight = batch.pairs().max(1);
        let Some(worker) = slot.address() else {
            // The worker is down; its successor opens the lane.
            self.lanes.close(lane, epoch);
            return;
        };
        let Ok(envelope) = slot.mailbox().try_enclose(ProcessBatch { batch }, weight) else {
            // The worker still processes a batch of an older epoch and opens the lane afterwards.
            self.lanes.close(lane, epoch);
            context.run_later(TICK_INTERVAL, move |router, _| router.open(lane));
            return;
        };
        let sent = Instant::now();
        let reply = worker.send(envelope).into_actor(self);
        context.spawn(reply.map(move |reply, router, context| {
            // During a drain no further records are worth waiting for.
            let is_all = !more && !router.lanes.is_draining();
            let linger = linger_after(sent.elapsed(), weight, is_all, router.parts.max_linger);
            if linger.is_zero() {
                router.reply(context, lane, epoch, &reply);
            } else {
                // The lane counts as busy until `reply` runs, so no second batch is sent.
                context.run_later(linger, move |router, context| router.reply(context, lane, epoch, &reply));
            }
        }));
    }

    fn reply(
        &mut self,
        context: &mut Context<Self>,
        lane: Lane,
        epoch: i64,
        reply: &Result<Result<BatchOutcome, LaneFenced>, MailboxError>,
    ) {
        match reply {
            Ok(Ok(outcome)) => {
                if let Some(replayed) = self.lanes.apply_outcome(lane, epoch, outcome) {
                    self.report_replayed(&replayed);
                }
                self.pump(context, IdleLane::Skip);
            }
            Ok(Err(LaneFenced(found))) => {
                if self.lanes.close(lane, epoch) {
                    let found_epoch = found.epoch;
                    log::warn!(lane, epoch, found_epoch; "Lane fenced: epoch {found_epoch} found, {epoch} expected; reopening it");
                    self.open(lane);
                }
            }
            // The worker panicked or was replaced; its successor opens the lane.
            Err(_) => {
                self.lanes.close(lane, epoch);
            }
        }
    }

    fn open(&self, lane: Lane) {
        if let Some(worker) = self.parts.directory.workers.get(lane as usize) {
            worker.tell(OpenLane);
        }
    }

    /// Releases the records, and the routing tables, that all lanes and all lagging flows have passed.
    fn release(&mut self) {
        let Some(released) = self.lanes.released() else { return };
        self.parts.inbox.note_lanes(released.committed.to_vec());
        // A finished record stays readable until its segment is deleted and may be routed again. The tables of these
        // records are kept, because a newer table could send old messages to an edited flow.
        self.tables().forget_below(released.rescan_offset.min(self.parts.inbox.first_offset()));
        if let Err(error) = self.parts.inbox.release(released.watermark) {
            log::error!("Cannot delete finished segments of the inbox: {error}");
        }
    }

    fn report_set_back(&self, set_back: &SetBack) {
        self.parts.observed.metrics.database.count_set_back();
        let (lane, next_offset, committed) = (set_back.lane, set_back.lost.start, set_back.lost.end);
        log::error!(lane, next_offset, committed; "{set_back}");
    }

    fn report_replayed(&self, replayed: &Replayed) {
        let (lane, messages) = (replayed.lane, replayed.messages);
        self.parts.observed.metrics.database.count_replayed(messages);
        log::warn!(lane, messages; "{replayed}");
    }

    /// Writes the routing tables to disk. A failure only matters if a flow is edited and the process restarts, so
    /// routing continues and the write is retried.
    fn save_tables(&mut self) {
        let text = self.tables().to_text();
        let kept = self.parts.kept_tables.replace(&text);
        if let Err(error) = &kept
            && !self.tables_unsaved
        {
            log::error!("Cannot write the routing tables, retrying: {error}");
        }
        self.tables_unsaved = kept.is_err();
    }

    fn log_growth(&mut self) {
        let (bytes, max_bytes) = (self.parts.inbox.bytes(), self.parts.inbox.max_bytes());
        let Some((percent, change)) = self.growth.update(bytes, max_bytes, moment()) else { return };
        match change {
            Change::Ongoing { since } => {
                let since = since.as_str();
                log::warn!(
                    since, bytes, max_bytes, percent;
                    "Inbox growing: {percent} % full, over {INBOX_GROWING_PERCENT} % since {since}: \
                     messages come faster than the database takes them"
                );
            }
            Change::Resolved { since, lasted } => {
                let (since, lasted_ms) = (since.as_str(), whole_milliseconds(lasted));
                log::info!(since, bytes, max_bytes, percent, lasted_ms; "Inbox shrinks again: {percent} % full");
            }
        }
    }

    fn tables(&self) -> MutexGuard<'_, RoutingHistory> {
        self.parts.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bindings(&self) -> Arc<Bindings> {
        self.parts.subscription_ids.lock().unwrap_or_else(PoisonError::into_inner).bindings()
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        context.run_interval(TICK_INTERVAL, |router, context| {
            if router.tables_unsaved {
                router.save_tables();
            }
            router.lanes.tick();
            router.pump(context, IdleLane::StoreOffset);
            router.log_growth();
        });
        self.parts.directory.registry.tell(AnnounceTable);
        for worker in &self.parts.directory.workers {
            worker.tell(OpenLane);
        }
    }
}

impl Handler<Envelope<InboxGrew>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<InboxGrew>, context: &mut Self::Context) {
        let (InboxGrew, _handling) = envelope.open();
        match self.wakeups.pause(self.born.elapsed()) {
            None => self.pump(context, IdleLane::Skip),
            // The signal stays raised during the pause, so no further wake-up arrives.
            Some(pause) => {
                context.run_later(pause, |router, context| router.pump(context, IdleLane::Skip));
            }
        }
    }
}

impl Handler<Envelope<Continue>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Continue>, context: &mut Self::Context) {
        let (Continue, _handling) = envelope.open();
        self.lanes.begin_scan();
        self.pump(context, IdleLane::Skip);
    }
}

impl Handler<Envelope<LaneOpened>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<LaneOpened>, context: &mut Self::Context) {
        let (LaneOpened { lane, opened }, _handling) = envelope.open();
        let position = opened.position;
        let lagging = opened.lagging.len();
        log::info!(lane, epoch = position.epoch, next_offset = position.next_offset, lagging; "Lane opened");
        let deleted_below = self.parts.inbox.progress().deleted_below;
        if let Opening::SetBack(set_back) = self.lanes.open(lane, &opened, deleted_below) {
            self.report_set_back(&set_back);
        }
        self.parts.observed.health.mark_lane_opened(lane, self.parts.inbox.lanes());
        self.pump(context, IdleLane::Skip);
    }
}

impl Handler<Envelope<ReopenLane>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ReopenLane>, _: &mut Self::Context) {
        let (ReopenLane { lane }, _handling) = envelope.open();
        self.lanes.close_any(lane);
        self.open(lane);
    }
}

impl Handler<Envelope<NewRoutingTable>> for RouterActor {
    type Result = MessageResult<Envelope<NewRoutingTable>>;

    fn handle(&mut self, envelope: Envelope<NewRoutingTable>, context: &mut Self::Context) -> Self::Result {
        let (NewRoutingTable { table }, _handling) = envelope.open();
        self.tables().push(self.parts.inbox.next_offset(), table);
        // On disk before the first record is routed with the new table: after a restart, waiting records are routed by
        // the table of their time.
        self.save_tables();
        self.guard.mailbox().set_state(ActorState::Running);
        self.pump(context, IdleLane::Skip);
        MessageResult(())
    }
}

impl Handler<Envelope<DrainInbox>> for RouterActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<DrainInbox>, context: &mut Self::Context) -> Self::Result {
        let (DrainInbox, handling) = envelope.open();
        crash_point!("router-drain");
        self.guard.mailbox().set_state(ActorState::Draining);
        let (sender, drained) = oneshot::channel();
        self.lanes.drain(sender);
        self.pump(context, IdleLane::StoreOffset);
        Box::pin(async move {
            let _handling = handling;
            // A closed channel means that the router has ended, and this request with it.
            let _ = drained.await;
        })
    }
}
