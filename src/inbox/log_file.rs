//! The writer's side of the log: creates, appends to, seals, keeps and deletes segments.
//!
//! ```text
//!            roll, full, failed write          release           expired, no room
//!  active ───────────────────────────▶ sealed ─────────▶ kept ───────────────────▶ deleted
//!    ▲                                   │      ◀─────────
//!    └──────── next append creates ──────┘  the database went back
//! ```
//!
//! The log may have no active segment. All records of a kept segment are done. A kept segment stays readable,
//! in case the database loses commits, and does not count towards the size limit.
//!
//! A segment that cannot be truncated after a failed append is sealed at its last good length. The next segment
//! then begins at the offset that failed. Recovery ignores records at or above the base of the following
//! segment, since they were never acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::duplicate_filter::{DuplicateFilter, Extent, Unstored};
use super::error::{AppendError, InboxError};
use super::meta::{Meta, Registered};
use super::progress::InboxProgress;
use super::record::Codec;
use super::segment::{HEADER_BYTES, Segment};
use super::{FsyncPolicy, InboxOptions, KeepPolicy, durable};
use crate::domain::message::{Offset, Publication};
use crate::domain::redelivery::Fingerprint;

/// Maximum capacity that the reused buffer keeps after a large record.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

/// State of the writer, behind one mutex.
#[allow(clippy::struct_excessive_bools, reason = "each is about something else")]
pub(super) struct Log {
    dir: PathBuf,
    meta: Meta,
    /// The meta file is older than `meta`.
    meta_dirty: bool,
    codec: Codec,
    limits: LogLimits,
    fsync_each: bool,
    segments: BTreeMap<Offset, Arc<Segment>>,
    /// The finished segments, oldest first.
    kept: VecDeque<KeptSegment>,
    kept_bytes: u64,
    keep: KeepPolicy,
    /// Watermark reported by the lanes since the inbox was opened. Nothing is deleted before the first report.
    done_below: Option<Offset>,
    redelivery: DuplicateFilter,
    active: Option<Active>,
    /// Files were created or deleted since the last sync of the directory.
    dir_dirty: bool,
    next_offset: Offset,
    /// Bytes of all segments that are not kept.
    bytes: u64,
    closed: bool,
    /// Incremented when waiting appenders should retry.
    wakeups: u64,
    buffer: Vec<u8>,
}

/// In bytes.
struct LogLimits {
    log: u64,
    segment: u64,
    payload: usize,
}

/// The segment that receives appends.
struct Active {
    segment: Arc<Segment>,
    file: File,
}

/// A finished segment.
struct KeptSegment {
    segment: Arc<Segment>,
    since: Instant,
}

/// Segments and directory to sync, taken out of the log so that syncing holds no lock.
pub(super) struct Unsynced {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) dir: Option<PathBuf>,
}

impl Log {
    /// Starts a run over recovered segments. Creates a segment at an offset that was never issued and makes its
    /// name durable before the first append.
    pub(super) fn begin(
        options: InboxOptions,
        meta: Meta,
        segments: BTreeMap<Offset, Arc<Segment>>,
        redelivery: DuplicateFilter,
        progress: &InboxProgress,
    ) -> Result<Log, InboxError> {
        let quarter = options.max_bytes / 4;
        let mut log = Log {
            codec: Codec::new(&meta.id),
            limits: LogLimits {
                log: options.max_bytes,
                segment: options.segment_bytes.min(quarter),
                payload: options.max_payload_bytes.min(usize::try_from(quarter).unwrap_or(usize::MAX)),
            },
            fsync_each: options.fsync == FsyncPolicy::Always,
            bytes: segments.values().map(|segment| segment.len()).sum(),
            // The first segment reserves a new range of offsets.
            next_offset: meta.next_base,
            dir: options.dir,
            meta,
            meta_dirty: false,
            segments,
            kept: VecDeque::new(),
            kept_bytes: 0,
            keep: options.keep,
            done_below: None,
            redelivery,
            active: None,
            dir_dirty: false,
            closed: false,
            wakeups: 0,
            buffer: Vec::new(),
        };
        log.keep_finished(progress.done_below);
        log.begin_run()?;
        Ok(log)
    }

    fn begin_run(&mut self) -> Result<(), InboxError> {
        match self.try_begin_run() {
            // Processing the existing records frees space; appends wait until then.
            Err(error) if error.is_disk_full() => {
                log::error!("the inbox starts without disk space to append: {error}");
                Ok(())
            }
            begun => begun,
        }
    }

    fn try_begin_run(&mut self) -> Result<(), InboxError> {
        self.reserve_offset()?;
        let active = self.create_segment()?;
        active.segment.sync()?;
        self.active = Some(active);
        durable::sync_dir(&self.dir)
    }

    /// Restarts the run at a base at or above `offset`, before the first append. Another directory with the
    /// same inbox id may have issued lower offsets.
    pub(super) fn begin_above(&mut self, offset: Offset) -> Result<(), InboxError> {
        if self.next_offset >= offset {
            return Ok(());
        }
        self.seal_active();
        self.meta.skip_to(offset)?;
        self.next_offset = self.meta.next_base;
        self.begin_run()
    }

    pub(super) fn registration(&self) -> Option<&Registered> {
        self.meta.registration.as_ref()
    }

    /// Stores the registration of this start. On a full disk it is written before the first append.
    pub(super) fn register(&mut self, registered: Registered) -> Result<(), InboxError> {
        match self.meta.register(&self.dir, registered) {
            Err(error) if error.is_disk_full() => {
                self.meta_dirty = true;
                log::error!("the inbox cannot store the registration of this start yet: {error}");
                Ok(())
            }
            stored => stored,
        }
    }

    /// Appends a record and returns its offset. The record is then visible to readers, and synced if each
    /// append is.
    pub(super) fn append(
        &mut self,
        publication: &Publication<'_>,
        fingerprint: Option<&Fingerprint>,
        received_at_us: i64,
    ) -> Result<Offset, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        self.reserve_offset()?;
        let offset = self.next_offset;
        let limit = self.limits.payload;
        self.codec.encode(&mut self.buffer, offset, publication, received_at_us, limit);
        let record_bytes = self.buffer.len() as u64;
        self.make_room(record_bytes)?;
        let active = match self.active.take() {
            Some(active) => active,
            None => self.create_segment()?,
        };
        self.write(active)?;
        self.bytes += record_bytes;
        self.next_offset = offset + 1;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        // Both happen under one lock, so that the redelivery file never covers one without the other.
        if let Some(fingerprint) = fingerprint {
            self.redelivery.received(fingerprint);
        }
        Ok(offset)
    }

    /// Writes the buffered record at the end of the active segment, or leaves no trace of it.
    fn write(&mut self, active: Active) -> Result<(), InboxError> {
        let Active { segment, file } = &active;
        let at = segment.len();
        let written = write_at(file, &self.buffer, at);
        let synced = match &written {
            Ok(()) if self.fsync_each => sync_data(file),
            _ => Ok(()),
        };
        let path = segment.path.clone();
        if written.is_ok() && synced.is_ok() {
            segment.mark_dirty();
            segment.publish(self.buffer.len() as u64, self.next_offset);
            self.active = Some(active);
            return Ok(());
        }
        let cut = truncate(file, at);
        self.active = Some(active);
        // After a failed sync the kernel may have dropped pages of the file.
        if cut.is_err() || synced.is_err() {
            self.seal_active();
        }
        written.map_err(InboxError::io("append to", &path))?;
        synced.map_err(InboxError::io("sync", &path))
    }

    /// Seals the active segment if the record would make it too large. Rejects the record if it would make the
    /// log too large; the segment is then sealed, so that `release` can delete it.
    fn make_room(&mut self, record_bytes: u64) -> Result<(), AppendError> {
        if self.active_bytes().is_some_and(|bytes| bytes + record_bytes > self.limits.segment) {
            self.seal_active_with_records();
        }
        let header = if self.active.is_some() { 0 } else { HEADER_BYTES };
        if self.bytes + header + record_bytes > self.limits.log {
            self.seal_active_with_records();
            return Err(AppendError::Full);
        }
        Ok(())
    }

    fn active_bytes(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.segment.len())
    }

    fn seal_active_with_records(&mut self) {
        if self.active.as_ref().is_some_and(|active| active.segment.has_records()) {
            self.seal_active();
        }
    }

    /// Seals the active segment. An empty one is deleted, because the next segment has the same base and name.
    fn seal_active(&mut self) {
        let Some(Active { segment, .. }) = self.active.take() else {
            return;
        };
        if segment.has_records() {
            return;
        }
        self.segments.remove(&segment.base);
        self.bytes -= segment.len();
        segment.set_removed(true);
        if let Err(error) = fs::remove_file(&segment.path) {
            log::warn!("inbox: cannot delete the empty {}: {error}", segment.path.display());
        }
    }

    fn create_segment(&mut self) -> Result<Active, InboxError> {
        let (segment, file) = Segment::create(&self.dir, &self.meta, self.next_offset)?;
        let segment = Arc::new(segment);
        if self.fsync_each {
            segment.sync()?;
            durable::sync_dir(&self.dir)?;
        } else {
            self.dir_dirty = true;
        }
        self.bytes += segment.len();
        self.segments.insert(segment.base, Arc::clone(&segment));
        Ok(Active { segment, file })
    }

    /// Ensures that the meta file covers the next offset.
    fn reserve_offset(&mut self) -> Result<(), InboxError> {
        if self.next_offset == self.meta.next_base {
            self.meta.reserve(&self.dir)?;
        } else if self.meta_dirty {
            self.meta.store(&self.dir)?;
        }
        self.meta_dirty = false;
        Ok(())
    }

    /// Moves sealed segments wholly below `watermark` to the kept ones, and takes out those whose time has
    /// expired. A small active segment is not sealed for this, so that a small log does not create a file for
    /// each release.
    pub(super) fn detach_expired(&mut self, watermark: Offset) -> Vec<Arc<Segment>> {
        self.done_below = Some(watermark);
        let rollable =
            |segment: &Segment| segment.end() <= watermark && segment.len() > self.limits.segment / 2;
        if self.active.as_ref().is_some_and(|active| rollable(&active.segment)) {
            self.seal_active_with_records();
        }
        self.keep_finished(watermark);
        let now = Instant::now();
        let mut expired = Vec::new();
        while let Some(kept) = self.kept.pop_front_if(|kept| {
            self.kept_bytes > self.keep.max_bytes || now.duration_since(kept.since) >= self.keep.max_age
        }) {
            expired.push(self.detach(kept));
        }
        expired
    }

    /// Takes out all finished segments, including a finished active one, because the disk is full.
    pub(super) fn detach_kept(&mut self) -> Vec<Arc<Segment>> {
        let Some(watermark) = self.done_below else { return Vec::new() };
        if self.active.as_ref().is_some_and(|active| active.segment.end() <= watermark) {
            self.seal_active_with_records();
        }
        self.keep_finished(watermark);
        let mut taken = Vec::new();
        while let Some(kept) = self.kept.pop_front() {
            taken.push(self.detach(kept));
        }
        taken
    }

    fn keep_finished(&mut self, watermark: Offset) {
        // A lane that the database has set back needs these records again.
        while let Some(needed) = self.kept.pop_back_if(|kept| kept.segment.end() > watermark) {
            self.kept_bytes -= needed.segment.len();
            self.bytes += needed.segment.len();
        }
        let from = self.kept.back().map_or(0, |kept| kept.segment.base + 1);
        let active = self.active.as_ref().map(|active| active.segment.base);
        let since = Instant::now();
        let finished = self.segments.range(from..watermark.max(from)).map(|(_, segment)| segment);
        for segment in
            finished.take_while(|segment| Some(segment.base) != active && segment.end() <= watermark)
        {
            self.bytes -= segment.len();
            self.kept_bytes += segment.len();
            self.kept.push_back(KeptSegment { segment: Arc::clone(segment), since });
            self.wakeups += 1;
        }
    }

    fn detach(&mut self, kept: KeptSegment) -> Arc<Segment> {
        let KeptSegment { segment, .. } = kept;
        self.segments.remove(&segment.base);
        self.kept_bytes -= segment.len();
        segment.set_removed(true);
        segment
    }

    /// Notes that the file of a detached segment was deleted.
    pub(super) fn forget_deleted(&mut self) {
        self.dir_dirty = true;
        self.wake();
    }

    /// Puts back a segment whose file could not be deleted; the next release retries.
    pub(super) fn restore_kept(&mut self, segment: Arc<Segment>) {
        segment.set_removed(false);
        self.kept_bytes += segment.len();
        self.segments.insert(segment.base, Arc::clone(&segment));
        self.kept.push_front(KeptSegment { segment, since: Instant::now() });
    }

    pub(super) fn redelivery(&mut self) -> &mut DuplicateFilter {
        &mut self.redelivery
    }

    /// Returns changes that the redelivery file does not contain yet.
    pub(super) fn take_unstored_redelivery(&mut self, extent: Extent) -> Option<Unstored> {
        let max_messages = extent.max_messages(self.limits.segment);
        self.redelivery.take_unstored(&self.dir, &self.meta.id, self.next_offset, max_messages)
    }

    /// Takes the segments written since the last call.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        let dirty = self.segments.values().filter(|segment| segment.take_dirty());
        Unsynced {
            segments: dirty.map(Arc::clone).collect(),
            dir: std::mem::take(&mut self.dir_dirty).then(|| self.dir.clone()),
        }
    }

    /// Marks everything as unsynced after a failed sync, and stops appending to the active segment.
    pub(super) fn sync_failed(&mut self, unsynced: &Unsynced) {
        for segment in &unsynced.segments {
            segment.mark_dirty();
        }
        self.dir_dirty |= unsynced.dir.is_some();
        self.seal_active_with_records();
    }

    /// Rejects all further appends. Returns false if the log was already closed.
    pub(super) fn close(&mut self) -> bool {
        self.wake();
        !std::mem::replace(&mut self.closed, true)
    }

    fn wake(&mut self) {
        self.wakeups += 1;
    }

    pub(super) fn wakeups(&self) -> u64 {
        self.wakeups
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.limits.log
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Offset after the last record; 0 if there is none.
    pub(super) fn log_end(&self) -> Offset {
        self.segments.values().rfind(|segment| segment.has_records()).map_or(0, |segment| segment.end())
    }

    pub(super) fn first_offset(&self) -> Offset {
        self.segments.keys().next().copied().unwrap_or(self.next_offset)
    }

    /// Returns the bases of at most `max` segments, evenly spread, in order.
    pub(super) fn sample_bases(&self, max: usize) -> Vec<Offset> {
        let step = self.segments.len().div_ceil(max.max(1)).max(1);
        self.segments.keys().copied().step_by(step).collect()
    }

    /// Counts the records at or above `offset` by their offsets, including damaged ones.
    pub(super) fn records_from(&self, offset: Offset) -> u64 {
        let at = self.segments.range(..=offset).next_back().map_or(offset, |(base, _)| *base);
        let there = self.segments.range(at..);
        there.map(|(base, segment)| segment.end().saturating_sub((*base).max(offset))).sum()
    }

    /// Returns the segment with the next record at or above `offset`.
    pub(super) fn segment_at(&self, offset: Offset) -> Option<Arc<Segment>> {
        let before = self.segments.range(..=offset).next_back();
        let behind = self.segments.range(offset.saturating_add(1)..).next();
        let (_, segment) = before.filter(|(_, segment)| segment.end() > offset).or(behind)?;
        Some(Arc::clone(segment))
    }
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    fail::fail_point!("inbox-append-write", |_| {
        // Imitates a disk that fills up in the middle of a record.
        file.write_all_at(&bytes[..bytes.len() / 2], at)?;
        Err(io::ErrorKind::StorageFull.into())
    });
    file.write_all_at(bytes, at)
}

fn sync_data(file: &File) -> io::Result<()> {
    fail::fail_point!("inbox-fsync", |_| Err(io::Error::other("injected")));
    file.sync_data()
}

fn truncate(file: &File, len: u64) -> io::Result<()> {
    fail::fail_point!("inbox-truncate", |_| Err(io::Error::other("injected")));
    file.set_len(len)
}
