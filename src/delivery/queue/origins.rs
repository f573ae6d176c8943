//! The origins that failed lately, and the flows that wait for them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::flow::WaitState;
use super::{DeliveryQueue, Moment, Turn};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::posting::breaker::{Admission, Breaker, BreakerState};
use crate::domain::posting::origin::Origin;
use crate::domain::retry::Backoff;

/// Delays between the probes of an origin.
const PROBES: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_mins(1) };

/// Time after which another flow is woken for the probe, if the first one has nothing to post.
const NEXT_PROBER: Duration = Duration::from_secs(1);

/// Time after which an origin is forgotten that no flow posts to any more.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// A change of an origin, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginEvent {
    /// The origin.
    pub origin: Origin,
    /// The change.
    pub change: OriginChange,
}

/// A change of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginChange {
    /// It failed repeatedly: the breaker is open.
    Opened {
        /// The last error.
        error: String,
    },
    /// It answers again: the breaker is closed.
    Closed {
        /// Time for which the breaker was open.
        after: Duration,
        /// Number of flows that waited.
        flows: usize,
    },
    /// No flow posts to it any more, so its breaker is forgotten.
    Forgotten,
}

/// The state of an origin, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginStatus {
    /// The origin.
    pub origin: Origin,
    /// State of its breaker.
    pub state: BreakerState,
    /// Time since the breaker was opened or closed.
    pub since: Duration,
}

/// The origins whose last post failed. All others are available.
#[derive(Debug, Default)]
pub(super) struct FailingOrigins {
    failing: HashMap<Origin, FailingOrigin>,
    /// The earliest time at which a flow must be woken for a probe. Kept, because it is asked for at each post.
    wakes_at: Option<Moment>,
    pub(super) events: Vec<OriginEvent>,
}

#[derive(Debug)]
struct FailingOrigin {
    breaker: Breaker,
    /// Flows that wait, the longest waiting first.
    held: VecDeque<FlowId>,
    /// No flow is woken for a probe before this moment.
    next_prober_at: Moment,
    /// The last failure, until an operator asks for a probe.
    failed_at: Option<Moment>,
    error: String,
}

impl FailingOrigin {
    /// The time at which a flow must be woken for a probe.
    fn wakes_at(&self) -> Option<Moment> {
        let at = self.breaker.next_probe().filter(|_| !self.held.is_empty())?;
        Some(at.max(self.next_prober_at))
    }

    /// Whether no flow posts to the origin any more.
    fn is_unused(&self, now: Moment) -> bool {
        self.held.is_empty() && self.breaker.next_probe().is_some_and(|at| now > at + FORGOTTEN_AFTER)
    }
}

impl FailingOrigins {
    /// Whether a post may be made now.
    pub(super) fn admits(&mut self, origin: &Origin, now: Moment) -> bool {
        let Some(found) = self.failing.get_mut(origin) else { return true };
        let admits = found.breaker.admit(now) == Admission::Post;
        self.update_wake();
        admits
    }

    pub(super) fn hold(&mut self, origin: &Origin, flow: FlowId) {
        if let Some(found) = self.failing.get_mut(origin) {
            found.held.push_back(flow);
            self.update_wake();
        }
    }

    pub(super) fn release(&mut self, flow: FlowId) {
        for found in self.failing.values_mut() {
            found.held.retain(|held| *held != flow);
        }
        self.update_wake();
    }

    /// Whether a request made `ago` is later than the last failure of the origin, whose breaker is open.
    pub(super) fn probes_on_request(&self, origin: &Origin, ago: Duration, now: Moment) -> bool {
        let found = self.failing.get(origin).filter(|found| found.breaker.state() == BreakerState::Open);
        found.and_then(|found| found.failed_at).is_some_and(|failed_at| failed_at + ago < now)
    }

    /// Lets the next post test the origin. No held flow is woken for the probe before it.
    pub(super) fn probe_now(&mut self, origin: &Origin, now: Moment) {
        let Some(found) = self.failing.get_mut(origin) else { return };
        found.breaker.probe_now(now);
        found.failed_at = None;
        found.next_prober_at = now + NEXT_PROBER;
        self.update_wake();
    }

    /// Records an answer of the origin. Returns whether its breaker was closed by it.
    pub(super) fn answered(&mut self, origin: &Origin, now: Moment) -> bool {
        let Some(mut found) = self.failing.remove(origin) else { return false };
        self.update_wake();
        let since = found.breaker.since();
        let closes = found.breaker.record_success(now);
        if closes {
            let change = OriginChange::Closed { after: now.saturating_sub(since), flows: found.held.len() };
            self.events.push(OriginEvent { origin: origin.clone(), change });
        }
        closes
    }

    /// Records a failure of the origin.
    pub(super) fn failed(
        &mut self,
        origin: &Origin,
        error: &str,
        retry_after: Option<Duration>,
        now: Moment,
        random_unit: f64,
    ) {
        let new = || FailingOrigin {
            breaker: Breaker::new(PROBES, now),
            held: VecDeque::new(),
            next_prober_at: now,
            failed_at: None,
            error: String::new(),
        };
        let found = self.failing.entry(origin.clone()).or_insert_with(new);
        error.clone_into(&mut found.error);
        found.failed_at = Some(now);
        if found.breaker.record_failure(now, retry_after, random_unit) {
            let change = OriginChange::Opened { error: error.to_owned() };
            self.events.push(OriginEvent { origin: origin.clone(), change });
        }
        self.update_wake();
    }

    fn update_wake(&mut self) {
        self.wakes_at = self.failing.values().filter_map(FailingOrigin::wakes_at).min();
    }

    /// Returns the flows that must be woken for a probe.
    fn probers(&mut self, now: Moment) -> Vec<FlowId> {
        if self.wakes_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let due = self.failing.values_mut().filter(|found| found.wakes_at().is_some_and(|at| at <= now));
        let woken = due.filter_map(|found| {
            found.next_prober_at = now + NEXT_PROBER;
            found.held.pop_front()
        });
        let woken = woken.collect();
        self.update_wake();
        woken
    }

    pub(super) fn next_wake(&self) -> Option<Moment> {
        self.wakes_at
    }

    /// Whether the breaker of an origin is open.
    pub(super) fn is_any_open(&self) -> bool {
        self.failing.values().any(|found| found.breaker.state() != BreakerState::Closed)
    }
}

impl DeliveryQueue {
    /// The changes of origins since the last call.
    pub fn take_origin_events(&mut self) -> Vec<OriginEvent> {
        std::mem::take(&mut self.origins.events)
    }

    /// Forgets the breakers of origins that no flow posts to any more.
    pub fn forget_unused_origins(&mut self, now: Moment) {
        let FailingOrigins { failing, events, .. } = &mut self.origins;
        let unused = failing.extract_if(|_, found| found.is_unused(now));
        events.extend(unused.map(|(origin, _)| OriginEvent { origin, change: OriginChange::Forgotten }));
    }

    /// The origins whose last post failed.
    #[must_use]
    pub fn failing_origins(&self, now: Moment) -> Vec<OriginStatus> {
        let status = |(origin, found): (&Origin, &FailingOrigin)| OriginStatus {
            origin: origin.clone(),
            state: found.breaker.state(),
            since: now.saturating_sub(found.breaker.since()),
        };
        self.origins.failing.iter().map(status).collect()
    }

    /// Wakes flows for the probes of their origins.
    pub(super) fn wake_probers(&mut self, now: Moment) {
        for flow in self.origins.probers(now) {
            self.unplace(flow);
            self.advance(flow, now);
        }
    }

    /// Lets a flow wait for its origin, without messages in memory. Messages that are too old become dead letters: the
    /// failures of the origin count as their attempts.
    pub(super) fn hold(&mut self, flow: FlowId, origin: &Origin, now: Moment) -> Option<Turn> {
        let queue = self.flows.get(&flow)?;
        let expired = queue.waiting.iter().take_while(|entry| now >= entry.expires_at).count();
        if expired > 0 {
            let failing = self.origins.failing.get(origin);
            let (error, since) =
                failing.map_or(("", now), |found| (found.error.as_str(), found.breaker.since()));
            let seconds = now.saturating_sub(since).as_secs();
            let detail = format!("given up: {origin} has not been available for {seconds} s: {error}");
            return self.give_up_waiting(flow, expired, DeadLetterReason::OutboxExpired, &detail, now);
        }
        let expires_at = queue.waiting.front().map(|entry| entry.expires_at);
        self.evict(flow);
        self.origins.hold(origin, flow);
        match expires_at {
            Some(at) => self.park(flow, at, WaitState::Held),
            None => self.advance(flow, now),
        }
        None
    }

    /// Lets all flows go on that wait for `origin`.
    pub(super) fn go_on(&mut self, origin: &Origin, now: Moment) {
        let waits = |place| matches!(place, WaitState::Held | WaitState::Parked);
        let waiting = self.flows.iter().filter(|(_, queue)| {
            waits(queue.place)
                && queue.course.as_ref().is_some_and(|course| course.origin.as_ref() == Some(origin))
        });
        let waiting: Vec<FlowId> = waiting.map(|(flow, _)| *flow).collect();
        for flow in waiting {
            self.unplace(flow);
            if let Some(queue) = self.flows.get_mut(&flow) {
                queue.retry_at = None;
                queue.is_due = true;
            }
            self.advance(flow, now);
        }
    }
}
