//! Bounded queue between logging threads and the writer thread. Logging never waits for standard error or a disk.
//!
//! ```text
//! put ──▶ │ line │ line │ gap of 7 │ line │ ──▶ take (the writer)
//! ```
//!
//! When the queue is full, entries are dropped and counted in a gap at their position. INFO and lower levels may fill
//! only half of the queue, so that warnings and errors survive a flood of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use log::Level;

use super::error_file::ErrorLine;

/// Maximum bytes of queued text.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Dropped lines of all queues. Only tests create more than one queue.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lines that this process has dropped.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// A formatted record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LogEntry {
    /// The line for standard error with its line break; `None` if the filter excludes it.
    pub(super) stderr: Option<String>,
    /// The line for the error file; `None` for lower levels.
    pub(super) error: Option<ErrorLine>,
}

/// An item for the writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A record.
    Entry(LogEntry),
    /// Records were dropped at this position.
    Gap {
        /// Number of dropped records.
        lines: u64,
        /// Whether the error file misses one of them.
        has_errors: bool,
        /// Time at which the first of them was logged.
        since: SystemTime,
    },
}

/// The queue of log entries.
#[derive(Debug)]
pub(super) struct LogQueue {
    max_bytes: usize,
    state: Mutex<QueueState>,
    /// Signalled when an item is added.
    more: Condvar,
    /// Signalled when an item has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    items: VecDeque<Item>,
    bytes: usize,
    /// Items added, taken and written since the start.
    put: u64,
    taken: u64,
    written: u64,
}

impl LogQueue {
    pub(super) fn new() -> Self {
        Self::with_capacity(MAX_BYTES)
    }

    fn with_capacity(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default(), more: Condvar::new(), written: Condvar::new() }
    }

    /// Queues an entry, or drops it if the queue is full. Never waits for the writer.
    pub(super) fn put(&self, level: Level, entry: LogEntry) {
        let limit = if level <= Level::Warn { self.max_bytes } else { self.max_bytes / 2 };
        let mut state = self.state();
        let bytes = state.bytes + entry.bytes();
        if bytes <= limit {
            state.bytes = bytes;
            state.push(Item::Entry(entry));
        } else {
            DROPPED.fetch_add(1, Relaxed);
            state.record_gap(entry.error.is_some());
        }
        drop(state);
        self.more.notify_one();
    }

    /// Waits for the next item and returns it. The call also confirms that the previous item has been written.
    pub(super) fn take(&self) -> Item {
        let mut state = self.state();
        state.written = state.taken;
        self.written.notify_all();
        loop {
            if let Some(item) = state.pop() {
                return item;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all items queued so far are written, at most for `timeout`. Returns whether they are.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let state = self.state();
        let put = state.put;
        let waited = self.written.wait_timeout_while(state, timeout, |state| state.written < put);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn push(&mut self, item: Item) {
        self.items.push_back(item);
        self.put += 1;
    }

    fn record_gap(&mut self, is_error: bool) {
        if let Some(Item::Gap { lines, has_errors, .. }) = self.items.back_mut() {
            *lines += 1;
            *has_errors |= is_error;
        } else {
            self.push(Item::Gap { lines: 1, has_errors: is_error, since: SystemTime::now() });
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Item::Entry(entry) = &item {
            self.bytes -= entry.bytes();
        }
        self.taken += 1;
        Some(item)
    }
}

impl LogEntry {
    fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |error| error.text.len());
        self.stderr.as_ref().map_or(0, String::len) + error
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::super::error_file::{ErrorFile, LocalClock};
    use super::*;

    fn entry(text: &str) -> LogEntry {
        LogEntry { stderr: Some(text.to_owned()), error: None }
    }

    /// Takes all queued items: texts, and gaps as numbers.
    fn take_all(queue: &LogQueue) -> Vec<Result<String, u64>> {
        let waiting = queue.state().items.len();
        let items = (0..waiting).map(|_| match queue.take() {
            Item::Entry(entry) => Ok(entry.stderr.unwrap()),
            Item::Gap { lines, .. } => Err(lines),
        });
        items.collect()
    }

    #[test]
    fn info_cannot_displace_warnings() {
        let queue = LogQueue::with_capacity(8);
        for (level, text) in [
            (Level::Info, "iiii"),
            (Level::Info, "jj"),
            (Level::Debug, "kk"),
            (Level::Warn, "ww"),
            (Level::Error, "ee"),
            (Level::Error, "f"),
        ] {
            queue.put(level, entry(text));
        }
        let texts = |text: &str| Ok(text.to_owned());
        assert_eq!(take_all(&queue), [texts("iiii"), Err(2), texts("ww"), texts("ee"), Err(1)]);
        queue.put(Level::Info, entry("room"));
        assert_eq!(take_all(&queue), [texts("room")]);
    }

    #[test]
    fn gap_records_missing_errors() {
        let clock: LocalClock = Box::new(|| chrono::Local::now().naive_local());
        let file = ErrorFile::open(&std::env::temp_dir(), clock).unwrap();
        let error = || LogEntry { stderr: None, error: Some(file.line(Level::Error, "e")) };
        let queue = LogQueue::with_capacity(0);
        let misses_errors = || match queue.take() {
            Item::Gap { has_errors, .. } => has_errors,
            entry @ Item::Entry(_) => panic!("{entry:?}"),
        };
        queue.put(Level::Info, entry("i"));
        queue.put(Level::Warn, entry("w"));
        assert!(!misses_errors());
        for entry in [entry("i"), error(), entry("i")] {
            queue.put(Level::Info, entry);
        }
        assert!(misses_errors());
    }

    #[test]
    fn flush_waits_with_a_timeout() {
        let queue = Arc::new(LogQueue::new());
        assert!(queue.flush(Duration::ZERO), "there is nothing");
        queue.put(Level::Info, entry("a"));
        assert_eq!(queue.take(), Item::Entry(entry("a")));
        assert!(!queue.flush(Duration::ZERO), "taken, but not confirmed as written");
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || writer.take());
        assert!(queue.flush(Duration::MAX));
        queue.put(Level::Info, entry("b"));
        assert_eq!(writer.join().unwrap(), Item::Entry(entry("b")));
    }

    proptest! {
        #[test]
        fn gaps_account_for_every_dropped_entry(
            puts in prop::collection::vec((any::<bool>(), 0_usize..40, any::<bool>()), 0..200),
        ) {
            let queue = LogQueue::with_capacity(100);
            let mut taken = Vec::new();
            for (number, (is_error, padding, takes)) in puts.iter().enumerate() {
                let level = if *is_error { Level::Error } else { Level::Info };
                queue.put(level, entry(&format!("{number}{}", " ".repeat(*padding))));
                prop_assert!(queue.state().bytes <= 100);
                if *takes {
                    taken.extend(take_all(&queue));
                }
            }
            taken.extend(take_all(&queue));
            let mut next = 0;
            for item in taken {
                match item {
                    Ok(text) => {
                        prop_assert_eq!(text.trim().parse::<u64>().unwrap(), next);
                        next += 1;
                    }
                    Err(lines) => next += lines,
                }
            }
            prop_assert_eq!(next, puts.len() as u64);
        }
    }
}
