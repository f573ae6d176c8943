//! State shared by the clones of an inbox and its readers: the log behind its mutex, counters that are read
//! without it, and blocking appends.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::duplicate_filter::{DuplicateFilter, Extent};
use super::durable;
use super::error::{AppendError, Closed, InboxError};
use super::log_file::{Log, Unsynced};
use super::progress::{InboxProgress, ProgressFile};
use super::record::Codec;
use super::segment::Segment;
use super::stats::InboxStats;
use crate::domain::message::{Offset, Publication};
use crate::domain::redelivery::Fingerprint;

/// Interval at which a blocked append retries on a full inbox without a wakeup, and reports that it still
/// waits.
const FULL_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Delay before the first retry after a disk error. Each further delay doubles, up to the maximum.
const DISK_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_DISK_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Minimum sync interval. Syncing without a pause would starve the writer.
const MIN_SYNC_INTERVAL: Duration = Duration::from_millis(1);

pub(super) struct Shared {
    log: Mutex<Log>,
    /// Wakes waiting appenders and the syncing thread.
    changed: Condvar,
    published: AtomicU64,
    bytes: AtomicU64,
    kept_bytes: AtomicU64,
    max_bytes: u64,
    codec: Codec,
    stats: InboxStats,
    progress: Mutex<ProgressFile>,
    /// Held during a sync, so that a second caller waits for the first.
    syncing: Mutex<()>,
    /// Held while the redelivery file is replaced, so that an older state never overwrites a newer one. Locked
    /// before the log.
    storing: Mutex<()>,
}

impl Shared {
    pub(super) fn new(log: Log, progress: ProgressFile) -> Shared {
        let done_below = progress.known.done_below;
        Shared {
            changed: Condvar::new(),
            published: AtomicU64::new(log.next_offset()),
            bytes: AtomicU64::new(log.bytes()),
            kept_bytes: AtomicU64::new(log.kept_bytes()),
            max_bytes: log.max_bytes(),
            codec: log.codec(),
            stats: InboxStats::new(done_below, log.records_from(done_below)),
            progress: Mutex::new(progress),
            syncing: Mutex::default(),
            storing: Mutex::default(),
            log: Mutex::new(log),
        }
    }

    /// Locks the log. A panic in another thread cannot corrupt it, because each step leaves it consistent.
    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offset below which every record is readable.
    pub(super) fn published(&self) -> Offset {
        self.published.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of finished segments, not included in `bytes`.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(super) fn stats(&self) -> &InboxStats {
        &self.stats
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    pub(super) fn append(
        &self,
        publication: &Publication<'_>,
        received_at_us: i64,
    ) -> Result<Offset, AppendError> {
        let fingerprint = Fingerprint::from_publication(publication);
        self.append_locked(&mut self.lock(), publication, fingerprint.as_ref(), received_at_us)
    }

    fn append_locked(
        &self,
        log: &mut Log,
        publication: &Publication<'_>,
        fingerprint: Option<&Fingerprint>,
        received_at_us: i64,
    ) -> Result<Offset, AppendError> {
        let appended = log.append(publication, fingerprint, received_at_us);
        match &appended {
            Ok(offset) => self.stats.note_appended(*offset, received_at_us),
            Err(refusal) => self.stats.note_refused(refusal),
        }
        self.note_bytes(log);
        self.published.store(log.next_offset(), Ordering::Release);
        appended
    }

    pub(super) fn append_blocking(
        &self,
        publication: &Publication<'_>,
        received_at_us: i64,
        on_wait: &dyn Fn(&AppendError),
    ) -> Result<Offset, Closed> {
        let mut disk_pause = DISK_RETRY_DELAY;
        let fingerprint = Fingerprint::from_publication(publication);
        loop {
            let mut log = self.lock();
            let refusal =
                match self.append_locked(&mut log, publication, fingerprint.as_ref(), received_at_us) {
                    Ok(offset) => return Ok(offset),
                    Err(refusal) => refusal,
                };
            let seen = log.wakeups();
            drop(log);
            if matches!(&refusal, AppendError::Io(error) if error.is_disk_full()) && self.free_kept() {
                continue;
            }
            let pause = match &refusal {
                AppendError::Closed => return Err(Closed),
                AppendError::Full => FULL_RETRY_INTERVAL,
                AppendError::Io(_) => disk_pause,
            };
            if matches!(refusal, AppendError::Io(_)) {
                disk_pause = (disk_pause * 2).min(MAX_DISK_RETRY_DELAY);
            }
            on_wait(&refusal);
            self.sleep_while(pause, |log| log.wakeups() == seen);
        }
    }

    fn sleep_while(&self, pause: Duration, condition: impl Fn(&Log) -> bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), pause, |log| condition(log));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn release(&self, watermark: Offset) -> Result<(), InboxError> {
        let expired = {
            let _gate = lock_gate(&self.storing);
            let expired = {
                let mut log = self.lock();
                self.stats.note_released(watermark, log.records_from(watermark));
                let expired = log.detach_expired(watermark);
                self.note_bytes(&log);
                expired
            };
            lock_progress(&self.progress).known.done_below = watermark;
            self.prepare_deletion(expired)?
        };
        // Kept segments do not count towards the limit, so waiting appends may succeed now.
        self.changed.notify_all();
        self.delete(expired)
    }

    /// Deletes all finished segments because the disk is full. Returns whether any was deleted.
    fn free_kept(&self) -> bool {
        let given_up = {
            let _gate = lock_gate(&self.storing);
            let taken = self.lock().detach_kept();
            self.prepare_deletion(taken)
        };
        match given_up {
            Ok(given_up) if given_up.is_empty() => false,
            Ok(given_up) => {
                let segments = given_up.len();
                log::warn!(segments; "The disk is full: deleting finished segments of the inbox early. If the database loses commits, their messages cannot be processed again");
                self.delete(given_up).is_ok()
            }
            Err(_) => false,
        }
    }

    fn delete(&self, segments: Vec<Arc<Segment>>) -> Result<(), InboxError> {
        let (mut first_failure, mut left) = (Ok(()), Vec::new());
        for segment in segments {
            // The log is not locked here, because deleting a large file takes time.
            match fs::remove_file(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    first_failure = first_failure.and(Err(InboxError::io("delete", &segment.path)(error)));
                    left.push(segment);
                }
                _ => self.forget_deleted(),
            }
        }
        self.restore_kept(left);
        first_failure
    }

    /// Stores state derived from detached segments before their files are deleted. Requires the `storing` lock.
    fn prepare_deletion(&self, taken: Vec<Arc<Segment>>) -> Result<Vec<Arc<Segment>>, InboxError> {
        let Some(end) = taken.iter().map(|segment| segment.end()).max() else { return Ok(taken) };
        match self.store_redelivery(Extent::Bounded) {
            Ok(()) => {
                self.remember(|known| known.deleted_below = known.deleted_below.max(end));
                Ok(taken)
            }
            Err(error) => {
                self.restore_kept(taken);
                Err(error)
            }
        }
    }

    /// Puts back segments whose files were not deleted, oldest first.
    fn restore_kept(&self, segments: Vec<Arc<Segment>>) {
        let mut log = self.lock();
        for segment in segments.into_iter().rev() {
            log.restore_kept(segment);
        }
        self.note_bytes(&log);
    }

    pub(super) fn progress(&self) -> InboxProgress {
        lock_progress(&self.progress).known.clone()
    }

    /// Notes the committed offsets of the lanes. The file follows within seconds.
    pub(super) fn note_lanes(&self, lanes: Vec<Offset>) {
        let mut progress = lock_progress(&self.progress);
        progress.known.lanes = lanes;
        if progress.is_due() {
            self.store_progress(&mut progress);
        }
    }

    /// Changes the progress and writes the file at once.
    pub(super) fn remember(&self, change: impl FnOnce(&mut InboxProgress)) {
        let mut progress = lock_progress(&self.progress);
        change(&mut progress.known);
        self.store_progress(&mut progress);
    }

    fn store_progress(&self, progress: &mut ProgressFile) {
        let dir = self.lock().dir().to_path_buf();
        if let Err(error) = progress.store(&dir) {
            log::warn!("The inbox cannot store the progress of the database: {error}");
        }
    }

    fn note_bytes(&self, log: &Log) {
        self.bytes.store(log.bytes(), Ordering::Relaxed);
        self.kept_bytes.store(log.kept_bytes(), Ordering::Relaxed);
    }

    /// See [`Log::begin_above`].
    pub(super) fn begin_above(&self, offset: Offset) -> Result<(), InboxError> {
        let mut log = self.lock();
        log.begin_above(offset)?;
        self.note_bytes(&log);
        self.published.store(log.next_offset(), Ordering::Release);
        Ok(())
    }

    /// Changes the duplicate filter and stores it.
    pub(super) fn change_redelivery(
        &self,
        change: impl FnOnce(&mut DuplicateFilter),
    ) -> Result<(), InboxError> {
        let _gate = lock_gate(&self.storing);
        change(self.lock().redelivery());
        self.store_redelivery(Extent::Complete)
    }

    /// Stores the duplicate filter if the file is outdated.
    pub(super) fn keep_redelivery(&self) -> Result<(), InboxError> {
        let _gate = lock_gate(&self.storing);
        self.store_redelivery(Extent::Complete)
    }

    /// Withdraws the trust in the broker, also for the next start. A repeated call writes nothing.
    pub(super) fn invalidate_redelivery(&self, session: &str) -> Result<(), InboxError> {
        let _gate = lock_gate(&self.storing);
        if self.lock().redelivery().invalidate(session) {
            self.store_redelivery(Extent::Complete)
        } else {
            Ok(())
        }
    }

    /// Replaces the redelivery file if it is outdated. If that fails, the file is removed. A missing file can
    /// only cause duplicates, but an outdated one could make new messages look like duplicates.
    fn store_redelivery(&self, extent: Extent) -> Result<(), InboxError> {
        let Some(unstored) = self.lock().take_unstored_redelivery(extent) else {
            return Ok(());
        };
        // Messages recorded as received must be at least as durable as the file.
        let Err(error) = self.sync().and_then(|()| unstored.store()) else {
            return Ok(());
        };
        log::error!("inbox: cannot store the recent messages that identify duplicates: {error}");
        self.lock().redelivery().mark_unstored();
        unstored.remove_stored()
    }

    fn forget_deleted(&self) {
        let mut log = self.lock();
        log.forget_deleted();
        self.note_bytes(&log);
        drop(log);
        self.changed.notify_all();
    }

    pub(super) fn sync(&self) -> Result<(), InboxError> {
        let _gate = lock_gate(&self.syncing);
        let unsynced = self.lock().take_unsynced();
        let result = sync_all(&unsynced);
        if result.is_err() {
            self.lock().sync_failed(&unsynced);
        }
        result
    }

    /// Rejects further appends and wakes waiting threads. Returns false if the inbox was already closing.
    pub(super) fn begin_close(&self) -> bool {
        let first = self.lock().close();
        self.changed.notify_all();
        first
    }

    /// Starts the thread that syncs every `interval` until the inbox is closed.
    pub(super) fn spawn_syncer(
        shared: &Arc<Shared>,
        interval: Duration,
    ) -> Result<JoinHandle<()>, InboxError> {
        let shared = Arc::clone(shared);
        thread::Builder::new()
            .name("inbox-sync".into())
            .spawn(move || shared.sync_every(interval))
            .map_err(InboxError::io("start the syncing thread of", "the inbox".as_ref()))
    }

    fn sync_every(&self, interval: Duration) {
        let mut failing = false;
        loop {
            self.sleep_while(interval.max(MIN_SYNC_INTERVAL), |log| !log.is_closed());
            if self.lock().is_closed() {
                return;
            }
            match self.sync() {
                Err(error) if !failing => log::error!("the inbox cannot be synced, retrying: {error}"),
                Ok(()) if failing => log::info!("the inbox can be synced again"),
                _ => continue,
            }
            failing = !failing;
        }
    }
}

fn lock_gate(taken: &Mutex<()>) -> MutexGuard<'_, ()> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_progress(progress: &Mutex<ProgressFile>) -> MutexGuard<'_, ProgressFile> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sync_all(unsynced: &Unsynced) -> Result<(), InboxError> {
    fail::fail_point!("inbox-sync", |_| Err(InboxError::io("sync", "injected".as_ref())(
        io::ErrorKind::Other.into()
    )));
    for segment in &unsynced.segments {
        segment.sync()?;
    }
    unsynced.dir.as_deref().map_or(Ok(()), durable::sync_dir)
}
