//! Receives messages and discards them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{LoadTarget, connect, reject_nul};
use super::{ANSWER_TIMEOUT, LoadError, UserPassword};

/// Lowest reason code of a refusal.
const REFUSED: i32 = 128;

/// Count and times of the received messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Number of messages, including duplicates.
    pub messages: u64,
    /// Time between the first and the last message.
    pub first_to_last: Duration,
    /// Time of the last message.
    pub last_at: Option<Instant>,
}

/// Subscribes to `filter`, calls `on_ready`, and counts messages. Ends after `count` messages, or after `idle` without
/// any.
#[allow(clippy::too_many_arguments, reason = "every parameter is independent")]
pub fn discard(
    host: &str,
    port: u16,
    client_id: &str,
    qos: u8,
    filter: &str,
    credentials: Option<UserPassword<'_>>,
    count: u64,
    idle: Duration,
    on_ready: &mut dyn FnMut(),
) -> Result<Discarded, LoadError> {
    reject_nul(filter, "a topic filter")?;
    if qos > 2 {
        return Err(LoadError::Qos(qos));
    }
    let (end_sender, end_receiver) = sync_channel(1);
    let tally = Arc::new(Tally { count, arrivals: Mutex::default(), end_sender });
    let client = connect(&LoadTarget { host, port, client_id, credentials }, |client| {
        let taking = Arc::clone(&tally);
        // A call without a message only marks the end of a connection.
        client.set_message_callback(move |_, message| {
            if message.is_some() {
                taking.take();
            }
        });
        let (lost, disconnected) = (Arc::clone(&tally), Arc::clone(&tally));
        client.set_connection_lost_callback(move |_| lost.end(DiscardEvent::Lost));
        client.set_disconnected_callback(move |_, _, _| disconnected.end(DiscardEvent::Lost));
    })?;
    let refused = |reason| LoadError::Subscribe { filter: filter.to_owned(), reason };
    let answer = client.subscribe(filter, i32::from(qos)).wait_for(ANSWER_TIMEOUT);
    let answer = answer.map_err(|error| refused(error.to_string()))?;
    if let Some(code) = answer.subscribe_response().filter(|code| *code >= REFUSED) {
        return Err(refused(format!("code {code}")));
    }
    on_ready();
    let discarded = tally.await_end(&end_receiver, idle)?;
    let disconnected = client.disconnect(None).wait_for(ANSWER_TIMEOUT);
    disconnected.map_err(|error| LoadError::Client(error.to_string()))?;
    Ok(discarded)
}

/// Event that ends the wait early.
enum DiscardEvent {
    Counted,
    Lost,
}

struct Tally {
    /// Number of messages to wait for.
    count: u64,
    arrivals: Mutex<ReceivedCount>,
    end_sender: SyncSender<DiscardEvent>,
}

#[derive(Clone, Copy, Default)]
struct ReceivedCount {
    messages: u64,
    /// Times of the first and the last message.
    span: Option<(Instant, Instant)>,
}

impl Tally {
    /// Counts a message that arrives now.
    fn take(&self) {
        let now = Instant::now();
        let mut arrivals = self.lock();
        arrivals.messages += 1;
        arrivals.span = Some((arrivals.span.map_or(now, |(first, _)| first), now));
        if arrivals.messages == self.count {
            self.end(DiscardEvent::Counted);
        }
    }

    fn end(&self, end: DiscardEvent) {
        // A full channel already holds the first end, which counts.
        let _ = self.end_sender.try_send(end);
    }

    fn await_end(
        &self,
        end_receiver: &Receiver<DiscardEvent>,
        idle: Duration,
    ) -> Result<Discarded, LoadError> {
        let begun = Instant::now();
        loop {
            let quiet_since = self.lock().span.map_or(begun, |(_, last)| last);
            match end_receiver.recv_timeout(idle.saturating_sub(quiet_since.elapsed())) {
                Ok(DiscardEvent::Lost) => return Err(LoadError::Lost),
                Ok(DiscardEvent::Counted) => break,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let last = self.lock().span.map_or(begun, |(_, last)| last);
                    if last == quiet_since {
                        break;
                    }
                }
            }
        }
        Ok(Discarded::from(*self.lock()))
    }

    /// Locks the counters, which stay valid after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, ReceivedCount> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ReceivedCount> for Discarded {
    fn from(arrivals: ReceivedCount) -> Discarded {
        let Some((first, last)) = arrivals.span else { return Discarded::default() };
        Discarded { messages: arrivals.messages, first_to_last: last - first, last_at: Some(last) }
    }
}
