//! Progress of the database as known to the inbox directory: committed offsets per lane, and deleted segments.
//!
//! The database is authoritative. This file detects that the database went back, after a restore or a failover
//! to a replica that lacks commits. It may be a few seconds old without harm, because lanes resume from the
//! offsets in the database.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::durable::{self, SmallFile};
use super::error::InboxError;
use super::meta::InboxId;
use crate::domain::message::Offset;

const PROGRESS_FILE: &str = "progress";
const FORMAT: u32 = 1;

/// Interval between two writes of the file, unless a write must not wait.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

/// Last known progress of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxProgress {
    /// Committed offset of each lane; empty if unknown.
    pub lanes: Vec<Offset>,
    /// All records below are done.
    pub done_below: Offset,
    /// Segments with records below may have been deleted.
    pub deleted_below: Offset,
}

#[derive(Serialize, Deserialize)]
struct StoredProgress {
    format: u32,
    inbox: String,
    lanes: Vec<Offset>,
    done_below: Offset,
    deleted_below: Offset,
}

/// The progress in memory and in the file.
#[derive(Debug)]
pub(super) struct ProgressFile {
    inbox: String,
    pub(super) known: InboxProgress,
    stored: InboxProgress,
    stored_at: Instant,
}

impl InboxProgress {
    /// Reads the file of this inbox. Returns the default if the file is missing, damaged or from another inbox.
    pub(super) fn load(dir: &Path, id: &InboxId) -> Result<InboxProgress, InboxError> {
        let SmallFile::Intact(text) = durable::read_small_file(dir, PROGRESS_FILE)? else {
            return Ok(InboxProgress::default());
        };
        let file = serde_json::from_str::<StoredProgress>(&text).ok();
        let file = file.filter(|file| file.format == FORMAT && file.inbox == id.to_string());
        Ok(file.map_or_else(InboxProgress::default, |file| InboxProgress {
            lanes: file.lanes,
            done_below: file.done_below,
            deleted_below: file.deleted_below,
        }))
    }
}

impl ProgressFile {
    pub(super) fn new(id: &InboxId, known: InboxProgress) -> ProgressFile {
        ProgressFile { inbox: id.to_string(), stored: known.clone(), known, stored_at: Instant::now() }
    }

    /// Returns whether the file is outdated and its last write was long enough ago.
    pub(super) fn is_due(&self) -> bool {
        self.known != self.stored && self.stored_at.elapsed() >= STORE_INTERVAL
    }

    /// Writes the file if it is outdated.
    pub(super) fn store(&mut self, dir: &Path) -> Result<(), InboxError> {
        if self.known == self.stored {
            return Ok(());
        }
        // A failed write counts too, so that a failing disk is not retried for each batch.
        self.stored_at = Instant::now();
        let file = StoredProgress {
            format: FORMAT,
            inbox: self.inbox.clone(),
            lanes: self.known.lanes.clone(),
            done_below: self.known.done_below,
            deleted_below: self.known.deleted_below,
        };
        durable::replace_small_file_unsynced(dir, PROGRESS_FILE, &serde_json::json!(file).to_string())?;
        self.stored = self.known.clone();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn progress() -> InboxProgress {
        InboxProgress { lanes: vec![7, 9], done_below: 7, deleted_below: 3 }
    }

    #[test]
    fn progress_is_read_back() {
        let (dir, id) = (tempfile::tempdir().unwrap(), InboxId::random());
        let mut file = ProgressFile::new(&id, InboxProgress::load(dir.path(), &id).unwrap());
        assert_eq!(file.known, InboxProgress::default());
        file.known = progress();
        file.store(dir.path()).unwrap();
        assert_eq!(InboxProgress::load(dir.path(), &id).unwrap(), progress());
    }

    #[test]
    fn damaged_or_foreign_progress_is_ignored() {
        let (dir, id) = (tempfile::tempdir().unwrap(), InboxId::random());
        let mut file = ProgressFile::new(&id, InboxProgress::default());
        file.known = progress();
        file.store(dir.path()).unwrap();
        assert_eq!(InboxProgress::load(dir.path(), &InboxId::random()).unwrap(), InboxProgress::default());
        std::fs::write(dir.path().join(PROGRESS_FILE), "torn").unwrap();
        assert_eq!(InboxProgress::load(dir.path(), &id).unwrap(), InboxProgress::default());
    }
}
