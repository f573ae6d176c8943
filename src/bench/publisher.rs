//! Publishes the messages of a measurement on a separate thread.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::BenchError;
use super::schedule::{Pace, PublishTimes};
use super::workload::Workload;
use crate::mqtt::load::{LoadError, Publisher};

/// Handle of the publishing thread.
pub(super) struct Publishing {
    /// `None` after the thread was joined.
    thread: Option<JoinHandle<Result<(), LoadError>>>,
}

impl Publishing {
    /// Starts a thread that publishes all messages and waits for the acknowledgements. `publisher` must be connected.
    pub(super) fn start(
        publisher: Publisher,
        workload: Workload,
        pace: Pace,
        times: Arc<PublishTimes>,
    ) -> Result<Self, BenchError> {
        let publishing = move || publish(publisher, &workload, pace, &times);
        let thread = thread::Builder::new().name("bench-publisher".to_owned()).spawn(publishing);
        Ok(Self { thread: Some(thread.map_err(BenchError::Thread)?) })
    }

    /// Returns true if all messages are published, or an error if publishing failed.
    pub(super) fn is_over(&mut self) -> Result<bool, BenchError> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(false);
        }
        self.join().map(|()| true)
    }

    /// Waits until all messages are published.
    pub(super) fn join(&mut self) -> Result<(), BenchError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let panicked = |_| Err(LoadError::Client("its thread panicked".to_owned()));
        Ok(thread.join().unwrap_or_else(panicked)?)
    }
}

fn publish(
    mut publisher: Publisher,
    workload: &Workload,
    pace: Pace,
    times: &PublishTimes,
) -> Result<(), LoadError> {
    let topics: Vec<String> = (0..workload.flows).map(|flow| workload.topic_of(flow)).collect();
    let begin = times.now();
    for message in 0..workload.messages {
        let payload = workload.payload_of(message);
        let at = match pace.due(message) {
            None => times.now(),
            Some(due) => {
                let due = begin + due;
                thread::sleep(due.saturating_sub(times.now()));
                due
            }
        };
        times.note(message, at);
        let flow = usize::try_from(workload.flow_of(message)).unwrap_or(0);
        publisher.publish(topics.get(flow).map_or("", String::as_str), payload)?;
    }
    publisher.finish()
}
