//! Recognition of redelivered messages across restarts and the deletion of segments.
//!
//! The small file `redelivery` is a snapshot: the guard's memory and the log offset up to which it was updated.
//! It is replaced when a session begins or is invalidated, before segments are deleted, and when the inbox is
//! closed. No single message causes a write. At startup, recovery replays the later records from the log.
//!
//! If the file is missing or unreadable, no earlier message is recognised, so duplicates are possible. The same
//! holds if a part of the log covered by the file is damaged, because its messages are lost.
//!
//! A restart of the broker goes unnoticed while the process is down. After a power cut of both, the kernel's
//! boot id in the file differs, and the collected evidence is dropped. A broker that alone restarts from older
//! state at that time remains unnoticed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::boot::boot_id;
use super::durable::{self, SmallFile};
use super::error::InboxError;
use super::meta::InboxId;
use super::quarantine;
use crate::domain::message::{Offset, Record};
use crate::domain::redelivery::{
    Content, DeliveryKind, Fingerprint, InFlight, MAX_WINDOW_MESSAGES, MIN_RISING_IDS, RECEIVE_MAXIMUM,
    RedeliveryGuard, RedeliveryMemory, WindowEntry,
};

const REDELIVERY_FILE: &str = "redelivery";
const REDELIVERY_FORMAT: u32 = 2;
/// Like the current format, but without the boot id.
const FORMAT_WITHOUT_BOOT: u32 = 1;

/// The guard of one session and its storage state.
#[derive(Debug)]
pub(super) struct DuplicateFilter {
    guard: RedeliveryGuard,
    /// Broker and client id. While it is `None`, no message is recognised.
    session: Option<String>,
    /// Offset below which the guard has seen every record.
    seen: Offset,
    /// The guard holds state that file and log would lack after the next deletion of segments.
    is_unstored: bool,
    /// The file is outdated in a way that must be stored at once.
    is_urgent: bool,
    /// The machine was not rebooted since the file was written.
    is_same_boot: bool,
}

#[derive(Serialize, Deserialize)]
struct DuplicateFilterFile {
    format: u32,
    inbox: String,
    boot: Option<String>,
    session: String,
    seen: Offset,
    risen: u32,
    stepped_back: bool,
    tail: Vec<StoredFingerprint>,
}

/// Packet identifier, retained flag, and the two hashes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct StoredFingerprint(u16, bool, String, String);

/// Number of recent messages that are stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// All messages.
    Complete,
    /// A number in proportion to a segment, for writes at the deletion of segments.
    Bounded,
}

impl Extent {
    /// Returns the maximum number of stored messages. A message takes 70 bytes, so the bounded file stays below
    /// a seventh of a segment. The broker's receive maximum is the lower limit.
    pub(super) fn max_messages(self, segment_bytes: u64) -> usize {
        match self {
            Extent::Complete => MAX_WINDOW_MESSAGES,
            Extent::Bounded => {
                usize::try_from(segment_bytes / 512).unwrap_or(usize::MAX).max(usize::from(RECEIVE_MAXIMUM))
            }
        }
    }
}

/// New content of the file. It is encoded outside the log's lock.
pub(super) struct Unstored {
    dir: PathBuf,
    inbox: String,
    session: String,
    seen: Offset,
    memory: RedeliveryMemory,
}

impl DuplicateFilter {
    /// Loads the file of this inbox. An unusable file is logged and moved into quarantine.
    pub(super) fn load(dir: &Path, inbox: &InboxId) -> DuplicateFilter {
        let file = match durable::read_small_file(dir, REDELIVERY_FILE) {
            Ok(SmallFile::Missing) => return DuplicateFilter::disabled(),
            Ok(SmallFile::Intact(text)) => DuplicateFilterFile::parse(&text, inbox),
            Ok(SmallFile::Corrupt) => None,
            Err(error) => {
                log::error!("inbox: {error}");
                None
            }
        };
        file.unwrap_or_else(|| {
            log::error!(
                "inbox: the redelivery file is unusable; messages that the broker redelivers now are stored twice"
            );
            if let Err(error) = quarantine::move_file(dir, &dir.join(REDELIVERY_FILE)) {
                log::error!("inbox: {error}");
            }
            DuplicateFilter::disabled()
        })
    }

    fn disabled() -> DuplicateFilter {
        DuplicateFilter {
            guard: RedeliveryGuard::default(),
            session: None,
            seen: Offset::MAX,
            is_unstored: false,
            is_urgent: false,
            is_same_boot: true,
        }
    }

    /// Returns whether the file does not cover the record.
    pub(super) fn follows(&self, offset: Offset) -> bool {
        offset >= self.seen
    }

    /// Replays a record of an earlier run.
    pub(super) fn recall(&mut self, record: &Record) {
        if let Some(fingerprint) = Fingerprint::from_record(record) {
            self.guard.received(&fingerprint);
            self.is_unstored = true;
        }
    }

    /// Notes damage in the log at or above this offset. If the file covers it, all remembered messages are
    /// dropped.
    pub(super) fn note_damage(&mut self, from: Offset) {
        if from < self.seen {
            self.guard.forget_messages();
            self.is_unstored = true;
        }
    }

    /// Ends the replay. The evidence is dropped if the machine, and so possibly the broker, was rebooted.
    pub(super) fn finish_recovery(&mut self) {
        if !self.is_same_boot {
            self.guard.invalidate();
            self.is_unstored = true;
        }
    }

    /// Notes an appended message.
    pub(super) fn received(&mut self, fingerprint: &Fingerprint) {
        if self.session.is_none() {
            return;
        }
        self.is_unstored = true;
        if self.guard.received(fingerprint) {
            log::info!(
                "A packet identifier stepped back: the broker reuses identifiers early, fell back to an older state, or \
                 redelivered messages that could not be recognised. Until {MIN_RISING_IDS} identifiers have risen in a row, \
                 messages redelivered after a lost connection are stored twice"
            );
        }
    }

    pub(super) fn is_redelivered(&mut self, fingerprint: &Fingerprint) -> bool {
        self.session.is_some() && self.guard.classify(fingerprint) == DeliveryKind::Redelivered
    }

    /// Sets the session by broker and client id; a change starts a new session.
    pub(super) fn set_session(&mut self, session: &str) {
        if self.session.as_deref() != Some(session) {
            self.session = Some(session.to_owned());
            self.begin_session();
        }
    }

    pub(super) fn begin_session(&mut self) {
        self.guard.begin_session();
        self.is_unstored = true;
    }

    pub(super) fn begin_connection(&mut self, in_flight: InFlight) {
        self.guard.begin_connection(in_flight);
    }

    /// Withdraws the trust in this session's broker. Returns whether the file must be replaced, because a
    /// restart would otherwise restore the trust. Sessions at other brokers are unknown here.
    pub(super) fn invalidate(&mut self, session: &str) -> bool {
        if self.session.as_deref() == Some(session) && self.guard.invalidate() {
            self.mark_unstored();
        }
        self.is_urgent
    }

    pub(super) fn mark_unstored(&mut self) {
        self.is_unstored = true;
        self.is_urgent = true;
    }

    /// Takes the content to store, with `seen` as the end of the log and at most `max_messages` messages. Returns
    /// `None` if the file is up to date.
    pub(super) fn take_unstored(
        &mut self,
        dir: &Path,
        inbox: &InboxId,
        seen: Offset,
        max_messages: usize,
    ) -> Option<Unstored> {
        let session = self.session.clone()?;
        if !std::mem::take(&mut self.is_unstored) {
            return None;
        }
        self.is_urgent = false;
        let mut memory = self.guard.memory();
        let surplus = memory.window.len().saturating_sub(max_messages);
        memory.window.drain(..surplus);
        // An orderly shutdown stores the omitted messages.
        self.is_unstored = surplus > 0;
        let (dir, inbox) = (dir.to_path_buf(), inbox.to_string());
        Some(Unstored { dir, inbox, session, seen, memory })
    }
}

impl DuplicateFilterFile {
    fn from_unstored(unstored: &Unstored) -> DuplicateFilterFile {
        let Unstored { inbox, session, seen, memory, .. } = unstored;
        DuplicateFilterFile {
            format: REDELIVERY_FORMAT,
            inbox: inbox.clone(),
            boot: boot_id(),
            session: session.clone(),
            seen: *seen,
            risen: memory.risen,
            stepped_back: memory.stepped_back,
            tail: memory.window.iter().map(StoredFingerprint::from_entry).collect(),
        }
    }

    /// Parses the file. Returns `None` if it belongs to another inbox, has another format, or is invalid.
    fn parse(text: &str, inbox: &InboxId) -> Option<DuplicateFilter> {
        let file: DuplicateFilterFile = serde_json::from_str(text).ok()?;
        let is_known = matches!(file.format, REDELIVERY_FORMAT | FORMAT_WITHOUT_BOOT);
        if !is_known || file.inbox != inbox.to_string() {
            return None;
        }
        let window = file.tail.iter().map(StoredFingerprint::entry).collect::<Option<_>>()?;
        let memory = RedeliveryMemory { risen: file.risen, stepped_back: file.stepped_back, window };
        Some(DuplicateFilter {
            guard: RedeliveryGuard::resume(memory),
            session: Some(file.session),
            seen: file.seen,
            is_unstored: false,
            is_urgent: false,
            is_same_boot: file.boot.is_some() && file.boot == boot_id(),
        })
    }
}

impl StoredFingerprint {
    fn from_entry(entry: &WindowEntry) -> StoredFingerprint {
        let Content { topic, payload, retained } = entry.content;
        StoredFingerprint(entry.packet_id, retained, format!("{topic:016x}"), format!("{payload:032x}"))
    }

    fn entry(&self) -> Option<WindowEntry> {
        let StoredFingerprint(packet_id, retained, topic, payload) = self;
        let topic = u64::from_str_radix(topic, 16).ok()?;
        let payload = u128::from_str_radix(payload, 16).ok()?;
        Some(WindowEntry { packet_id: *packet_id, content: Content { topic, payload, retained: *retained } })
    }
}

impl Unstored {
    pub(super) fn store(&self) -> Result<(), InboxError> {
        let text = format!("{}\n", serde_json::json!(DuplicateFilterFile::from_unstored(self)));
        durable::replace_small_file(&self.dir, REDELIVERY_FILE, &text)
    }

    /// Removes the stored file.
    pub(super) fn remove_stored(&self) -> Result<(), InboxError> {
        let path = self.dir.join(REDELIVERY_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(InboxError::io("delete", &path)(error))
            }
            _ => durable::sync_dir(&self.dir),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
