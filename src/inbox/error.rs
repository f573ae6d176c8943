//! What can go wrong, said so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why an inbox cannot be opened, read or mended.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Another process has the directory.
    #[error(
        "the inbox {} is in use by {holder}: stop that process (in Kubernetes: wait until its pod is gone) or set \
         INBOX_DIR to another directory",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, its host and since when, as far as they are known.
        holder: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// A later version of this program wrote the file; nothing was touched.
    #[error("{} has format {format}, which this version does not know: run the version that wrote it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format number.
        format: u32,
    },
    /// `max_bytes` is below the least.
    #[error("an inbox of {max_bytes} bytes is too small: INBOX_MAX_BYTES must be at least {least}")]
    TooSmall {
        /// As asked for.
        max_bytes: u64,
        /// The least.
        least: u64,
    },
    /// No offset is left that was never issued (after eight million starts).
    #[error("the offsets of this inbox are used up: drain it and begin with an empty directory")]
    OffsetsUsedUp,
    /// No MQTT subscription identifier is left that was never used.
    #[error(
        "the subscription identifiers of this inbox are used up: drain it and begin with an empty directory"
    )]
    SubscriptionIdsUsedUp,
}

impl InboxError {
    /// For `map_err`: the refusal together with what was tried on which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InboxError {
        let path = path.to_path_buf();
        move |source| InboxError::Io { action, path, source }
    }

    /// Whether room on the disk would help.
    pub(super) fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, InboxError::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// Why a record was not appended. Nothing of it is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It would exceed `max_bytes`; room comes with `release`.
    #[error("the inbox is full")]
    Full,
    /// The inbox is closed.
    #[error("the inbox is closed")]
    Closed,
    /// The disk refuses.
    #[error("the inbox cannot be written: {0}")]
    Io(#[from] InboxError),
}

/// The inbox was closed before the record was appended: never acknowledge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the inbox is closed")]
pub struct Closed;
