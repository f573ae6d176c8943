//! When a flow posts next, and how many messages, by the options of its destination.

use std::time::Duration;

use super::Moment;
use super::course::Course;
use super::flow::FlowQueue;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::Destination;
use crate::domain::posting::options::BatchOptions;

impl FlowQueue {
    /// Determines the course of the next post, by the flow's row, if known, or else by the first message.
    pub(super) fn set_course(&mut self) {
        let Some(head) = self.waiting.front() else { return };
        let to = match &self.destination {
            Some(Destination::Url(to)) => to,
            _ => &head.item.destination,
        };
        if self.course.as_ref().is_none_or(|course| course.destination != *to) {
            self.course = Some(Course::new(to.clone()));
        }
    }

    /// The time of the next post by the rate limit and the delay of a batch, if it is in the future.
    pub(super) fn paced_until(&self, now: Moment) -> Option<Moment> {
        let course = self.course.as_ref()?;
        let by_rate = course.rate.map(|rate| rate.next_post_at());
        let by_batch = course.batch.and_then(|batch| self.gathers_until(batch));
        by_rate.into_iter().chain(by_batch).max().filter(|at| *at > now)
    }

    /// The end of the time in which an incomplete batch waits for more messages.
    fn gathers_until(&self, batch: BatchOptions) -> Option<Moment> {
        let head = self.waiting.front()?;
        let is_complete = self.waiting.len() >= batch.max_messages || self.waiting_bytes() >= batch.max_bytes;
        (!is_complete && !self.failing && self.suspects == 0)
            .then(|| head.arrived_at.saturating_add(Duration::from_millis(batch.max_delay_ms)))
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|entry| entry.item.payload.as_bytes().len()).sum()
    }

    /// Number of waiting messages for the next post: at most `most`, but at least one.
    pub(super) fn post_size(&self, most: usize) -> usize {
        let Some(batch) = self.course.as_ref().and_then(|course| course.batch) else { return 1 };
        let half = if self.suspects > 0 { (self.suspects / 2).max(1) } else { usize::MAX };
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(batch.max_messages.min(half).min(most)).take_while(|entry| {
            bytes += entry.item.payload.as_bytes().len();
            bytes <= batch.max_bytes
        });
        fitting.count().max(1)
    }

    /// Whether `item` was posted to another destination, so that its failure does not concern the current one.
    pub(super) fn posts_elsewhere_than(&self, item: &OutboxItem) -> bool {
        matches!(&self.destination, Some(Destination::Url(to)) if item.destination != *to)
    }
}
