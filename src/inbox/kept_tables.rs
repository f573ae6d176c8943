//! Storage of the routing tables that the records in the log refer to. The inbox does not interpret the text.

use std::path::{Path, PathBuf};

use super::durable::{self, SmallFile};
use super::error::InboxError;
use super::quarantine;

const TABLES_FILE: &str = "tables";

/// A small file in the inbox directory that is replaced atomically.
#[derive(Debug, Clone)]
pub struct KeptTables {
    dir: PathBuf,
}

impl KeptTables {
    /// Refers to the file in the inbox directory, which must exist.
    #[must_use]
    pub fn new(dir: &Path) -> KeptTables {
        KeptTables { dir: dir.to_path_buf() }
    }

    /// Reads the stored text. A damaged file is logged, moved into quarantine, and treated as missing.
    pub fn read(&self) -> Result<Option<String>, InboxError> {
        match durable::read_small_file(&self.dir, TABLES_FILE)? {
            SmallFile::Missing => Ok(None),
            SmallFile::Intact(text) => Ok(Some(text)),
            SmallFile::Corrupt => {
                let moved = quarantine::move_file(&self.dir, &self.dir.join(TABLES_FILE))?;
                log::error!("the stored routing tables were damaged; moved to {}", moved.display());
                Ok(None)
            }
        }
    }

    /// Replaces the stored text durably and atomically.
    pub fn replace(&self, text: &str) -> Result<(), InboxError> {
        durable::replace_small_file(&self.dir, TABLES_FILE, text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_back_unless_damaged() {
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
