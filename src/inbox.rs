//! The inbox: an append-only log on disk between the broker's acknowledgement and the database.
//!
//! ```text
//!  append ──▶ log ──▶ segment │ segment │ segment (active)      meta: id, lanes, next base, registration
//!                        ▲        ▲         ▲                    lock: one process per directory
//!  release ──keeps───────┘      reader    reader                 redelivery: recent messages
//!           and deletes                                          progress: committed offsets
//!                                                                quarantine/: unreadable bytes
//! ```
//!
//! After `append` returns, every reader that starts at or below the offset returns the record, in order, until
//! `release` passes it. This holds across `kill -9`, full disks, bit rot and, as far as [`FsyncPolicy`] covers
//! it, power loss. An offset is never used twice, whatever is lost: every start begins at a base that the
//! synced meta file marks as never issued.
//!
//! The inbox has no index (readers go forward; a seek backwards walks one segment) and no compaction. Of
//! topics, flows and lanes it knows only the number of lanes.

mod age_marks;
mod boot;
mod content;
mod cursor;
mod duplicate_filter;
mod durable;
mod error;
mod intake;
mod kept_tables;
mod lock;
mod log_file;
mod meta;
mod newest;
mod progress;
mod quarantine;
mod reader;
mod record;
mod recovery;
mod retained;
mod segment;
mod shared;
mod stats;
mod subscriptions;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::boot::boot_id;
pub use self::content::MetaOrigin;
pub use self::error::{AppendError, Closed, InboxError};
pub use self::intake::Intake;
pub use self::kept_tables::KeptTables;
pub use self::meta::{InboxId, Registered};
pub use self::newest::newest_record;
pub use self::progress::InboxProgress;
pub use self::reader::InboxReader;
pub use self::recovery::{Damage, DamageKind, RecoveryReport};
pub use self::retained::RetainedMemory;
pub use self::stats::{AppendRefusal, Unreleased};
pub use self::subscriptions::{SubscriptionIdStore, avoided_filters};
pub use self::survey::{Survey, Surveyed, survey};

use self::duplicate_filter::DuplicateFilter;
use self::lock::DirectoryLock;
use self::log_file::Log;
use self::progress::ProgressFile;
use self::shared::Shared;
use crate::domain::message::{Offset, Publication};
use crate::domain::redelivery::{Fingerprint, InFlight};

/// Minimum of `max_bytes`. The largest possible record then fits into an empty inbox, so no record waits for
/// ever. That record has a quarter of `max_bytes` as payload, the longest topic and all subscription
/// identifiers.
const MIN_MAX_BYTES: u64 = 1024 * 1024;

/// Maximum number of segments whose first record is read for its age.
const MAX_SAMPLED_SEGMENTS: usize = 64;

/// When appended records are synced. Unsynced records survive `kill -9`, but not power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Before each `append` returns.
    Always,
    /// In the background, at this interval.
    Interval(Duration),
    /// Only on close; the operating system decides when to write.
    Never,
}

/// Retention of finished segments, in case the database loses commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// Maximum age of a finished segment.
    pub max_age: Duration,
    /// Maximum total bytes of kept segments; beyond it the oldest are deleted.
    pub max_bytes: u64,
}

impl KeepPolicy {
    /// Finished segments are deleted at once.
    pub const NONE: KeepPolicy = KeepPolicy { max_age: Duration::ZERO, max_bytes: 0 };
}

/// Location and limits of an inbox.
#[derive(Debug, Clone)]
pub struct InboxOptions {
    /// Directory, created if missing. It must hold nothing else.
    pub dir: PathBuf,
    /// Bytes of all segments together (quarantine and kept segments excluded); at least 1 MiB.
    pub max_bytes: u64,
    /// Retention of finished segments.
    pub keep: KeepPolicy,
    /// Maximum size of a segment; at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// When records are synced.
    pub fsync: FsyncPolicy,
    /// Number of lanes of a new inbox; an existing inbox keeps its number.
    pub lanes: u32,
    /// Larger payloads (or above a quarter of `max_bytes`) are reduced to head, length and hash.
    pub max_payload_bytes: usize,
}

/// An open inbox. Clones share it, and dropping the last clone closes it.
#[derive(Clone)]
pub struct Inbox {
    handle: Arc<Handle>,
}

/// State that lives as long as any clone. Readers and the syncing thread hold only `Shared`.
struct Handle {
    shared: Arc<Shared>,
    id: InboxId,
    lanes: u32,
    syncer: Mutex<Option<JoinHandle<()>>>,
    lock: DirectoryLock,
}

impl Inbox {
    /// Opens or creates the inbox and repairs damage. The caller must log the report.
    pub fn open(options: InboxOptions) -> Result<(Inbox, RecoveryReport), InboxError> {
        if options.max_bytes < MIN_MAX_BYTES {
            return Err(InboxError::TooSmall { max_bytes: options.max_bytes, minimum: MIN_MAX_BYTES });
        }
        durable::create_private_dir(&options.dir)?;
        let lock = DirectoryLock::acquire(&options.dir)?;
        let recovered = recovery::recover(&options.dir, options.lanes)?;
        let report = recovered.report;
        let fsync = options.fsync;
        let (id, lanes) = (recovered.meta.id, recovered.meta.lanes);
        let progress = InboxProgress::load(&options.dir, &id)?;
        let log = Log::begin(options, recovered.meta, recovered.segments, recovered.redelivery, &progress)?;
        let shared = Arc::new(Shared::new(log, ProgressFile::new(&id, progress)));
        let syncer = match fsync {
            FsyncPolicy::Interval(interval) => Some(Shared::spawn_syncer(&shared, interval)?),
            FsyncPolicy::Always | FsyncPolicy::Never => None,
        };
        let handle = Handle { shared, id, lanes, syncer: Mutex::new(syncer), lock };
        let inbox = Inbox { handle: Arc::new(handle) };
        inbox.sample_record_ages();
        Ok((inbox, report))
    }

    /// Checks that no other process holds the lock of the directory.
    ///
    /// Only [`InboxError::Locked`], which names the process. [`Inbox::open`] reports all other problems.
    pub fn ensure_unlocked(dir: &Path) -> Result<(), InboxError> {
        match DirectoryLock::acquire(dir) {
            Err(locked @ InboxError::Locked { .. }) => Err(locked),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Reads the receive time of the first record of some segments, for the age of the backlog.
    fn sample_record_ages(&self) {
        let bases = self.handle.shared.lock().sample_bases(MAX_SAMPLED_SEGMENTS);
        for base in bases {
            let mut found = Vec::new();
            // Processing reports unreadable records.
            let _ = self.reader(base).read(1, 1, &mut found);
            if let Some(record) = found.first() {
                self.handle.shared.stats().note_existing(record.offset, record.received_at_us);
            }
        }
    }

    /// Random id of this inbox. Together with an offset it identifies a record permanently.
    #[must_use]
    pub fn id(&self) -> &InboxId {
        &self.handle.id
    }

    /// Number of lanes, fixed when the inbox was created.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.handle.lanes
    }

    /// Returns the registration of the last start.
    #[must_use]
    pub fn registration(&self) -> Option<Registered> {
        self.handle.shared.lock().registration().cloned()
    }

    /// Stores the registration of this start durably.
    pub fn register(&self, registered: Registered) -> Result<(), InboxError> {
        self.handle.shared.lock().register(registered)
    }

    /// Moves the next offset to this one or above. Must be called before the first append.
    pub fn begin_above(&self, offset: Offset) -> Result<(), InboxError> {
        self.handle.shared.begin_above(offset)
    }

    /// Returns the last known progress of the database.
    #[must_use]
    pub fn progress(&self) -> InboxProgress {
        self.handle.shared.progress()
    }

    /// Notes the committed offset of each lane. The file follows within seconds.
    pub fn note_lanes(&self, lanes: Vec<Offset>) {
        self.handle.shared.note_lanes(lanes);
    }

    /// Replaces the committed offsets in memory and in the file.
    pub fn remember_lanes(&self, lanes: Vec<Offset>) {
        self.handle.shared.remember(|known| known.lanes = lanes);
    }

    /// Returns whether the directory is still in place. If it was removed or replaced, new records are lost
    /// with the process.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.handle.lock.is_in_place()
    }

    /// Appends a message or fails at once. A failed append leaves nothing in the log.
    pub fn append(&self, publication: &Publication<'_>, received_at_us: i64) -> Result<Offset, AppendError> {
        self.handle.shared.append(publication, received_at_us)
    }

    /// Appends a message, waiting while the inbox is full or the disk fails. Calls `on_wait` with the cause
    /// before each wait. Fails only when the inbox is closed; the message must then never be acknowledged.
    pub fn append_blocking(
        &self,
        publication: &Publication<'_>,
        received_at_us: i64,
        on_wait: &dyn Fn(&AppendError),
    ) -> Result<Offset, Closed> {
        self.handle.shared.append_blocking(publication, received_at_us, on_wait)
    }

    /// Sets the broker and client id of the following messages. A change invalidates everything received so
    /// far.
    pub fn set_broker_session(&self, session: &str) -> Result<(), InboxError> {
        self.handle.shared.change_redelivery(|watch| watch.set_session(session))
    }

    /// Notes that the broker has started a new session, in which nothing was sent before.
    pub fn begin_session(&self) -> Result<(), InboxError> {
        self.handle.shared.change_redelivery(DuplicateFilter::begin_session)
    }

    /// Notes that the following messages arrive over a new connection.
    pub fn begin_connection(&self, in_flight: InFlight) {
        self.handle.shared.lock().redelivery().begin_connection(in_flight);
    }

    /// Notes that this broker, named as in [`Self::set_broker_session`], may have restarted or started a new
    /// session unnoticed.
    pub fn invalidate_session(&self, session: &str) -> Result<(), InboxError> {
        self.handle.shared.invalidate_redelivery(session)
    }

    /// Returns whether the log already contains this message, so that the caller only has to acknowledge it.
    /// Must be called before the append, on the thread that appends.
    #[must_use]
    pub fn is_redelivered(&self, publication: &Publication<'_>) -> bool {
        publication.delivery.duplicate
            && Fingerprint::from_publication(publication).is_some_and(|fingerprint| {
                self.handle.shared.lock().redelivery().is_redelivered(&fingerprint)
            })
    }

    /// Returns a reader of all records at and above `from`.
    #[must_use]
    pub fn reader(&self, from: Offset) -> InboxReader {
        InboxReader::new(Arc::clone(&self.handle.shared), from)
    }

    /// Offset after the last record; 0 if there is none.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.handle.shared.lock().log_end()
    }

    /// Lower bound of the offsets still in the log.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.handle.shared.lock().first_offset()
    }

    /// Offset of the next record, above all offsets ever issued.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.handle.shared.published()
    }

    /// Bytes of finished segments, not included in [`Self::bytes`].
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.handle.shared.kept_bytes()
    }

    /// Bytes of all segments that are not finished.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.handle.shared.bytes()
    }

    /// Maximum of [`Self::bytes`].
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.handle.shared.max_bytes()
    }

    /// Records appended since the inbox was opened. This call and the next two never wait for the disk.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.handle.shared.stats().appended()
    }

    /// Returns why appends fail at present, if one was attempted.
    #[must_use]
    pub fn refusal(&self) -> Option<AppendRefusal> {
        self.handle.shared.stats().refusal()
    }

    /// Returns the records that are not released yet.
    #[must_use]
    pub fn unreleased(&self) -> Unreleased {
        self.handle.shared.stats().unreleased()
    }

    /// Marks all records below `watermark` as done. Segments wholly below it are kept for a while and then
    /// deleted, and waiting appenders retry. A lower watermark than before makes kept segments needed again.
    pub fn release(&self, watermark: Offset) -> Result<(), InboxError> {
        self.handle.shared.release(watermark)
    }

    /// Syncs all appended records.
    pub fn sync(&self) -> Result<(), InboxError> {
        self.handle.shared.sync()
    }

    /// Stops appending: waiting appenders return [`Closed`], then all records are synced. Reading stays
    /// possible.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        if !self.shared.begin_close() {
            return;
        }
        let syncer = self.syncer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if syncer.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the syncing thread of the inbox panicked");
        }
        if let Err(error) = self.shared.sync() {
            log::error!("the inbox cannot be synced while closing: {error}");
        }
        self.shared.remember(|_| {});
        // The next start then restores the duplicate filter without reading the log.
        if let Err(error) = self.shared.keep_redelivery() {
            log::error!("the inbox cannot store the duplicate filter while closing: {error}");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod fuzz;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
