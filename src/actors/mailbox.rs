//! Permits and counters of one actor's mailbox.
//!
//! Actix bounds nothing by itself (a `do_send` queues for ever, and an actor that waits for a
//! future goes on pulling messages), and its queue cannot be read. So every message travels in an
//! [`Envelope`] that holds permits of a [`Mailbox`]: the sender takes them before it sends, and
//! they come back when the message was handled, or was thrown away with its actor.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::Message;
use chrono::{DateTime, Utc};

use super::durations::Durations;
use super::life::ExitReason;
use super::report::whole_milliseconds;
use crate::observe::ActorReading;

/// What an actor says of itself in the mailbox report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// Not yet ready for work.
    Starting,
    /// Doing its work, or waiting for some.
    Running,
    /// The other side (database, endpoint) refuses; it tries again.
    Retrying,
    /// No connection to the broker.
    Disconnected,
    /// Finishing what is in hand before the end.
    Draining,
    /// Ended; waits for its restart.
    Down,
}

impl ActorState {
    /// The words of all states.
    const WORDS: &[&str] = &["starting", "running", "retrying", "disconnected", "draining", "down"];

    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Disconnected => "disconnected",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// The permits and counters of one actor; they outlive its restarts.
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
    /// In the order of the reasons.
    restarts: [AtomicU64; ExitReason::ALL.len()],
    /// Transactions of an actor whose work is counted in them.
    transactions: AtomicU64,
    /// Milliseconds after `born` of the last sign of life.
    beat_ms: AtomicU64,
    /// The life of the actor that counts.
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
    /// What was in hand when the actor panicked over it.
    panicked_over: Option<InHand>,
    next_handling: u64,
}

/// A handling under way.
#[derive(Debug)]
struct InHand {
    number: u64,
    began: Instant,
    /// The type of the message, with its path.
    message: &'static str,
    detail: Option<Box<dyn Detail>>,
}

/// What a message in hand is about, told only when somebody wants to know.
pub trait Detail: fmt::Display + fmt::Debug + Send + Sync {}

impl<T: fmt::Display + fmt::Debug + Send + Sync> Detail for T {}

/// One line of the mailbox report.
#[derive(Debug, Clone)]
pub struct MailboxReport {
    /// Name of the actor.
    pub actor: String,
    /// Its state.
    pub state: ActorState,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// Messages waiting or in hand.
    pub depth: usize,
    /// Permits in all.
    pub capacity: usize,
    /// The largest depth since the start.
    pub high_water: usize,
    /// Messages ever sent to it.
    pub received: u64,
    /// Messages handled.
    pub handled: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
    /// Times it was restarted.
    pub restarts: u64,
    /// Transactions that it has committed; none for an actor that has committed none.
    pub transactions: Option<u64>,
    /// 99th percentile of the time between sending and handling, since the last report.
    pub wait_p99: Duration,
    /// 99th percentile of the time a handling took, since the last report.
    pub handle_p99: Duration,
    /// Age of the oldest message in hand.
    pub age: Duration,
}

impl Mailbox {
    /// A mailbox for the actor `name` with `capacity` permits.
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

    /// Takes `weight` permits for `message`, or gives the message back when there are not enough.
    /// A message heavier than the whole capacity is let in alone.
    pub fn try_enclose<M>(self: &Arc<Self>, message: M, weight: usize) -> Result<Envelope<M>, M> {
        let taken = self.depth.try_update(Relaxed, Relaxed, |depth| {
            (depth == 0 || depth + weight <= self.capacity).then_some(depth + weight)
        });
        match taken {
            Ok(before) => Ok(self.enclosed(message, weight, before + weight)),
            Err(_) => Err(message),
        }
    }

    /// Takes a permit for a message of the actors' own protocol, of which there are never more
    /// than the protocol makes: it is counted, and never refused.
    pub fn enclose<M>(self: &Arc<Self>, message: M) -> Envelope<M> {
        let depth = self.depth.fetch_add(1, Relaxed) + 1;
        self.enclosed(message, 1, depth)
    }

    fn enclosed<M>(self: &Arc<Self>, message: M, weight: usize, depth: usize) -> Envelope<M> {
        self.high_water.fetch_max(depth, Relaxed);
        self.received.fetch_add(weight as u64, Relaxed);
        Envelope { message, permits: Permits { mailbox: Arc::clone(self), weight, taken: Instant::now() } }
    }

    /// The actor is alive: its arbiter runs and it takes its turn.
    pub fn beat(&self) {
        self.beat_ms.store(whole_milliseconds(self.born.elapsed()), Relaxed);
    }

    /// Time since the last [`beat`](Self::beat).
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }

    /// From now on it is that of the actor in this life.
    pub fn belongs_to(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
    }

    /// In which life its actor is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// States a change of state; the supervisor reports it at once.
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

    /// Whether the state changed since this was asked last.
    pub fn take_state_change(&self) -> bool {
        !std::mem::replace(&mut self.inner().state_reported, true)
    }

    /// The line for the log; begins a new interval for the percentiles.
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

    /// All that is counted, for those who look from outside; touches no interval.
    #[must_use]
    pub fn reading(&self) -> ActorReading {
        let restarts = self.restarts.iter().map(|count| count.load(Relaxed));
        let inner = self.inner();
        ActorReading {
            actor: self.name.clone(),
            state: inner.state.as_str(),
            states: ActorState::WORDS,
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

    /// Depth, capacity and the age of the oldest message in hand, without touching the interval.
    #[must_use]
    pub fn load(&self) -> (usize, usize, Duration) {
        (self.depth.load(Relaxed), self.capacity, age(&self.inner().in_hand))
    }

    /// What the actor says of itself.
    #[must_use]
    pub fn state(&self) -> ActorState {
        self.inner().state
    }

    /// The message that is in hand for the longest, in words; `None` when none is.
    #[must_use]
    pub fn in_hand(&self) -> Option<String> {
        self.inner().oldest().map(ToString::to_string)
    }

    /// What an actor that has ended had in hand, in words: what it panicked over, or else what it had for the longest.
    #[must_use]
    pub fn take_last_in_hand(&self) -> Option<String> {
        let mut inner = self.inner();
        let panicked_over = inner.panicked_over.take();
        panicked_over.as_ref().or_else(|| inner.oldest()).map(ToString::to_string)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The counters stay usable after a panic of the actor that held the lock.
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

/// Permits that a message holds until it was handled or thrown away.
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

/// A message and the permits it holds.
#[derive(Debug)]
pub struct Envelope<M> {
    message: M,
    permits: Permits,
}

impl<M: Message> Message for Envelope<M> {
    type Result = M::Result;
}

impl<M> Envelope<M> {
    /// Begins the handling: it lasts until the returned guard is dropped.
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

/// A handling under way; its end is counted when this is dropped.
#[derive(Debug)]
pub struct Handling {
    permits: Permits,
    number: u64,
    generation: u64,
    began: Instant,
    failed: u64,
}

impl Handling {
    /// States what the message is about, for the case that somebody asks.
    pub fn is_about(&self, detail: impl Detail + 'static) {
        let mut inner = self.permits.mailbox.inner();
        if let Some(own) = inner.in_hand.iter_mut().find(|handling| handling.number == self.number) {
            own.detail = Some(Box::new(detail));
        }
    }

    /// States that `count` of the messages failed.
    pub fn fail(&mut self, count: usize) {
        self.failed += count as u64;
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let mailbox = &self.permits.mailbox;
        let weight = self.permits.weight as u64;
        let panics = std::thread::panicking();
        // Nothing of it is done when its handler panics, whatever was said of it before.
        let failed = if panics { weight } else { self.failed };
        mailbox.handled.fetch_add(weight, Relaxed);
        mailbox.failed.fetch_add(failed, Relaxed);
        let mut inner = mailbox.inner();
        inner.handles.record(self.began.elapsed(), 1);
        let own = inner.in_hand.iter().position(|handling| handling.number == self.number);
        let own = own.map(|index| inner.in_hand.swap_remove(index));
        // Others in hand are dropped after the one whose handler has panicked.
        // Nobody asks for what one that was given up panics over later.
        if panics && inner.panicked_over.is_none() && self.generation == mailbox.generation() {
            inner.panicked_over = own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back_when_the_message_was_handled() {
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
    fn a_batch_whose_handling_panics_has_failed_as_a_whole() {
        let mailbox = Mailbox::new("worker", 10);
        let own = Arc::clone(&mailbox);
        let panicking = std::thread::spawn(move || {
            let (_, mut handling) = own.try_enclose("batch", 8).expect("there is room").open();
            handling.fail(2);
            handling.is_about("8 messages");
            panic!("while it is in hand");
        });
        panicking.join().expect_err("it panics");
        let report = mailbox.report();
        assert_eq!((report.depth, report.handled, report.failed), (0, 8, 8));
        assert_eq!(mailbox.in_hand(), None);
        assert_eq!(mailbox.take_last_in_hand().as_deref(), Some("&str: 8 messages"));
        assert_eq!(mailbox.take_last_in_hand(), None, "of its successor nothing is known");
    }

    #[test]
    fn an_actor_that_ends_without_a_panic_had_in_hand_what_it_still_has() {
        let mailbox = Mailbox::new("worker", 10);
        assert_eq!(mailbox.take_last_in_hand(), None);
        let (_, _handling) = mailbox.enclose("batch").open();
        assert_eq!(mailbox.take_last_in_hand().as_deref(), Some("&str"));
    }

    #[test]
    fn permits_come_back_when_the_message_is_thrown_away_unread() {
        let mailbox = Mailbox::new("worker", 10);
        drop(mailbox.try_enclose("lost with its actor", 10));
        let report = mailbox.report();
        assert_eq!((report.depth, report.received, report.handled), (0, 10, 0));
    }

    #[test]
    fn a_message_heavier_than_the_capacity_is_let_in_alone() {
        let mailbox = Mailbox::new("worker", 10);
        let heavy = mailbox.try_enclose("heavy", 50).expect("the mailbox is empty");
        assert!(mailbox.try_enclose("light", 1).is_err());
        drop(heavy);
        assert!(mailbox.try_enclose("light", 1).is_ok());
    }

    #[test]
    fn transactions_are_told_of_those_who_commit_some() {
        let mailbox = Mailbox::new("worker", 1);
        assert_eq!(mailbox.report().transactions, None);
        mailbox.count_transaction();
        assert_eq!(mailbox.report().transactions, Some(1));
    }

    #[test]
    fn the_message_that_is_in_hand_for_the_longest_is_told_by_its_name_and_what_it_is_about() {
        struct Batch;
        let mailbox = Mailbox::new("worker", 10);
        assert_eq!(mailbox.in_hand(), None);
        let (_, first) = mailbox.enclose(Batch).open();
        let (_, second) = mailbox.enclose("another").open();
        assert_eq!(mailbox.in_hand().as_deref(), Some("Batch"));
        first.is_about("3 messages");
        second.is_about("1 message");
        assert_eq!(mailbox.in_hand().as_deref(), Some("Batch: 3 messages"));
        drop(first);
        assert_eq!(mailbox.in_hand().as_deref(), Some("&str: 1 message"));
    }

    #[test]
    fn a_change_of_state_is_told_once() {
        let mailbox = Mailbox::new("worker", 1);
        assert!(!mailbox.take_state_change());
        mailbox.set_state(ActorState::Running);
        assert!(mailbox.take_state_change());
        mailbox.set_state(ActorState::Running);
        assert!(!mailbox.take_state_change());
    }
}
