//! What the inbox knows of the messages received last, across restarts and the deletion of segments.
//!
//! The log is the journal, and the small file `redelivery` the state it goes on from: the guard's memory and the
//! offset up to which it has seen the log. It is replaced when a session begins or comes into doubt, before segments
//! are deleted, and when the inbox is closed, never for a message; what came since is in the segments that are left. At
//! the start the walk through them brings the state up to date.
//!
//! Without the file, or with one that cannot be read, nothing of before is recognised: messages may then come twice.
//! The same holds when a part of the log that the file knows of turns out to be damaged: the message is no longer there.
//!
//! While the process is down nobody sees the broker restart. A power cut that takes both away is told by the kernel's
//! boot id, which the file has: the proof of another boot, or of one that cannot be named, does not count. What stays
//! unseen is a broker that was restarted from older state, elsewhere or by itself, while only our process was down.

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
/// As the present one, but it does not name the boot.
const FORMAT_WITHOUT_BOOT: u32 = 1;

/// The guard of one session, and what of it is on disk.
#[derive(Debug)]
pub(super) struct DuplicateFilter {
    guard: RedeliveryGuard,
    /// Broker and client id; `None` until somebody says: then nothing is watched.
    session: Option<String>,
    /// The guard has seen every record below.
    seen: Offset,
    /// The guard knows more than file and log would tell after the next deletion of segments.
    is_unstored: bool,
    /// The file knows less, or something else, than has to be kept at once.
    is_urgent: bool,
    /// The machine has run without a restart since the file was written.
    is_same_boot: bool,
}

#[derive(Serialize, Deserialize)]
struct Page {
    format: u32,
    inbox: String,
    boot: Option<String>,
    session: String,
    seen: Offset,
    risen: u32,
    stepped_back: bool,
    tail: Vec<Line>,
}

/// Packet identifier, retained, and the two hashes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Line(u16, bool, String, String);

/// How much of what is remembered goes into the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// All of it.
    Complete,
    /// What is in proportion where the file is written for each segment that is deleted.
    Bounded,
}

impl Extent {
    /// A message takes 70 bytes: this keeps them to a seventh of the segment. No fewer than the broker may have under way.
    pub(super) fn max_messages(self, segment_bytes: u64) -> usize {
        match self {
            Extent::Complete => MAX_WINDOW_MESSAGES,
            Extent::Bounded => {
                usize::try_from(segment_bytes / 512).unwrap_or(usize::MAX).max(usize::from(RECEIVE_MAXIMUM))
            }
        }
    }
}

/// A new content of the file. It becomes text where nobody waits for the log.
pub(super) struct Unstored {
    dir: PathBuf,
    inbox: String,
    session: String,
    seen: Offset,
    memory: RedeliveryMemory,
}

impl DuplicateFilter {
    /// As the file of this inbox has it. A file that cannot be used is put aside, loudly, and stops nothing.
    pub(super) fn load(dir: &Path, inbox: &InboxId) -> DuplicateFilter {
        let page = match durable::read_small_file(dir, REDELIVERY_FILE) {
            Ok(SmallFile::Missing) => return DuplicateFilter::disabled(),
            Ok(SmallFile::Intact(text)) => Page::parse(&text, inbox),
            Ok(SmallFile::Corrupt) => None,
            Err(error) => {
                log::error!("inbox: {error}");
                None
            }
        };
        page.unwrap_or_else(|| {
            log::error!(
                "inbox: the file about redelivery cannot be used; what the broker sends again now is taken in again"
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

    /// Whether the record comes after all that the file knows of.
    pub(super) fn follows(&self, offset: Offset) -> bool {
        offset >= self.seen
    }

    /// Takes note of a record of an earlier run.
    pub(super) fn recall(&mut self, record: &Record) {
        if let Some(fingerprint) = Fingerprint::from_record(record) {
            self.guard.received(&fingerprint);
            self.is_unstored = true;
        }
    }

    /// Takes note of damage in the log, at or above this offset: what the file knows of may have been in it.
    pub(super) fn note_damage(&mut self, from: Offset) {
        if from < self.seen {
            self.guard.forget_messages();
            self.is_unstored = true;
        }
    }

    /// Ends the recalling: what was proven holds only if the machine, and so maybe the broker, was not restarted.
    pub(super) fn finish_recovery(&mut self) {
        if !self.is_same_boot {
            self.guard.invalidate();
            self.is_unstored = true;
        }
    }

    /// Takes note of a message that has just been appended.
    pub(super) fn received(&mut self, fingerprint: &Fingerprint) {
        if self.session.is_none() {
            return;
        }
        self.is_unstored = true;
        if self.guard.received(fingerprint) {
            log::info!(
                "A packet identifier stepped back (the broker uses them again early, fell back to an older state, or \
                 sent again what could not be told from new messages): until {MIN_RISING_IDS} have come in rising order, what it \
                 sends again after a lost connection is taken in again"
            );
        }
    }

    pub(super) fn recognises(&mut self, fingerprint: &Fingerprint) -> bool {
        self.session.is_some() && self.guard.classify(fingerprint) == DeliveryKind::Redelivered
    }

    /// The session at the broker by its names; another one than before begins anew.
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

    /// True when the file has to be replaced for it: a restart would bring the proof back. Nothing is known of the
    /// sessions at other brokers.
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

    /// What the file should hold now that the log reaches up to `seen`, with the last `most` messages; `None` when it needs no
    /// change.
    pub(super) fn take_unstored(
        &mut self,
        dir: &Path,
        inbox: &InboxId,
        seen: Offset,
        most: usize,
    ) -> Option<Unstored> {
        let session = self.session.clone()?;
        if !std::mem::take(&mut self.is_unstored) {
            return None;
        }
        self.is_urgent = false;
        let mut memory = self.guard.memory();
        let surplus = memory.window.len().saturating_sub(most);
        memory.window.drain(..surplus);
        // An orderly end stores the rest.
        self.is_unstored = surplus > 0;
        let (dir, inbox) = (dir.to_path_buf(), inbox.to_string());
        Some(Unstored { dir, inbox, session, seen, memory })
    }
}

impl Page {
    fn from_unstored(unstored: &Unstored) -> Page {
        let Unstored { inbox, session, seen, memory, .. } = unstored;
        Page {
            format: REDELIVERY_FORMAT,
            inbox: inbox.clone(),
            boot: boot_id(),
            session: session.clone(),
            seen: *seen,
            risen: memory.risen,
            stepped_back: memory.stepped_back,
            tail: memory.window.iter().map(Line::from_entry).collect(),
        }
    }

    /// `None` for a file of another inbox or format, or one that makes no sense.
    fn parse(text: &str, inbox: &InboxId) -> Option<DuplicateFilter> {
        let page: Page = serde_json::from_str(text).ok()?;
        let is_known = matches!(page.format, REDELIVERY_FORMAT | FORMAT_WITHOUT_BOOT);
        if !is_known || page.inbox != inbox.to_string() {
            return None;
        }
        let window = page.tail.iter().map(Line::entry).collect::<Option<_>>()?;
        let memory = RedeliveryMemory { risen: page.risen, stepped_back: page.stepped_back, window };
        Some(DuplicateFilter {
            guard: RedeliveryGuard::resume(memory),
            session: Some(page.session),
            seen: page.seen,
            is_unstored: false,
            is_urgent: false,
            is_same_boot: page.boot.is_some() && page.boot == boot_id(),
        })
    }
}

impl Line {
    fn from_entry(entry: &WindowEntry) -> Line {
        let Content { topic, payload, retained } = entry.content;
        Line(entry.packet_id, retained, format!("{topic:016x}"), format!("{payload:032x}"))
    }

    fn entry(&self) -> Option<WindowEntry> {
        let Line(packet_id, retained, topic, payload) = self;
        let topic = u64::from_str_radix(topic, 16).ok()?;
        let payload = u128::from_str_radix(payload, 16).ok()?;
        Some(WindowEntry { packet_id: *packet_id, content: Content { topic, payload, retained: *retained } })
    }
}

impl Unstored {
    pub(super) fn store(&self) -> Result<(), InboxError> {
        let text = format!("{}\n", serde_json::json!(Page::from_unstored(self)));
        durable::replace_small_file(&self.dir, REDELIVERY_FILE, &text)
    }

    /// Takes away what was stored before.
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
