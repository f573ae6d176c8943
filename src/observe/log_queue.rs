//! Between those who log and the one thread that writes: nobody who logs waits for standard error or a disk.
//!
//! ```text
//! put ──▶ │ line │ line │ gap of 7 │ line │ ──▶ take (the writer)
//! ```
//!
//! It is bounded. What finds no room is dropped, and a gap is left at its place that says how many lines are missing
//! there: what is INFO or less finds room in one half only, so that warnings and errors outlive a flood of these.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use log::Level;

use super::error_file::ErrorLine;

/// Bytes of text that may wait.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Of all queues of the process, of which there is more than one in tests only.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines this process has dropped.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// A record, ready to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// With the line break; `None` if the filter leaves it out of standard error.
    pub(super) stderr: Option<String>,
    /// `None` if it is no error.
    pub(super) error: Option<ErrorLine>,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A record.
    Entry(Entry),
    /// So many records are missing here.
    Gap {
        /// How many.
        lines: u64,
        /// Whether one of them is missing in the error file.
        has_errors: bool,
        /// When the first of them came.
        since: SystemTime,
    },
}

/// The queue.
#[derive(Debug)]
pub(super) struct LogQueue {
    max_bytes: usize,
    state: Mutex<State>,
    /// There is something to write.
    more: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Items that were put so far, taken so far, and taken and written so far.
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

    /// Hands an entry to the writer, or drops it. Waits for nothing that takes time.
    pub(super) fn put(&self, level: Level, entry: Entry) {
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

    /// The next item; waits until there is one. To ask for it says that the last one is written.
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

    /// Waits until everything that was put so far is written, or for so long. Whether it is.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let state = self.state();
        let put = state.put;
        let waited = self.written.wait_timeout_while(state, timeout, |state| state.written < put);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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

impl Entry {
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

    fn entry(text: &str) -> Entry {
        Entry { stderr: Some(text.to_owned()), error: None }
    }

    /// What is in the queue: texts, and gaps as numbers.
    fn take_all(queue: &LogQueue) -> Vec<Result<String, u64>> {
        let waiting = queue.state().items.len();
        let items = (0..waiting).map(|_| match queue.take() {
            Item::Entry(entry) => Ok(entry.stderr.unwrap()),
            Item::Gap { lines, .. } => Err(lines),
        });
        items.collect()
    }

    #[test]
    fn an_info_leaves_room_for_a_warning_and_each_gap_is_at_its_place() {
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
    fn a_gap_tells_whether_the_error_file_misses_something() {
        let clock: LocalClock = Box::new(|| chrono::Local::now().naive_local());
        let file = ErrorFile::open(&std::env::temp_dir(), clock).unwrap();
        let error = || Entry { stderr: None, error: Some(file.line(Level::Error, "e")) };
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
    fn a_flush_waits_for_what_is_being_written_and_not_for_ever() {
        let queue = Arc::new(LogQueue::new());
        assert!(queue.flush(Duration::ZERO), "there is nothing");
        queue.put(Level::Info, entry("a"));
        assert_eq!(queue.take(), Item::Entry(entry("a")));
        assert!(!queue.flush(Duration::ZERO), "taken, and nobody knows whether it is written");
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || writer.take());
        assert!(queue.flush(Duration::MAX));
        queue.put(Level::Info, entry("b"));
        assert_eq!(writer.join().unwrap(), Item::Entry(entry("b")));
    }

    proptest! {
        #[test]
        fn what_is_taken_and_what_gaps_count_is_what_was_put_in_order(
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
