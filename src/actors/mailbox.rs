//! Permits and counters of one actor's mailbox.
//!
//! Actix queues are unbounded and cannot be inspected: `do_send` always queues, and an actor that waits for a future
//! keeps receiving messages. Every message therefore travels in an [`Envelope`] that holds permits of a [`Mailbox`].
//! The sender takes the permits. They are returned when the message was handled or dropped with its actor.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::Message;
use chrono::{DateTime, Utc};

use super::durations::Durations;
use crate::observe::{ActorReading, whole_milliseconds};

named_enum! {
    /// State of an actor in the mailbox report.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ActorState {
        /// Not yet ready for work.
        Starting = "starting",
        /// Working or idle.
        Running = "running",
        /// Retrying after an error of the database or an endpoint.
        Retrying = "retrying",
        /// No connection to the broker.
        Disconnected = "disconnected",
        /// Finishing its work before the shutdown.
        Draining = "draining",
        /// Ended; waits for its restart.
        Down = "down",
    }
}

named_enum! {
    /// Reason for a restart.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ExitReason {
        /// The actor panicked.
        Panic = "panic",
        /// The actor stopped by itself.
        Error = "error",
        /// The heartbeat stopped.
        Silent = "silent",
    }
}

/// Permits and counters of one actor; they outlive its restarts.
#[derive(Debug)]
pub struct Mailbox {
    name: String,
    capacity: usize,
    born: Instant,
    depth: AtomicUsize,
    high_water: AtomicUsize,
    received: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    /// Indexed by reason.
    restarts: [AtomicU64; ExitReason::ALL.len()],
    /// Committed transactions, for actors that commit.
    transactions: AtomicU64,
    /// Time of the last heartbeat, in milliseconds after `born`.
    beat_ms: AtomicU64,
    /// The current generation of the actor.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: ActorState,
    state_since: DateTime<Utc>,
    state_reported: bool,
    waits: Durations,
    handles: Durations,
    in_hand: Vec<InHand>,
    /// The message in hand when the actor panicked.
    panicked_over: Option<InHand>,
    next_handling: u64,
}

/// A message being handled.
#[derive(Debug)]
struct InHand {
    number: u64,
    began: Instant,
    /// Full type name of the message.
    message: &'static str,
    detail: Option<Box<dyn Detail>>,
}

/// Describes a message in hand; formatted only on demand.
pub trait Detail: fmt::Display + fmt::Debug + Send + Sync {}

impl<T: fmt::Display + fmt::Debug + Send + Sync> Detail for T {}

/// One line of the mailbox report.
#[derive(Debug, Clone)]
pub struct MailboxReport {
    /// Name of the actor.
    pub actor: String,
    /// State of the actor.
    pub state: ActorState,
    /// Start of that state.
    pub since: DateTime<Utc>,
    /// Messages waiting or in hand.
    pub depth: usize,
    /// Total number of permits.
    pub capacity: usize,
    /// The largest depth since the start.
    pub high_water: usize,
    /// Messages sent to the actor since the start.
    pub received: u64,
    /// Messages handled.
    pub handled: u64,
    /// Handled messages that failed.
    pub failed: u64,
    /// Number of restarts.
    pub restarts: u64,
    /// Committed transactions; `None` for an actor that has not committed any.
    pub transactions: Option<u64>,
    /// 99th percentile of the time between sending and handling, since the last report.
    pub wait_p99: Duration,
    /// 99th percentile of the handling time, since the last report.
    pub handle_p99: Duration,
    /// Age of the oldest message in hand.
    pub age: Duration,
}

impl Mailbox {
    /// Creates a mailbox for the actor `name` with `capacity` permits.
    #[must_use]
    pub fn new(name: impl Into<String>, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            capacity,
            born: Instant::now(),
            depth: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            restarts: [const { AtomicU64::new(0) }; ExitReason::ALL.len()],
            transactions: AtomicU64::new(0),
            beat_ms: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                state: ActorState::Starting,
                state_since: Utc::now(),
                state_reported: true,
                waits: Durations::new(),
                handles: Durations::new(),
                in_hand: Vec::new(),
                panicked_over: None,
                next_handling: 0,
            }),
        })
    }

    /// Name of the actor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes `weight` permits for `message`. Returns the message if too few are free. A message heavier than the whole
    /// capacity is accepted into an empty mailbox.
    pub fn try_enclose<M>(self: &Arc<Self>, message: M, weight: usize) -> Result<Envelope<M>, M> {
        let taken = self.depth.try_update(Relaxed, Relaxed, |depth| {
            (depth == 0 || depth + weight <= self.capacity).then_some(depth + weight)
        });
        match taken {
            Ok(before) => Ok(self.enclosed(message, weight, before + weight)),
            Err(_) => Err(message),
        }
    }

    /// Takes a permit for a control message. Control messages are counted and never refused, because the protocol
    /// bounds their number.
    pub fn enclose<M>(self: &Arc<Self>, message: M) -> Envelope<M> {
        let depth = self.depth.fetch_add(1, Relaxed) + 1;
        self.enclosed(message, 1, depth)
    }

    fn enclosed<M>(self: &Arc<Self>, message: M, weight: usize, depth: usize) -> Envelope<M> {
        self.high_water.fetch_max(depth, Relaxed);
        self.received.fetch_add(weight as u64, Relaxed);
        Envelope { message, permits: Permits { mailbox: Arc::clone(self), weight, taken: Instant::now() } }
    }

    /// Records a heartbeat.
    pub fn beat(&self) {
        self.beat_ms.store(whole_milliseconds(self.born.elapsed()), Relaxed);
    }

    /// Time since the last [`beat`](Self::beat).
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }

    /// Sets the current generation of the actor.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
    }

    /// The current generation of the actor.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Sets the state; the supervisor reports a change at its next tick.
    pub fn set_state(&self, state: ActorState) {
        let mut inner = self.inner();
        if inner.state != state {
            inner.state = state;
            inner.state_since = Utc::now();
            inner.state_reported = false;
        }
    }

    /// Counts a restart.
    pub fn count_restart(&self, reason: ExitReason) {
        if let Some(count) = self.restarts.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a transaction that the actor has committed.
    pub fn count_transaction(&self) {
        self.transactions.fetch_add(1, Relaxed);
    }

    /// Whether the state changed since the last call.
    pub fn take_state_change(&self) -> bool {
        !std::mem::replace(&mut self.inner().state_reported, true)
    }

    /// The data of the mailbox line; starts a new interval for the percentiles.
    pub fn report(&self) -> MailboxReport {
        let mut inner = self.inner();
        MailboxReport {
            actor: self.name.clone(),
            state: inner.state,
            since: inner.state_since,
            depth: self.depth.load(Relaxed),
            capacity: self.capacity,
            high_water: self.high_water.load(Relaxed),
            received: self.received.load(Relaxed),
            handled: self.handled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            restarts: self.restarts.iter().map(|count| count.load(Relaxed)).sum(),
            transactions: Some(self.transactions.load(Relaxed)).filter(|transactions| *transactions > 0),
            wait_p99: inner.waits.take_p99(),
            handle_p99: inner.handles.take_p99(),
            age: age(&inner.in_hand),
        }
    }

    /// All counters, for metrics and the admin port; does not affect the percentile intervals.
    #[must_use]
    pub fn reading(&self) -> ActorReading {
        let restarts = self.restarts.iter().map(|count| count.load(Relaxed));
        let inner = self.inner();
        ActorReading {
            actor: self.name.clone(),
            state: inner.state.as_str(),
            since: inner.state_since.into(),
            states: ActorState::ALL.map(ActorState::as_str).to_vec(),
            depth: self.depth.load(Relaxed),
            capacity: self.capacity,
            age: age(&inner.in_hand),
            received: self.received.load(Relaxed),
            handled: self.handled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            restarts: ExitReason::ALL.iter().map(|reason| reason.as_str()).zip(restarts).collect(),
            waits: inner.waits.ever().clone(),
            handles: inner.handles.ever().clone(),
        }
    }

    /// Depth, capacity and age of the oldest message in hand; does not affect the percentile intervals.
    #[must_use]
    pub fn load(&self) -> (usize, usize, Duration) {
        (self.depth.load(Relaxed), self.capacity, age(&self.inner().in_hand))
    }

    /// Messages handled since the start.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// The actor's state.
    #[must_use]
    pub fn state(&self) -> ActorState {
        self.inner().state
    }

    /// Describes the oldest message in hand; `None` if the actor is idle.
    #[must_use]
    pub fn in_hand(&self) -> Option<String> {
        self.inner().oldest().map(ToString::to_string)
    }

    /// Describes the last work of an actor that has ended: the message over which it panicked, or its oldest message.
    #[must_use]
    pub fn take_last_in_hand(&self) -> Option<String> {
        let mut inner = self.inner();
        let panicked_over = inner.panicked_over.take();
        panicked_over.as_ref().or_else(|| inner.oldest()).map(ToString::to_string)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The counters stay consistent after a panic under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn oldest(&self) -> Option<&InHand> {
        self.in_hand.iter().min_by_key(|handling| handling.began)
    }
}

impl fmt::Display for InHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.rsplit("::").next().unwrap_or(self.message))?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

fn age(in_hand: &[InHand]) -> Duration {
    in_hand.iter().map(|handling| handling.began.elapsed()).max().unwrap_or_default()
}

/// Permits held by a message until it is handled or dropped.
#[derive(Debug)]
struct Permits {
    mailbox: Arc<Mailbox>,
    weight: usize,
    taken: Instant,
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.mailbox.depth.fetch_sub(self.weight, Relaxed);
    }
}

/// A message and its permits.
#[derive(Debug)]
pub struct Envelope<M> {
    message: M,
    permits: Permits,
}

impl<M: Message> Message for Envelope<M> {
    type Result = M::Result;
}

impl<M> Envelope<M> {
    /// Starts the handling, which lasts until the returned guard is dropped.
    pub fn open(self) -> (M, Handling) {
        let Self { message, permits } = self;
        let began = Instant::now();
        let mut inner = permits.mailbox.inner();
        inner.waits.record(began - permits.taken, permits.weight as u64);
        let number = inner.next_handling;
        inner.next_handling += 1;
        inner.in_hand.push(InHand { number, began, message: std::any::type_name::<M>(), detail: None });
        drop(inner);
        let generation = permits.mailbox.generation();
        (message, Handling { permits, number, generation, began, failed: 0 })
    }
}

/// A handling in progress; counted as handled when dropped.
#[derive(Debug)]
pub struct Handling {
    permits: Permits,
    number: u64,
    generation: u64,
    began: Instant,
    failed: u64,
}

impl Handling {
    /// Sets the description of the message for reports.
    pub fn describe(&self, detail: impl Detail + 'static) {
        let mut inner = self.permits.mailbox.inner();
        if let Some(own) = inner.in_hand.iter_mut().find(|handling| handling.number == self.number) {
            own.detail = Some(Box::new(detail));
        }
    }

    /// Records that `count` of the messages failed.
    pub fn fail(&mut self, count: usize) {
        self.failed += count as u64;
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let mailbox = &self.permits.mailbox;
        let weight = self.permits.weight as u64;
        let panics = std::thread::panicking();
        // A panic fails the whole message, whatever `fail` recorded before.
        let failed = if panics { weight } else { self.failed };
        mailbox.handled.fetch_add(weight, Relaxed);
        mailbox.failed.fetch_add(failed, Relaxed);
        let mut inner = mailbox.inner();
        inner.handles.record(self.began.elapsed(), 1);
        let own = inner.in_hand.iter().position(|handling| handling.number == self.number);
        let own = own.map(|index| inner.in_hand.swap_remove(index));
        // During unwinding the panicking handler is dropped first; the other messages in hand follow.
        // A panic of a replaced generation is ignored.
        if panics && inner.panicked_over.is_none() && self.generation == mailbox.generation() {
            inner.panicked_over = own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handling_returns_permits() {
        let mailbox = Mailbox::new("worker", 10);
        let envelope = mailbox.try_enclose("batch", 8).expect("there is room");
        assert_eq!(mailbox.try_enclose("next", 3).err(), Some("next"));
        let (_, mut handling) = envelope.open();
        assert_eq!(mailbox.report().depth, 8);
        handling.fail(2);
        drop(handling);
        let report = mailbox.report();
        assert_eq!((report.depth, report.high_water), (0, 8));
        assert_eq!((report.received, report.handled, report.failed), (8, 8, 2));
    }

    #[test]
    fn panic_fails_the_whole_batch() {
        let mailbox = Mailbox::new("worker", 10);
        let own = Arc::clone(&mailbox);
        let panicking = std::thread::spawn(move || {
            let (_, mut handling) = own.try_enclose("batch", 8).expect("there is room").open();
            handling.fail(2);
            handling.describe("8 messages");
            panic!("while it is in hand");
        });
        panicking.join().expect_err("it panics");
        let report = mailbox.report();
        assert_eq!((report.depth, report.handled, report.failed), (0, 8, 8));
        assert_eq!(mailbox.in_hand(), None);
        assert_eq!(mailbox.take_last_in_hand().as_deref(), Some("&str: 8 messages"));
        assert_eq!(mailbox.take_last_in_hand(), None, "the successor starts without a record");
    }

    #[test]
    fn last_message_is_reported_without_panic() {
        let mailbox = Mailbox::new("worker", 10);
        assert_eq!(mailbox.take_last_in_hand(), None);
        let (_, _handling) = mailbox.enclose("batch").open();
        assert_eq!(mailbox.take_last_in_hand().as_deref(), Some("&str"));
    }

    #[test]
    fn dropping_a_message_returns_permits() {
        let mailbox = Mailbox::new("worker", 10);
        drop(mailbox.try_enclose("lost with its actor", 10));
        let report = mailbox.report();
        assert_eq!((report.depth, report.received, report.handled), (0, 10, 0));
    }

    #[test]
    fn oversized_message_needs_an_empty_mailbox() {
        let mailbox = Mailbox::new("worker", 10);
        let heavy = mailbox.try_enclose("heavy", 50).expect("the mailbox is empty");
        assert!(mailbox.try_enclose("light", 1).is_err());
        drop(heavy);
        assert!(mailbox.try_enclose("light", 1).is_ok());
    }

    #[test]
    fn transactions_appear_after_a_commit() {
        let mailbox = Mailbox::new("worker", 1);
        assert_eq!(mailbox.report().transactions, None);
        mailbox.count_transaction();
        assert_eq!(mailbox.report().transactions, Some(1));
    }

    #[test]
    fn oldest_message_is_described() {
        struct Batch;
        let mailbox = Mailbox::new("worker", 10);
        assert_eq!(mailbox.in_hand(), None);
        let (_, first) = mailbox.enclose(Batch).open();
        let (_, second) = mailbox.enclose("another").open();
        assert_eq!(mailbox.in_hand().as_deref(), Some("Batch"));
        first.describe("3 messages");
        second.describe("1 message");
        assert_eq!(mailbox.in_hand().as_deref(), Some("Batch: 3 messages"));
        drop(first);
        assert_eq!(mailbox.in_hand().as_deref(), Some("&str: 1 message"));
    }

    #[test]
    fn state_change_is_reported_once() {
        let mailbox = Mailbox::new("worker", 1);
        assert!(!mailbox.take_state_change());
        mailbox.set_state(ActorState::Running);
        assert!(mailbox.take_state_change());
        mailbox.set_state(ActorState::Running);
        assert!(!mailbox.take_state_change());
    }
}
