//! Reads the inbox, finds the flows of each message, and sends batches to the lanes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Message, MessageResult,
    ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;

use super::actor_guard::ActorGuard;
use super::condition::{Change, ClockReading, Condition};
use super::directory::Directory;
use super::inbox_signal::InboxSignal;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceTable, DrainInbox, InboxGrew, LaneOpened, NewRoutingTable, OpenLane, ProcessBatch, ReopenLane,
};
use super::report::whole_milliseconds;
use crate::domain::batch::{Batch, BatchOutcome, Lane};
use crate::domain::lanes::{BatchContext, Lanes, Replays, linger_after, max_lagging};
use crate::domain::message::Offset;
use crate::domain::payload::PayloadLimits;
use crate::domain::routing_history::RoutingHistory;
use crate::domain::subscription_ids::Bindings;
use crate::inbox::{Inbox, InboxReader, KeptTables, SubscriptionIdStore};
use crate::observe::Telemetry;
use crate::store::LaneFenced;

/// Interval at which the progress of idle lanes is stored and failed work is retried.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Wake-ups closer together than this are coalesced after a pause. A wake-up costs more than routing a message, and
/// a batch that waits for the database tolerates a millisecond more.
const COALESCE_INTERVAL: Duration = Duration::from_micros(250);
const PAUSE: Duration = Duration::from_millis(1);

/// Fill level in percent above which the log warns. Done records leave the inbox by whole segments, so the inbox is
/// never empty.
const INBOX_GROWING_PERCENT: u64 = 50;

/// Interval between two warnings while the inbox stays above that level.
const INBOX_REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum number of records that one lane scans per turn.
const SCAN_LIMIT: usize = 4_096;

/// Reads the inbox and dispatches batches.
pub struct RouterActor {
    guard: ActorGuard,
    parts: RouterParts,
    lanes: Lanes<InboxReader>,
    /// Replays after the database was restored to an earlier state.
    replays: Replays,
    /// Callers that wait until the inbox is drained.
    drained: Vec<oneshot::Sender<()>>,
    /// `Continue` has been sent to this actor and not been handled yet.
    continue_queued: bool,
    /// The routing tables in force have not been written to disk.
    tables_unsaved: bool,
    /// Time of the last signal that the inbox has grown.
    grew: Instant,
    /// Tracks whether the fill level is above the warning threshold.
    growth: Condition,
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
        let lanes = Lanes::new(parts.inbox.lanes(), &parts.inbox.reader(0));
        let replays = Replays::new(parts.inbox.progress().lanes);
        Self {
            guard,
            parts,
            lanes,
            replays,
            drained: Vec::new(),
            continue_queued: false,
            tables_unsaved: false,
            grew: Instant::now(),
            growth: Condition::default(),
        }
    }

    /// Sends a batch to every free lane for which records are available.
    fn pump(&mut self, context: &mut Context<Self>, idle_too: bool) {
        if !self.tables().is_current() {
            return;
        }
        // While every lane is busy, new records cannot be dispatched and no wake-up is needed.
        if self.lanes.is_any_free() {
            self.parts.signal.take_down();
        }
        let idle_too = idle_too || !self.drained.is_empty();
        let mut more = false;
        for lane in 0..self.parts.inbox.lanes() {
            more |= self.pump_lane(context, lane, idle_too);
        }
        // One message for all lanes: with one per lane, every turn would queue more messages than it handles.
        if more && !std::mem::replace(&mut self.continue_queued, true) {
            context.notify(self.guard.mailbox().enclose(Continue));
        }
        self.release();
        self.notify_if_drained();
    }

    /// Returns whether a lane that is still free has more records to scan.
    fn pump_lane(&mut self, context: &mut Context<Self>, lane: Lane, idle_too: bool) -> bool {
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
        let Some(cursor) = self.lanes.get_mut(lane) else { return false };
        match cursor.next_batch(&batch_context, idle_too) {
            Ok((Some(batch), more)) => self.dispatch(context, batch, more),
            Ok((None, more)) => return more,
            // The next tick retries.
            Err(error) => log::error!(lane; "Cannot read the inbox: {error}"),
        }
        false
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
            let is_all = !more && router.drained.is_empty();
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
                self.lanes.apply_outcome(lane, epoch, outcome);
                self.note_replayed(lane, outcome);
                self.pump(context, false);
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
        if !self.lanes.were_all_opened() {
            return;
        }
        self.parts.inbox.note_lanes(self.replays.committed().to_vec());
        let watermark = self.lanes.watermark();
        // A finished record stays readable until its segment is deleted and may be routed again. The tables of these
        // records are kept, because a newer table could send old messages to an edited flow.
        self.tables().forget_below(self.lanes.rescan_offset().min(self.parts.inbox.first_offset()));
        if let Err(error) = self.parts.inbox.release(watermark) {
            log::error!("Cannot delete finished segments of the inbox: {error}");
        }
    }

    /// Logs an error if the database lacks offsets that were committed to it.
    fn note_opened(&mut self, lane: Lane, next_offset: Offset) {
        let deleted_below = self.parts.inbox.progress().deleted_below;
        if let Some(set_back) = self.replays.reopen(lane, next_offset, deleted_below) {
            self.parts.observed.metrics.database.count_set_back();
            let committed = set_back.lost.end;
            log::error!(lane, next_offset, committed; "{set_back}");
        }
        if let Some(cursor) = self.lanes.get_mut(lane) {
            cursor.end_batches_at(self.replays.ends_at(lane));
        }
    }

    /// Logs the replayed messages once the lane reaches its former offset.
    fn note_replayed(&mut self, lane: Lane, outcome: &BatchOutcome) {
        let Some(position) = self.lanes.get_mut(lane).map(|cursor| cursor.position()) else { return };
        let Some(replayed) = self.replays.record_commit(lane, position.next_offset, &outcome.results) else {
            return;
        };
        let messages = replayed.messages;
        self.parts.observed.metrics.database.count_replayed(messages);
        log::warn!(lane, messages; "{replayed}");
        if let Some(cursor) = self.lanes.get_mut(lane) {
            cursor.end_batches_at(None);
        }
    }

    fn notify_if_drained(&mut self) {
        let end = self.parts.inbox.next_offset();
        if self.lanes.are_drained(end) {
            for waiting in self.drained.drain(..) {
                // A caller that timed out has dropped its receiver.
                let _ = waiting.send(());
            }
        }
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
        let percent = bytes.saturating_mul(100) / max_bytes.max(1);
        let growth = (percent > INBOX_GROWING_PERCENT).then_some(Duration::ZERO);
        match self.growth.update(growth, ClockReading::now(), INBOX_REPORT_INTERVAL) {
            Some(Change::Ongoing { since }) => {
                let since = since.as_str();
                log::warn!(
                    since, bytes, max_bytes, percent;
                    "Inbox growing: {percent} % full, over {INBOX_GROWING_PERCENT} % since {since}: \
                     messages come faster than the database takes them"
                );
            }
            Some(Change::Resolved { since, lasted }) => {
                let (since, lasted_ms) = (since.as_str(), whole_milliseconds(lasted));
                log::info!(since, bytes, max_bytes, percent, lasted_ms; "Inbox shrinks again: {percent} % full");
            }
            None => {}
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
            router.pump(context, true);
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
        if std::mem::replace(&mut self.grew, Instant::now()).elapsed() >= COALESCE_INTERVAL {
            self.pump(context, false);
        } else {
            // The signal stays raised during the pause, so no further wake-up arrives.
            context.run_later(PAUSE, |router, context| router.pump(context, false));
        }
    }
}

impl Handler<Envelope<Continue>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Continue>, context: &mut Self::Context) {
        let (Continue, _handling) = envelope.open();
        self.continue_queued = false;
        self.pump(context, false);
    }
}

impl Handler<Envelope<LaneOpened>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<LaneOpened>, context: &mut Self::Context) {
        let (LaneOpened { lane, opened }, _handling) = envelope.open();
        let position = opened.position;
        let lagging = opened.lagging.len();
        log::info!(lane, epoch = position.epoch, next_offset = position.next_offset, lagging; "Lane opened");
        if self.lanes.open(lane, &opened) {
            self.note_opened(lane, position.next_offset);
        }
        self.parts.observed.health.mark_lane_opened(lane, self.parts.inbox.lanes());
        self.pump(context, false);
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
        self.pump(context, false);
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
        self.drained.push(sender);
        self.pump(context, true);
        Box::pin(async move {
            let _handling = handling;
            // A closed channel means that the router has ended, and this request with it.
            let _ = drained.await;
        })
    }
}
