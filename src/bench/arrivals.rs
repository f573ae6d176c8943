//! Tracks the messages that arrive at the endpoint, with repetitions and order.

use std::time::Duration;

use super::latency::{Latencies, Percentiles};
use super::schedule::PublishTimes;
use super::sink::Arrival;
use super::workload::Workload;
use crate::store::bench::progress::flow_index;

/// Arrived messages of a measurement.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Whether each message has arrived.
    has_arrived: Vec<bool>,
    /// Highest number that has arrived, by flow.
    last_number: Vec<u64>,
    count: u64,
    repeated: u64,
    out_of_order: u64,
    unknown: u64,
    last: Duration,
    latencies: Latencies,
}

impl Arrivals {
    /// Creates the state for a workload, without any arrivals.
    pub(super) fn new(workload: &Workload) -> Self {
        let many = |count| usize::try_from(count).unwrap_or(0);
        Self {
            has_arrived: vec![false; many(workload.messages)],
            last_number: vec![0; many(workload.flows)],
            count: 0,
            repeated: 0,
            out_of_order: 0,
            unknown: 0,
            last: Duration::ZERO,
            latencies: Latencies::new(&[]),
        }
    }

    /// Records an arrival.
    pub(super) fn note(&mut self, workload: &Workload, times: &PublishTimes, arrival: &Arrival) {
        let at = times.since_epoch(arrival.at);
        let flow = flow_index(&arrival.flow_code).filter(|flow| *flow < workload.flows);
        let number = arrival.n.and_then(|n| u64::try_from(n).ok()).filter(|number| *number > 0);
        let Some((flow, number)) = flow.zip(number) else {
            self.unknown += 1;
            return;
        };
        let message = workload.message_of(flow, number);
        let index = usize::try_from(message).unwrap_or(usize::MAX);
        match self.has_arrived.get_mut(index) {
            None => self.unknown += 1,
            Some(true) => self.repeated += 1,
            Some(has_arrived) => {
                *has_arrived = true;
                self.count += 1;
                self.last = self.last.max(at);
                self.note_order(flow, number);
                if let Some(published) = times.published_at(message) {
                    self.latencies.record(at.saturating_sub(published));
                }
            }
        }
    }

    fn note_order(&mut self, flow: u64, number: u64) {
        let Some(last) = usize::try_from(flow).ok().and_then(|flow| self.last_number.get_mut(flow)) else {
            return;
        };
        if number < *last {
            self.out_of_order += 1;
        }
        *last = number.max(*last);
    }

    /// Returns the number of distinct messages that have arrived.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the number of repeated arrivals.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Returns the number of messages that arrived after a later message of their flow.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Returns the number of arrivals that match no published message.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns the time of the last first-time arrival, since the epoch of the publish times.
    pub(super) fn last(&self) -> Duration {
        self.last
    }

    /// Returns the percentiles of the latencies, or `None` without an arrival.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        self.latencies.percentiles()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::store::bench::progress::flow_code;

    fn arrivals_of(numbers: &[(u64, i64)]) -> Arrivals {
        let workload = Workload { messages: 6, flows: 2, attributes: 1, prefix: String::new() };
        let times = PublishTimes::new(6);
        (0..6).for_each(|message| times.note(message, Duration::ZERO));
        let mut arrivals = Arrivals::new(&workload);
        for (flow, n) in numbers {
            let (flow_code, key) = (flow_code(*flow), String::new());
            let arrival = Arrival { at: Instant::now(), flow_code, key, n: Some(*n) };
            arrivals.note(&workload, &times, &arrival);
        }
        arrivals
    }

    #[test]
    fn repeated_arrivals_count_once() {
        let arrivals = arrivals_of(&[(0, 1), (0, 2), (0, 1), (1, 1)]);
        assert_eq!((arrivals.count(), arrivals.repeated(), arrivals.out_of_order()), (3, 1, 0));
        assert_eq!(arrivals.percentiles().map(|seen| seen.samples), Some(3));
    }

    #[test]
    fn overtaking_messages_are_counted() {
        assert_eq!(arrivals_of(&[(0, 2), (1, 1), (0, 1)]).out_of_order(), 1);
    }

    #[test]
    fn unpublished_messages_are_counted() {
        assert_eq!(arrivals_of(&[(0, 4), (2, 1), (0, 0), (1, -1)]).unknown(), 4);
    }
}
