//! One process per inbox directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::InboxError;

/// Held as long as this value lives; the kernel lets go when the process dies, however it dies.
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of the directory, or says which process has it.
    pub(super) fn acquire(dir: &Path) -> Result<DirectoryLock, InboxError> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(InboxError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InboxError::Locked { dir: dir.to_path_buf(), holder: holder(&path) });
            }
            Err(TryLockError::Error(error)) => return Err(InboxError::io("lock", &path)(error)),
        }
        // The number only helps a person; a disk too full for it is no reason not to start.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            log::warn!("cannot write the process id into {}: {error}", path.display());
        }
        Ok(DirectoryLock { _file: file })
    }
}

fn holder(path: &Path) -> String {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}
