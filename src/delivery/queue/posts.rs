//! The turns of flows, and the outcomes of posts.

use std::sync::Arc;
use std::time::Duration;

use super::flow::{PostInFlight, QueueEntry, WaitState};
use super::{DeliveryQueue, MAX_REFUSED_IN_A_ROW, MIN_RETRY_DELAY, Moment};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::Outcome;
use crate::domain::posting::attempts::RecentAttempts;
use crate::domain::posting::origin::Origin;

/// Identifies a post in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostId {
    /// The flow.
    pub flow: FlowId,
    pub(super) number: u64,
}

/// A post to make: one message, or several of a flow with batches.
#[derive(Debug, Clone)]
pub struct QueuedPost {
    /// Its id.
    pub id: PostId,
    /// The origin of the endpoint; `None` for a URL that no post can be made to.
    pub origin: Option<Origin>,
    /// The messages, at least one.
    pub items: Vec<Arc<OutboxItem>>,
}

/// The next action.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Make a post.
    Post(QueuedPost),
    /// Make dead letters of messages that waited too long or in vain.
    GiveUp {
        /// The messages.
        items: Vec<Arc<OutboxItem>>,
        /// Their outcomes, in the same order.
        outcomes: Vec<Outcome>,
    },
}

/// How a post ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostResult {
    /// The endpoint accepted the messages.
    Delivered,
    /// The endpoint rejected the content. Another attempt would fail the same way.
    Refused(String),
    /// The endpoint is not available for this flow.
    Failed(PostFailure),
}

/// A post that must be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostFailure {
    /// Description of the failure.
    pub error: String,
    /// The delay that the endpoint asks for.
    pub retry_after: Option<Duration>,
    /// Whether posts of other flows to the same origin would fail too.
    pub blames_origin: bool,
}

#[cfg(test)]
impl PostInFlight {
    pub(super) fn id(&self, flow: FlowId) -> PostId {
        PostId { flow, number: self.number }
    }
}

impl DeliveryQueue {
    /// The next post, if one may be made now, or messages to give up.
    pub fn next_turn(&mut self, now: Moment) -> Option<Turn> {
        self.wake(now);
        while self.has_room_for_a_post() {
            let flow = self.next_ready()?;
            if let Some(turn) = self.take_turn(flow, now) {
                return Some(turn);
            }
        }
        None
    }

    fn has_room_for_a_post(&self) -> bool {
        !self.stopped
            && self.posts < self.limits.posts
            && self.unflushed + self.posting < self.limits.unflushed
    }

    fn next_ready(&mut self) -> Option<FlowId> {
        let retry = self.retries < self.limits.retries
            && !self.retrying.is_empty()
            && (self.retry_has_turn || self.fresh.is_empty());
        self.retry_has_turn = !retry;
        if retry { self.retrying.pop_front() } else { self.fresh.pop_front() }
    }

    fn take_turn(&mut self, flow: FlowId, now: Moment) -> Option<Turn> {
        let queue = self.flows.get_mut(&flow)?;
        queue.place = WaitState::Idle;
        if queue.is_deleted() {
            let detail = "the flow was deleted while the post waited";
            let all = queue.waiting.len();
            return self.give_up_waiting(flow, all, DeadLetterReason::FlowDeleted, detail, now);
        }
        queue.set_course();
        if let Some(at) = queue.paced_until(now) {
            self.park(flow, at, WaitState::Paced);
            return None;
        }
        let origin = queue.course.as_ref().and_then(|course| course.origin.clone());
        if let Some(origin) = &origin
            && !self.origins.admits(origin, now)
        {
            return self.hold(flow, origin, now);
        }
        self.take_post(flow, origin, now).map(Turn::Post)
    }

    fn take_post(&mut self, flow: FlowId, origin: Option<Origin>, now: Moment) -> Option<QueuedPost> {
        let room = self.limits.unflushed.saturating_sub(self.unflushed + self.posting);
        let queue = self.flows.get_mut(&flow)?;
        let size = queue.post_size(room).min(queue.waiting.len());
        let course = queue.course.as_mut()?;
        let mut entries: Vec<QueueEntry> = queue.waiting.drain(..size).collect();
        for entry in &mut entries {
            if entry.item.destination != course.destination {
                Arc::make_mut(&mut entry.item).destination = course.destination.clone();
            }
        }
        if let Some(rate) = &mut course.rate {
            rate.record_post(now);
        }
        self.last_post += 1;
        let items = entries.iter().map(|entry| Arc::clone(&entry.item)).collect();
        queue.in_flight.push(PostInFlight {
            number: self.last_post,
            entries,
            origin: origin.clone(),
            is_retry: queue.failing,
        });
        queue.posting += size;
        self.posting += size;
        self.posts += 1;
        self.retries += usize::from(queue.failing);
        self.advance(flow, now);
        Some(QueuedPost { id: PostId { flow, number: self.last_post }, origin, items })
    }

    /// Makes dead letters of the first `count` waiting messages of `flow`.
    pub(super) fn give_up_waiting(
        &mut self,
        flow: FlowId,
        count: usize,
        reason: DeadLetterReason,
        detail: &str,
        now: Moment,
    ) -> Option<Turn> {
        let queue = self.flows.get_mut(&flow)?;
        let given_up: Vec<QueueEntry> = queue.waiting.drain(..count).collect();
        let bytes: usize = given_up.iter().map(|entry| entry.bytes).sum();
        queue.bytes -= bytes;
        self.bytes -= bytes;
        self.messages -= count;
        let outcome = |entry: &QueueEntry| Outcome::GivenUp {
            key: entry.item.key.clone(),
            reason,
            detail: detail.to_owned(),
            recent_attempts: RecentAttempts::default(),
        };
        let outcomes: Vec<Outcome> = given_up.iter().map(outcome).collect();
        self.await_flush(flow, &outcomes);
        self.advance(flow, now);
        let items = given_up.into_iter().map(|entry| entry.item).collect();
        Some(Turn::GiveUp { items, outcomes })
    }

    /// Records the end of a post and returns the outcomes to write. `random_unit`, from 0 to below 1, spreads the next
    /// attempts.
    pub fn ended(&mut self, post: PostId, result: PostResult, now: Moment, random_unit: f64) -> Vec<Outcome> {
        let Some(ended) = self.take_in_flight(post) else { return Vec::new() };
        let origin = ended.origin.clone();
        let outcomes = match &result {
            PostResult::Delivered => self.delivered(post.flow, ended, now),
            PostResult::Refused(error) => self.refused(post.flow, ended, error, now, random_unit),
            PostResult::Failed(failure) => self.failed(post.flow, &ended, failure, now, random_unit),
        };
        self.await_flush(post.flow, &outcomes);
        match (&origin, result) {
            (Some(origin), PostResult::Failed(failure)) if failure.blames_origin => {
                self.origins.failed(origin, &failure.error, failure.retry_after, now, random_unit);
            }
            (Some(origin), _) if self.origins.answered(origin, now) => self.go_on(origin, now),
            _ => {}
        }
        self.advance(post.flow, now);
        outcomes
    }

    fn take_in_flight(&mut self, post: PostId) -> Option<PostInFlight> {
        let queue = self.flows.get_mut(&post.flow)?;
        let index = queue.in_flight.iter().position(|found| found.number == post.number)?;
        let ended = queue.in_flight.remove(index);
        queue.posting -= ended.entries.len();
        self.posting -= ended.entries.len();
        self.posts -= 1;
        self.retries -= usize::from(ended.is_retry);
        Some(ended)
    }

    /// Frees the memory of messages that are not in a queue any more.
    fn free(&mut self, flow: FlowId, entries: &[QueueEntry]) {
        let bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.bytes -= bytes;
        }
        self.bytes -= bytes;
        self.messages -= entries.len();
    }

    fn await_flush(&mut self, flow: FlowId, outcomes: &[Outcome]) {
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.unflushed += outcomes.len();
            self.unflushed += outcomes.len();
        }
    }

    fn delivered(&mut self, flow: FlowId, post: PostInFlight, now: Moment) -> Vec<Outcome> {
        self.free(flow, &post.entries);
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.failing = queue.unflushed_failures > 0;
            queue.is_due = false;
            queue.refused_in_a_row = 0;
            queue.suspects = queue.suspects.saturating_sub(post.entries.len());
            queue.window.count(post.entries.len(), now);
        }
        let delivered =
            post.entries.into_iter().map(|entry| Outcome::Delivered { key: entry.item.key.clone() });
        delivered.collect()
    }

    /// A rejected batch is halved until the rejected message stands alone.
    fn refused(
        &mut self,
        flow: FlowId,
        post: PostInFlight,
        error: &str,
        now: Moment,
        random_unit: f64,
    ) -> Vec<Outcome> {
        let Some(queue) = self.flows.get_mut(&flow) else { return Vec::new() };
        let count = post.entries.len();
        if count > 1 {
            queue.suspects = count;
            for entry in post.entries.into_iter().rev() {
                queue.waiting.push_front(entry);
            }
            if queue.waits_empty() {
                self.evict(flow);
            }
            return Vec::new();
        }
        queue.suspects = 0;
        if queue.refused_in_a_row >= MAX_REFUSED_IN_A_ROW {
            let failure = PostFailure { error: error.to_owned(), retry_after: None, blames_origin: false };
            return self.failed(flow, &post, &failure, now, random_unit);
        }
        queue.refused_in_a_row += 1;
        self.free(flow, &post.entries);
        let refused = post.entries.into_iter().map(|entry| Outcome::GivenUp {
            key: entry.item.key.clone(),
            reason: DeadLetterReason::EndpointRefused,
            detail: error.to_owned(),
            recent_attempts: RecentAttempts::default(),
        });
        refused.collect()
    }

    fn failed(
        &mut self,
        flow: FlowId,
        post: &PostInFlight,
        failure: &PostFailure,
        now: Moment,
        random_unit: f64,
    ) -> Vec<Outcome> {
        self.free(flow, &post.entries);
        let outcomes: Vec<Outcome> =
            post.entries.iter().map(|entry| self.failed_outcome(entry, failure, now, random_unit)).collect();
        let failures = outcomes.iter().filter(|outcome| !outcome.removes_row()).count();
        let Some(queue) = self.flows.get_mut(&flow) else { return outcomes };
        queue.failing = true;
        queue.suspects = 0;
        queue.is_due = post.entries.first().is_some_and(|entry| queue.posts_elsewhere_than(&entry.item));
        queue.unflushed_failures += failures;
        // The flow may be ready to post in parallel, among those that have not failed.
        self.unplace(flow);
        if failures > 0 {
            self.evict(flow);
            if let Some(queue) = self.flows.get_mut(&flow) {
                queue.place = WaitState::Flushing;
            }
        }
        outcomes
    }

    fn failed_outcome(
        &self,
        entry: &QueueEntry,
        failure: &PostFailure,
        now: Moment,
        random_unit: f64,
    ) -> Outcome {
        let key = entry.item.key.clone();
        let attempts = entry.item.attempts.saturating_add(1);
        let PostFailure { error, retry_after, .. } = failure;
        if now >= entry.expires_at {
            let detail = format!("given up at attempt {attempts}: {error}");
            return Outcome::GivenUp {
                key,
                reason: DeadLetterReason::OutboxExpired,
                detail,
                recent_attempts: RecentAttempts::default(),
            };
        }
        let backoff = self.rule.backoff.spread_delay(attempts, random_unit);
        let retry_in = backoff.min(entry.expires_at.saturating_sub(now)).max(MIN_RETRY_DELAY);
        let retry_in = retry_in.max(retry_after.unwrap_or_default());
        Outcome::Failed {
            key,
            attempts,
            retry_in,
            error: error.clone(),
            recent_attempts: RecentAttempts::default(),
        }
    }
}
