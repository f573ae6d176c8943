//! The routing tables of the records in the log, kept beside it as a text whose meaning is not ours.

use std::path::{Path, PathBuf};

use super::durable::{self, SmallFile};
use super::error::InboxError;
use super::quarantine;

const TABLES_FILE: &str = "tables";

/// A small file in the inbox directory, replaced as a whole.
#[derive(Debug, Clone)]
pub struct KeptTables {
    dir: PathBuf,
}

impl KeptTables {
    /// The one in the inbox directory, which must exist.
    #[must_use]
    pub fn new(dir: &Path) -> KeptTables {
        KeptTables { dir: dir.to_path_buf() }
    }

    /// What was kept last. A damaged file is put into quarantine, loudly, and counts as none.
    pub fn read(&self) -> Result<Option<String>, InboxError> {
        match durable::read_small_file(&self.dir, TABLES_FILE)? {
            SmallFile::Missing => Ok(None),
            SmallFile::Intact(text) => Ok(Some(text)),
            SmallFile::Corrupt => {
                let moved = quarantine::move_file(&self.dir, &self.dir.join(TABLES_FILE))?;
                log::error!("the kept routing tables were damaged; put aside as {}", moved.display());
                Ok(None)
            }
        }
    }

    /// Keeps `text` from now on: on disk, and after a crash either it or what was kept before.
    pub fn replace(&self, text: &str) -> Result<(), InboxError> {
        durable::replace_small_file(&self.dir, TABLES_FILE, text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_damage_counts_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptTables::new(dir.path());
        assert_eq!(kept.read().unwrap(), None);
        kept.replace("one").unwrap();
        kept.replace("two").unwrap();
        assert_eq!(kept.read().unwrap().as_deref(), Some("two"));
        std::fs::write(dir.path().join(TABLES_FILE), "torn").unwrap();
        assert_eq!(kept.read().unwrap(), None);
        assert!(dir.path().join("quarantine/tables.whole.0").exists());
    }
}
