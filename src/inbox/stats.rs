//! Statistics of the inbox, for metrics and health checks.
//!
//! They are not protected by the log's lock, which is held during disk writes. Reading them never waits for a
//! disk.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::age_marks::AgeMarks;
use super::error::AppendError;
use crate::domain::message::Offset;

/// A full inbox accepts a message whenever another one is done. A refusal therefore lasts until no append had
/// to wait for this long.
const REFUSAL_HOLD_INTERVAL: Duration = Duration::from_secs(10);

/// A persistent failure of appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendRefusal {
    /// Whether the inbox is full; otherwise the disk fails.
    pub is_full: bool,
    /// Time of the first refused message in a row.
    pub since: SystemTime,
}

#[derive(Debug, Clone, Copy)]
struct Refusing {
    refusal: AppendRefusal,
    last: Instant,
    has_taken_since: bool,
}

impl Refusing {
    fn lasts(&self) -> bool {
        !self.has_taken_since || self.last.elapsed() < REFUSAL_HOLD_INTERVAL
    }
}

/// Records that are not released yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreleased {
    /// Number of records; damaged ones may be included.
    pub records: u64,
    /// Receive time of the oldest record, possibly slightly too early. `None` if there are no records.
    pub oldest: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct InboxStats {
    appended: AtomicU64,
    /// Whether the last append was refused. Read for each message without the lock below.
    refuses: AtomicBool,
    refusing: Mutex<Option<Refusing>>,
    released: Mutex<Released>,
    marks: Mutex<AgeMarks>,
    /// A record closer to this time than the spacing needs no mark.
    marked_us: AtomicI64,
    spacing_us: AtomicI64,
}

/// State at the last release.
#[derive(Debug, Clone, Copy)]
struct Released {
    watermark: Offset,
    /// Records at or above the watermark.
    left: u64,
    /// Value of `appended` at the release.
    appended: u64,
}

impl InboxStats {
    /// Creates the statistics of an inbox with `records` records at and above `watermark`.
    pub(super) fn new(watermark: Offset, records: u64) -> Self {
        Self {
            appended: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
            refusing: Mutex::default(),
            released: Mutex::new(Released { watermark, left: records, appended: 0 }),
            marks: Mutex::default(),
            marked_us: AtomicI64::new(i64::MIN / 2),
            spacing_us: AtomicI64::new(0),
        }
    }

    /// Notes an appended message.
    pub(super) fn note_appended(&self, offset: Offset, received_at_us: i64) {
        self.appended.fetch_add(1, Relaxed);
        if self.refuses.load(Relaxed) {
            self.refuses.store(false, Relaxed);
            if let Some(refusing) = lock(&self.refusing).as_mut() {
                // This message has waited until now.
                refusing.last = Instant::now();
                refusing.has_taken_since = true;
            }
        }
        self.note_existing(offset, received_at_us);
    }

    /// Notes an existing record. Must be called in the order of offsets.
    pub(super) fn note_existing(&self, offset: Offset, received_at_us: i64) {
        let distance = received_at_us.abs_diff(self.marked_us.load(Relaxed));
        if distance >= self.spacing_us.load(Relaxed).unsigned_abs() {
            let (marked_us, spacing_us) = lock(&self.marks).received(offset, received_at_us);
            self.marked_us.store(marked_us, Relaxed);
            self.spacing_us.store(spacing_us, Relaxed);
        }
    }

    /// Notes a failed append. A closed inbox is no failure.
    pub(super) fn note_refused(&self, error: &AppendError) {
        let is_full = match error {
            AppendError::Closed => return,
            AppendError::Full => true,
            AppendError::Io(_) => false,
        };
        let mut refusing = lock(&self.refusing);
        let before = refusing.filter(Refusing::lasts);
        let since = before.map_or_else(SystemTime::now, |before| before.refusal.since);
        let refusal = AppendRefusal { is_full, since };
        *refusing = Some(Refusing { refusal, last: Instant::now(), has_taken_since: false });
        self.refuses.store(true, Relaxed);
    }

    /// Notes a release with `left` records remaining. Must not run concurrently with an append.
    pub(super) fn note_released(&self, watermark: Offset, left: u64) {
        *lock(&self.released) = Released { watermark, left, appended: self.appended() };
    }

    pub(super) fn appended(&self) -> u64 {
        self.appended.load(Relaxed)
    }

    pub(super) fn refusal(&self) -> Option<AppendRefusal> {
        lock(&self.refusing).filter(Refusing::lasts).map(|refusing| refusing.refusal)
    }

    pub(super) fn unreleased(&self) -> Unreleased {
        let Released { watermark, left, appended } = *lock(&self.released);
        let records = left + self.appended().saturating_sub(appended);
        let oldest = if records == 0 { None } else { lock(&self.marks).received_at(watermark) };
        Unreleased { records, oldest: oldest.map(time_of) }
    }
}

fn time_of(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lasts_until_appends_stop_waiting() {
        let stats = InboxStats::new(0, 0);
        stats.note_refused(&AppendError::Full);
        let first = stats.refusal();
        assert!(first.is_some_and(|refusal| refusal.is_full));
        stats.note_refused(&AppendError::Full);
        assert_eq!(stats.refusal(), first);
        stats.note_appended(1, 0);
        assert_eq!(stats.refusal(), first, "one was done, and another one taken");
        let long_ago = || lock(&stats.refusing).as_mut().unwrap().last -= REFUSAL_HOLD_INTERVAL;
        long_ago();
        assert_eq!(stats.refusal(), None);
        stats.note_refused(&AppendError::Full);
        assert!(stats.refusal().is_some() && stats.refusal() != first, "another one");
        long_ago();
        assert!(stats.refusal().is_some(), "none was taken since");
        stats.note_appended(2, 0);
        long_ago();
        stats.note_refused(&AppendError::Closed);
        assert_eq!(stats.refusal(), None, "it was closed by order");
    }

    #[test]
    fn appended_records_count_until_released() {
        let stats = InboxStats::new(0, 3);
        assert_eq!(stats.unreleased().records, 3);
        stats.note_appended(10, 1_000_000);
        stats.note_appended(11, 9_000_000);
        let unreleased = stats.unreleased();
        assert_eq!((unreleased.records, unreleased.oldest), (5, Some(time_of(1_000_000))));
        stats.note_released(11, 1);
        stats.note_appended(12, 9_100_000);
        let unreleased = stats.unreleased();
        assert_eq!((unreleased.records, unreleased.oldest), (2, Some(time_of(9_000_000))));
        stats.note_released(13, 0);
        assert_eq!(stats.unreleased(), Unreleased { records: 0, oldest: None });
    }
}
