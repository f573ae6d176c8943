//! One process per inbox directory.
//!
//! The lock is held on the directory itself, which cannot be removed and created again unnoticed. The file
//! `lock` is locked too: it names the holder, and older gateways know no other lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::error::InboxError;
use crate::files;

/// A lock that is held while this value lives. The kernel releases it when the process dies.
pub(super) struct DirectoryLock {
    path: PathBuf,
    dir: File,
    _file: File,
}

impl DirectoryLock {
    /// Locks the directory. Fails with [`InboxError::Locked`] if another process holds the lock.
    pub(super) fn acquire(dir: &Path) -> Result<DirectoryLock, InboxError> {
        let path = dir.join("lock");
        let locked = |lock: Result<(), TryLockError>, path: &Path| match lock {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(InboxError::Locked { dir: dir.to_path_buf(), holder: holder(&dir.join("lock")) })
            }
            Err(TryLockError::Error(error)) => Err(InboxError::io("lock", path)(error)),
        };
        let directory = File::open(dir).map_err(InboxError::io("open", dir))?;
        match directory.try_lock() {
            // Some network file systems lock only files that are open for writing. The lock file must suffice
            // there.
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                log::warn!("cannot lock the directory {}, only the file in it: {error}", dir.display());
            }
            lock => locked(lock, dir)?,
        }
        let options = &mut File::options();
        let mut file = files::open_private(&path, options.read(true).write(true).create(true))
            .map_err(InboxError::io("open", &path))?;
        locked(file.try_lock(), &path)?;
        // The note only informs operators, so a full disk must not prevent the start.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", note())) {
            log::warn!("cannot write the process id into {}: {error}", path.display());
        }
        Ok(DirectoryLock { path: dir.to_path_buf(), dir: directory, _file: file })
    }

    /// Returns whether the path still leads to the locked directory. If it was removed, moved or replaced, new
    /// records would be lost.
    pub(super) fn is_in_place(&self) -> bool {
        let held = self.dir.metadata().map(|held| (held.dev(), held.ino()));
        let found = fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        match (held, found) {
            (Ok(held), Ok(found)) => held == found,
            (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
            // A disk error does not prove that the directory was replaced.
            (Err(_), Ok(_)) => true,
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    const BAD_DESCRIPTOR: i32 = 9;
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(BAD_DESCRIPTOR)
}

/// Returns process id and host name. The host matters because gateways in pods often have the same process id.
fn note() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {host}", std::process::id()).trim_end().to_owned()
}

/// Describes the holder of the lock from the content and age of its lock file.
fn holder(path: &Path) -> String {
    let Ok(note) = fs::read_to_string(path) else { return "another process".to_owned() };
    let mut words = note.split_whitespace();
    let Some(pid) = words.next().and_then(|pid| pid.parse::<u32>().ok()) else {
        return "another process".to_owned();
    };
    let host = words.next().map(|host| format!(" on {host}")).unwrap_or_default();
    let since = fs::metadata(path).and_then(|file| file.modified()).map_or_else(
        |_| String::new(),
        |time| format!(", since {}", DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M:%S UTC")),
    );
    format!("process {pid}{host}{since}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_lock_file_frees_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DirectoryLock::acquire(dir.path()).unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        assert!(matches!(DirectoryLock::acquire(dir.path()), Err(InboxError::Locked { .. })));
    }

    #[test]
    fn a_refused_lock_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DirectoryLock::acquire(dir.path()).unwrap();
        let refused = DirectoryLock::acquire(dir.path()).err().unwrap().to_string();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let holder = format!("is in use by process {} on {}, since 2", std::process::id(), host.trim());
        assert!(refused.contains(&holder), "{refused}");
    }

    #[test]
    fn an_old_lock_file_names_the_process() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "4711\n").unwrap();
        let holder = holder(&dir.path().join("lock"));
        assert!(holder.starts_with("process 4711, since 2"), "{holder}");
    }

    #[test]
    fn a_replaced_directory_is_detected() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("inbox");
        fs::create_dir(&dir).unwrap();
        let held = DirectoryLock::acquire(&dir).unwrap();
        assert!(held.is_in_place());
        fs::rename(&dir, parent.path().join("away")).unwrap();
        assert!(!held.is_in_place());
        fs::create_dir(&dir).unwrap();
        assert!(!held.is_in_place());
    }
}
