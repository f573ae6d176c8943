//! Errors of the inbox. Each message names the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to open, read or repair an inbox.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Another process holds the lock of the directory.
    #[error(
        "the inbox {} is in use by {holder}: stop that process (in Kubernetes: wait until its pod is gone) or set \
         INBOX_DIR to another directory",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, its host and its start time, as far as known.
        holder: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted operation, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A later version of this program wrote the file. The file was not changed.
    #[error("{} has format {format}, which this version does not know: run the version that wrote it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format number.
        format: u32,
    },
    /// `max_bytes` is below the minimum.
    #[error("an inbox of {max_bytes} bytes is too small: INBOX_MAX_BYTES must be at least {minimum}")]
    TooSmall {
        /// The configured value.
        max_bytes: u64,
        /// The minimum.
        minimum: u64,
    },
    /// All offsets were issued (after eight million starts).
    #[error("the offsets of this inbox are used up: drain it and start with an empty directory")]
    OffsetsUsedUp,
    /// All MQTT subscription identifiers were used.
    #[error(
        "the subscription identifiers of this inbox are used up: drain it and start with an empty directory"
    )]
    SubscriptionIdsUsedUp,
}

impl InboxError {
    /// Returns a function for `map_err` that adds the operation and the path to an error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InboxError {
        let path = path.to_path_buf();
        move |source| InboxError::Io { action, path, source }
    }

    /// Returns whether free disk space would help.
    pub(super) fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, InboxError::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// A failed append. No part of the record is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record would exceed `max_bytes`; `release` frees space.
    #[error("the inbox is full")]
    Full,
    /// The inbox is closed.
    #[error("the inbox is closed")]
    Closed,
    /// Writing to the disk failed.
    #[error("the inbox cannot be written: {0}")]
    Io(#[from] InboxError),
}

/// The inbox was closed before the record was appended. The message must not be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the inbox is closed")]
pub struct Closed;
