//! The inbox: an append-only log on disk between the broker's acknowledgement and the database.
//!
//! ```text
//!  append ──▶ log ──▶ segment │ segment │ segment (active)      meta: id, lanes, next base, registration
//!                        ▲        ▲         ▲                    lock: one process per directory
//!  release ──keeps───────┘      reader    reader                 redelivery: what was received last
//!           and deletes                                          progress: how far the database was
//!                                                                quarantine/: bytes nobody can read
//! ```
//!
//! The promise: a record whose `append` returned is handed out by every reader that starts at or
//! below its offset, in order, until `release` passes it — across `kill -9`, full disks, bit rot
//! and, as far as [`FsyncPolicy`] goes, power loss. An offset is never used twice, whatever is lost:
//! every start begins at a base that the meta file, synced beforehand, says was never issued.
//!
//! What is absent: an index (readers go forward; a seek backwards walks one segment), compaction,
//! and any knowledge of topics, flows or lanes beyond their number.

mod age_marks;
mod boot;
mod cursor;
mod duplicate_filter;
mod durable;
mod error;
mod kept_tables;
mod lock;
mod log_file;
mod meta;
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
pub use self::error::{AppendError, Closed, InboxError};
pub use self::kept_tables::KeptTables;
pub use self::meta::{InboxId, Registered};
pub use self::progress::Progress;
pub use self::reader::Reader;
pub use self::recovery::{Damage, DamageKind, MetaOrigin, RecoveryReport};
pub use self::retained::RetainedMemory;
pub use self::stats::{Refusal, Unreleased};
pub use self::subscriptions::{SubscriptionIdStore, shunned_filters};
pub use self::survey::{Survey, survey};

use self::duplicate_filter::DuplicateFilter;
use self::lock::DirectoryLock;
use self::log_file::Log;
use self::progress::ProgressFile;
use self::shared::Shared;
use crate::domain::message::{Offset, Publication};
use crate::domain::redelivery::{Fingerprint, InFlight};

/// The least `max_bytes`: the largest record that can come (a quarter of it as payload, the longest
/// topic, all subscription identifiers) then fits into an empty inbox, so no record waits for ever.
const MIN_MAX_BYTES: u64 = 1024 * 1024;

/// How many segments are looked into for the age of what they hold.
const MAX_SAMPLED_SEGMENTS: usize = 64;

/// When appended records are forced to the disk. Without it they survive `kill -9`, not power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Before each `append` returns.
    Always,
    /// In the background, this often.
    Interval(Duration),
    /// Only on close; the operating system writes when it likes.
    Never,
}

/// For how long finished segments are kept, in case the database loses commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepPolicy {
    /// A segment is deleted when it was finished so long ago.
    pub max_age: Duration,
    /// Bytes of all kept segments together; beyond, the oldest are deleted.
    pub max_bytes: u64,
}

impl KeepPolicy {
    /// Finished segments are deleted at once.
    pub const NONE: KeepPolicy = KeepPolicy { max_age: Duration::ZERO, max_bytes: 0 };
}

/// Where an inbox is and how large it may become.
#[derive(Debug, Clone)]
pub struct InboxOptions {
    /// Its directory, created when missing; nothing else may be kept there.
    pub dir: PathBuf,
    /// Bytes of all segments together (quarantine and kept segments excluded); at least 1 MiB.
    pub max_bytes: u64,
    /// How long finished segments are kept.
    pub keep: KeepPolicy,
    /// A segment that would become larger is followed by a new one; at most a quarter of `max_bytes` counts.
    pub segment_bytes: u64,
    /// When records are forced to the disk.
    pub fsync: FsyncPolicy,
    /// Lanes of a new inbox; an existing one keeps its own number.
    pub lanes: u32,
    /// Payloads above this (or above a quarter of `max_bytes`) are kept as head, length and hash.
    pub max_payload_bytes: usize,
}

/// An open inbox; clones share it. It is closed when the last clone goes.
#[derive(Clone)]
pub struct Inbox {
    handle: Arc<Handle>,
}

/// What lives as long as any clone: unlike `Shared`, readers and the syncing thread do not keep it.
struct Handle {
    shared: Arc<Shared>,
    id: InboxId,
    lanes: u32,
    syncer: Mutex<Option<JoinHandle<()>>>,
    lock: DirectoryLock,
}

impl Inbox {
    /// Opens or creates the inbox, mends what can be mended and says what it found: log the report.
    pub fn open(options: InboxOptions) -> Result<(Inbox, RecoveryReport), InboxError> {
        if options.max_bytes < MIN_MAX_BYTES {
            return Err(InboxError::TooSmall { max_bytes: options.max_bytes, least: MIN_MAX_BYTES });
        }
        durable::create_private_dir(&options.dir)?;
        let lock = DirectoryLock::acquire(&options.dir)?;
        let recovered = recovery::recover(&options.dir, options.lanes)?;
        let report = recovered.report;
        let fsync = options.fsync;
        let (id, lanes) = (recovered.meta.id, recovered.meta.lanes);
        let progress = Progress::load(&options.dir, &id)?;
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

    /// Whether no process has the directory; otherwise the error says which one.
    ///
    /// # Errors
    /// [`InboxError::Locked`], and nothing else: what keeps the inbox from being opened otherwise, `open` says.
    pub fn ensure_unlocked(dir: &Path) -> Result<(), InboxError> {
        match DirectoryLock::acquire(dir) {
            Err(locked @ InboxError::Locked { .. }) => Err(locked),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Reads of some segments when their first record was received, so that the age of a backlog is known.
    fn sample_record_ages(&self) {
        let bases = self.handle.shared.lock().sample_bases(MAX_SAMPLED_SEGMENTS);
        for base in bases {
            let mut found = Vec::new();
            // Whoever has to process it says so when it cannot be read.
            let _ = self.reader(base).read(1, 1, &mut found);
            if let Some(record) = found.first() {
                self.handle.shared.stats().note_existing(record.offset, record.received_at_us);
            }
        }
    }

    /// The random name of this inbox: with an offset it names a record for ever.
    #[must_use]
    pub fn id(&self) -> &InboxId {
        &self.handle.id
    }

    /// Number of lanes its records are spread over; fixed when the inbox was made.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.handle.lanes
    }

    /// The registration of the last start.
    #[must_use]
    pub fn registration(&self) -> Option<Registered> {
        self.handle.shared.lock().registration().cloned()
    }

    /// Remembers the registration of this start. It is on disk when this returns.
    pub fn register(&self, registered: Registered) -> Result<(), InboxError> {
        self.handle.shared.lock().register(registered)
    }

    /// Begins at an offset at or above this one. To be called before the first append.
    pub fn begin_above(&self, offset: Offset) -> Result<(), InboxError> {
        self.handle.shared.begin_above(offset)
    }

    /// How far the database was, as the directory remembers it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.handle.shared.progress()
    }

    /// Notes how far each lane is committed. The file follows within seconds.
    pub fn note_lanes(&self, lanes: Vec<Offset>) {
        self.handle.shared.note_lanes(lanes);
    }

    /// Replaces the committed offsets in memory and in the file.
    pub fn remember_lanes(&self, lanes: Vec<Offset>) {
        self.handle.shared.remember(|known| known.lanes = lanes);
    }

    /// Whether the directory is still where it was opened. When it was removed or replaced, what is appended is lost
    /// with the process.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.handle.lock.is_in_place()
    }

    /// Appends a message or fails at once; after a failure nothing of it is left in the log.
    pub fn append(&self, publication: &Publication<'_>, received_at_us: i64) -> Result<Offset, AppendError> {
        self.handle.shared.append(publication, received_at_us)
    }

    /// Appends a message, waiting as long as the inbox is full or the disk refuses. Calls `on_wait`
    /// with the cause before each wait. Fails only when the inbox is closed: the message must then
    /// never be acknowledged.
    pub fn append_blocking(
        &self,
        publication: &Publication<'_>,
        received_at_us: i64,
        on_wait: &dyn Fn(&AppendError),
    ) -> Result<Offset, Closed> {
        self.handle.shared.append_blocking(publication, received_at_us, on_wait)
    }

    /// Says from which broker, and under which name of ours, messages come from now on. Another one than before
    /// has sent none of what was received so far.
    pub fn set_broker_session(&self, session: &str) -> Result<(), InboxError> {
        self.handle.shared.change_redelivery(|watch| watch.set_session(session))
    }

    /// Says that the broker has begun a new session: nothing in it was sent before.
    pub fn begin_session(&self) -> Result<(), InboxError> {
        self.handle.shared.change_redelivery(DuplicateFilter::begin_session)
    }

    /// Says that the messages appended or judged from now on come over a new connection.
    pub fn begin_connection(&self, in_flight: InFlight) {
        self.handle.shared.lock().redelivery().begin_connection(in_flight);
    }

    /// Says that this broker, named as in [`Self::set_broker_session`], may have been restarted, or may have begun
    /// a session, without our having been told.
    pub fn invalidate_session(&self, session: &str) -> Result<(), InboxError> {
        self.handle.shared.invalidate_redelivery(session)
    }

    /// Whether the broker has sent this message before and it is in the log already: it then only has to be
    /// acknowledged. To be asked before the append, on the thread that appends.
    #[must_use]
    pub fn recognises(&self, publication: &Publication<'_>) -> bool {
        publication.delivery.duplicate
            && Fingerprint::from_publication(publication)
                .is_some_and(|fingerprint| self.handle.shared.lock().redelivery().recognises(&fingerprint))
    }

    /// A reader of all records at and above `from`.
    #[must_use]
    pub fn reader(&self, from: Offset) -> Reader {
        Reader::new(Arc::clone(&self.handle.shared), from)
    }

    /// Above the last record; 0 where there is none.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.handle.shared.lock().log_end()
    }

    /// A lower bound of the offsets that are still there.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.handle.shared.lock().first_offset()
    }

    /// The offset that the next record takes: above all that were ever issued.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.handle.shared.published()
    }

    /// Bytes that finished segments take, beside the others.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.handle.shared.kept_bytes()
    }

    /// Bytes that all segments take but for the finished ones.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.handle.shared.bytes()
    }

    /// Bytes that they may take.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.handle.shared.max_bytes()
    }

    /// Records appended since it was opened. This and the next two never wait for the disk.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.handle.shared.stats().appended()
    }

    /// Why it takes no message, as far as it was given one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.handle.shared.stats().refusal()
    }

    /// What is not released yet.
    #[must_use]
    pub fn unreleased(&self) -> Unreleased {
        self.handle.shared.stats().unreleased()
    }

    /// Says that all records below `watermark` are done: segments wholly below it are kept for a while and then
    /// deleted, and appenders that wait for room go on. A lower watermark than before makes kept segments needed again.
    pub fn release(&self, watermark: Offset) -> Result<(), InboxError> {
        self.handle.shared.release(watermark)
    }

    /// Forces all that was appended to the disk.
    pub fn sync(&self) -> Result<(), InboxError> {
        self.handle.shared.sync()
    }

    /// Ends appending: waiting appenders return [`Closed`], then all is synced. Reading goes on.
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
            log::error!("the thread that syncs the inbox had panicked");
        }
        if let Err(error) = self.shared.sync() {
            log::error!("the inbox could not be synced while closing: {error}");
        }
        self.shared.remember(|_| {});
        // The next start then needs none of the records for it.
        if let Err(error) = self.shared.keep_redelivery() {
            log::error!("the inbox could not keep what was received last while closing: {error}");
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
