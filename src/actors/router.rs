//! Reads the inbox, finds the flows of each message, and hands every lane its batches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, MailboxError, Message, MessageResult,
    ResponseFuture, WrapFuture,
};
use tokio::sync::oneshot;

use super::directory::Directory;
use super::episode::{Change, Condition, Moment};
use super::inbox_signal::InboxSignal;
use super::life::Life;
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
use crate::inbox::{Inbox, KeptTables, Reader, SubscriptionBook};
use crate::observe::Telemetry;
use crate::store::BatchFailure;

/// How often an idle lane's progress is written down, and what went wrong is tried again.
const TICK: Duration = Duration::from_secs(1);

/// Messages that come faster than this are looked at together, after a pause: to wake the router costs more
/// than to route a message, and what then waits for the database does not mind a millisecond.
const CLOSE_TOGETHER: Duration = Duration::from_micros(250);
const PAUSE: Duration = Duration::from_millis(1);

/// An inbox fuller than this is a warning, in percent: what is done leaves it by whole files, so it is never empty.
const INBOX_GROWING_PERCENT: u64 = 50;

/// How often that is said while it lasts.
const INBOX_REPORT: Duration = Duration::from_secs(30);

/// Most records that a lane looks at in one turn.
const SCAN_LIMIT: usize = 4_096;

/// The reader of the inbox.
pub struct RouterActor {
    life: Life,
    parts: RouterParts,
    lanes: Lanes<Reader>,
    /// The replays after the database went back.
    replays: Replays,
    /// Who waits for the inbox to be drained.
    drained: Vec<oneshot::Sender<()>>,
    /// A lane has more to look at, and the message to go on is under way.
    looking_on: bool,
    /// The tables in force are not on disk.
    unkept: bool,
    /// When the inbox grew the last time that it was told.
    grew: Instant,
    /// The inbox holds much.
    growing: Condition,
}

/// What a router is made of; the factory keeps it for the next one.
#[derive(Clone)]
pub struct RouterParts {
    /// What it reads.
    pub inbox: Inbox,
    /// Raised when the inbox has grown.
    pub signal: InboxSignal,
    /// Which table is for which record; outlives the router.
    pub tables: Arc<Mutex<RoutingHistory>>,
    /// Where the tables outlive the process.
    pub kept_tables: KeptTables,
    /// What subscription identifiers stand for.
    pub book: Arc<Mutex<SubscriptionBook>>,
    /// Where the others are.
    pub directory: Directory,
    /// Bounds of a payload, the same that the workers use.
    pub payload: PayloadLimits,
    /// Most messages of a batch, counted once for each flow.
    pub batch_max_messages: usize,
    /// Most payload bytes of a batch.
    pub batch_max_bytes: usize,
    /// Where it shows which lanes were taken over.
    pub observed: Arc<Telemetry>,
}

/// To itself: a turn is over, and there is more to look at.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
struct LookOn;

impl RouterActor {
    /// A router; it reads nothing until it has a table and a lane was opened.
    #[must_use]
    pub fn new(life: Life, parts: RouterParts) -> Self {
        let lanes = Lanes::new(parts.inbox.lanes(), &parts.inbox.reader(0));
        let replays = Replays::new(parts.inbox.progress().lanes);
        Self {
            life,
            parts,
            lanes,
            replays,
            drained: Vec::new(),
            looking_on: false,
            unkept: false,
            grew: Instant::now(),
            growing: Condition::default(),
        }
    }

    /// Gives every lane that is free what there is for it.
    fn pump(&mut self, context: &mut Context<Self>, idle_too: bool) {
        if !self.tables().is_current() {
            return;
        }
        // While all lanes have a batch in hand nothing can be done about what comes, and nobody needs to say so.
        if self.lanes.is_any_free() {
            self.parts.signal.take_down();
        }
        let idle_too = idle_too || !self.drained.is_empty();
        let mut more = false;
        for lane in 0..self.parts.inbox.lanes() {
            more |= self.pump_lane(context, lane, idle_too);
        }
        // One for all lanes: with one for each, every turn would leave more messages than it took.
        if more && !std::mem::replace(&mut self.looking_on, true) {
            context.notify(self.life.mailbox().enclose(LookOn));
        }
        self.release();
        self.tell_if_drained();
    }

    /// Answers whether there is more to look at, for a lane that is still free.
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
            // The tick tries again.
            Err(error) => log::error!(lane; "Cannot read the inbox: {error}"),
        }
        false
    }

    /// `more`: the batch is not all that there is for the lane.
    fn dispatch(&mut self, context: &mut Context<Self>, batch: Batch, more: bool) {
        crash_point!("router-dispatch");
        let (lane, epoch) = (batch.lane, batch.epoch);
        let Some(slot) = self.parts.directory.workers.get(lane as usize) else { return };
        let weight = batch.pairs().max(1);
        let Some(worker) = slot.address() else {
            // Down: its successor opens the lane.
            self.lanes.close(lane, epoch);
            return;
        };
        let Ok(envelope) = slot.mailbox().try_enclose(ProcessBatch { batch }, weight) else {
            // A batch of an older epoch is in its hands still; the lane opens when that is over.
            self.lanes.close(lane, epoch);
            context.run_later(TICK, move |router, _| router.open(lane));
            return;
        };
        let sent = Instant::now();
        let reply = worker.send(envelope).into_actor(self);
        context.spawn(reply.map(move |reply, router, context| {
            // Whoever waits for the end of the inbox does not wait for more to come.
            let caught_up = !more && router.drained.is_empty();
            let linger = linger_after(sent.elapsed(), weight, caught_up);
            if linger.is_zero() {
                router.reply(context, lane, epoch, &reply);
            } else {
                // Until it is heard the lane has its batch in hand, and is given no other.
                context.run_later(linger, move |router, context| router.reply(context, lane, epoch, &reply));
            }
        }));
    }

    fn reply(
        &mut self,
        context: &mut Context<Self>,
        lane: Lane,
        epoch: i64,
        reply: &Result<Result<BatchOutcome, BatchFailure>, MailboxError>,
    ) {
        match reply {
            Ok(Ok(outcome)) => {
                self.lanes.apply_outcome(lane, epoch, outcome);
                self.note_replayed(lane, outcome);
                self.pump(context, false);
            }
            Ok(Err(BatchFailure::Fenced(found))) => {
                if self.lanes.close(lane, epoch) {
                    log::warn!(lane, epoch, found_epoch = found.epoch; "Lane stands elsewhere than expected, opening it anew");
                    self.open(lane);
                }
            }
            // It panicked or was replaced: its successor opens the lane.
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

    /// Lets go of what every lane, and every flow that lags, is past.
    fn release(&mut self) {
        if !self.lanes.were_all_opened() {
            return;
        }
        self.parts.inbox.note_lanes(self.replays.committed().to_vec());
        let watermark = self.lanes.watermark();
        // A record that is done is there for as long as its segment, and may be looked at again: by the table of
        // its time, or a flow edited since would get what was never for it.
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

    fn tell_if_drained(&mut self) {
        let end = self.parts.inbox.next_offset();
        if self.lanes.are_drained(end) {
            for waiting in self.drained.drain(..) {
                // Whoever gave up waiting does not need to know.
                let _ = waiting.send(());
            }
        }
    }

    /// A disk that refuses stops nothing: it only matters to an edit that comes together with a restart.
    fn keep_tables(&mut self) {
        let text = self.tables().to_text();
        let kept = self.parts.kept_tables.replace(&text);
        if let Err(error) = &kept
            && !self.unkept
        {
            log::error!("Cannot keep the routing table, trying on: {error}");
        }
        self.unkept = kept.is_err();
    }

    fn tell_if_growing(&mut self) {
        let (bytes, max_bytes) = (self.parts.inbox.bytes(), self.parts.inbox.max_bytes());
        let percent = bytes.saturating_mul(100) / max_bytes.max(1);
        let growing = (percent > INBOX_GROWING_PERCENT).then_some(Duration::ZERO);
        match self.growing.update(growing, Moment::now(), INBOX_REPORT) {
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
        self.parts.book.lock().unwrap_or_else(PoisonError::into_inner).bindings()
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.life.keep_beating(context);
        context.run_interval(TICK, |router, context| {
            if router.unkept {
                router.keep_tables();
            }
            router.lanes.tick();
            router.pump(context, true);
            router.tell_if_growing();
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
        if std::mem::replace(&mut self.grew, Instant::now()).elapsed() >= CLOSE_TOGETHER {
            self.pump(context, false);
        } else {
            // The signal stays up meanwhile, so nobody knocks again.
            context.run_later(PAUSE, |router, context| router.pump(context, false));
        }
    }
}

impl Handler<Envelope<LookOn>> for RouterActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<LookOn>, context: &mut Self::Context) {
        let (LookOn, _handling) = envelope.open();
        self.looking_on = false;
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
        // On disk before the first record is routed by it: what waits in the inbox over a restart is
        // then routed by the table of its time, whatever becomes of the flows meanwhile.
        self.keep_tables();
        self.life.mailbox().set_state(ActorState::Running);
        self.pump(context, false);
        MessageResult(())
    }
}

impl Handler<Envelope<DrainInbox>> for RouterActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<DrainInbox>, context: &mut Self::Context) -> Self::Result {
        let (DrainInbox, handling) = envelope.open();
        crash_point!("router-drain");
        self.life.mailbox().set_state(ActorState::Draining);
        let (sender, drained) = oneshot::channel();
        self.drained.push(sender);
        self.pump(context, true);
        Box::pin(async move {
            let _handling = handling;
            // Without an answer the router has ended, and so has this.
            let _ = drained.await;
        })
    }
}
