//! The directory's memory of the database: how far each lane was committed, and which segments were deleted.
//!
//! The database is the truth while it stands. This memory is for the day when it goes back (a restore, a failover
//! to a replica that lacks commits): only the directory then knows that it did. The file may be a few seconds old,
//! since nothing is lost by that: a lane is always carried on from where the database has it.

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

/// How far the database was, as the directory remembers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The committed offset of each lane; empty where nothing is remembered.
    pub lanes: Vec<Offset>,
    /// All records below are done.
    pub done_below: Offset,
    /// Segments with records below may have been deleted.
    pub deleted_below: Offset,
}

#[derive(Serialize, Deserialize)]
struct Page {
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
    pub(super) known: Progress,
    stored: Progress,
    stored_at: Instant,
}

impl Progress {
    /// Reads the file of this inbox. A file that is missing, damaged or of another inbox counts as no memory.
    pub(super) fn load(dir: &Path, id: &InboxId) -> Result<Progress, InboxError> {
        let SmallFile::Intact(text) = durable::read_small_file(dir, PROGRESS_FILE)? else {
            return Ok(Progress::default());
        };
        let page = serde_json::from_str::<Page>(&text).ok();
        let page = page.filter(|page| page.format == FORMAT && page.inbox == id.to_string());
        Ok(page.map_or_else(Progress::default, |page| Progress {
            lanes: page.lanes,
            done_below: page.done_below,
            deleted_below: page.deleted_below,
        }))
    }
}

impl ProgressFile {
    pub(super) fn new(id: &InboxId, known: Progress) -> ProgressFile {
        ProgressFile { inbox: id.to_string(), stored: known.clone(), known, stored_at: Instant::now() }
    }

    /// Whether the file is behind and has not been written for a while.
    pub(super) fn is_due(&self) -> bool {
        self.known != self.stored && self.stored_at.elapsed() >= STORE_INTERVAL
    }

    /// Brings the file up to date.
    pub(super) fn store(&mut self, dir: &Path) -> Result<(), InboxError> {
        if self.known == self.stored {
            return Ok(());
        }
        // Also after a failure, so that a disk that refuses is not asked for each batch.
        self.stored_at = Instant::now();
        let page = Page {
            format: FORMAT,
            inbox: self.inbox.clone(),
            lanes: self.known.lanes.clone(),
            done_below: self.known.done_below,
            deleted_below: self.known.deleted_below,
        };
        durable::replace_small_file_unsynced(dir, PROGRESS_FILE, &serde_json::json!(page).to_string())?;
        self.stored = self.known.clone();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress { lanes: vec![7, 9], done_below: 7, deleted_below: 3 }
    }

    #[test]
    fn progress_is_read_back() {
        let (dir, id) = (tempfile::tempdir().unwrap(), InboxId::random());
        let mut file = ProgressFile::new(&id, Progress::load(dir.path(), &id).unwrap());
        assert_eq!(file.known, Progress::default());
        file.known = progress();
        file.store(dir.path()).unwrap();
        assert_eq!(Progress::load(dir.path(), &id).unwrap(), progress());
    }

    #[test]
    fn damaged_or_foreign_progress_counts_as_none() {
        let (dir, id) = (tempfile::tempdir().unwrap(), InboxId::random());
        let mut file = ProgressFile::new(&id, Progress::default());
        file.known = progress();
        file.store(dir.path()).unwrap();
        assert_eq!(Progress::load(dir.path(), &InboxId::random()).unwrap(), Progress::default());
        std::fs::write(dir.path().join(PROGRESS_FILE), "torn").unwrap();
        assert_eq!(Progress::load(dir.path(), &id).unwrap(), Progress::default());
    }
}
