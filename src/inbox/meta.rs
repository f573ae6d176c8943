//! The meta file: id, lanes, offset reservation and registration of an inbox.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::durable::{self, FileFormat, SmallFile};
use super::error::InboxError;
use crate::domain::message::{OFFSETS_PER_START, Offset};

/// Name of the meta file in the inbox directory.
pub(super) const META_FILE: &str = "meta";

/// Format of the meta file.
const FORMAT: u8 = 1;

/// Number of starts skipped when the meta file is lost, because offsets beyond the last segment may have been
/// issued. Eight million starts are available.
const STARTS_SKIPPED_WITHOUT_META: u64 = 1024;

/// Random id of an inbox, shown as 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InboxId([u8; 16]);

impl InboxId {
    pub(super) fn random() -> InboxId {
        InboxId(rand::random())
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> InboxId {
        InboxId(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The meta file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) id: InboxId,
    pub(super) lanes: u32,
    /// First offset that was never issued.
    pub(super) next_base: Offset,
    /// Registration of the last start.
    pub(super) registration: Option<Registered>,
}

/// The registration of a start: the database, and the id of the start there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Identity of the database: 32 hexadecimal digits.
    pub database_id: String,
    /// Id of the start: 32 hexadecimal digits.
    pub start_id: String,
}

/// The result of reading the meta file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredMeta {
    Missing,
    Corrupt,
    Intact(Meta),
}

#[derive(Serialize, Deserialize)]
struct MetaFile {
    format: u32,
    id: String,
    lanes: u32,
    next_base: Offset,
    /// Missing in files of versions without registration.
    #[serde(default)]
    registration: Option<Registered>,
}

impl Meta {
    /// Creates the meta data of a new inbox.
    pub(super) fn new(lanes: u32) -> Meta {
        Meta { id: InboxId::random(), lanes, next_base: OFFSETS_PER_START, registration: None }
    }

    /// Rebuilds the meta data from segment headers when the meta file is lost.
    pub(super) fn rebuilt(id: InboxId, lanes: u32, highest_base: Offset) -> Result<Meta, InboxError> {
        let start = highest_base / OFFSETS_PER_START + STARTS_SKIPPED_WITHOUT_META;
        let next_base = start.checked_mul(OFFSETS_PER_START).ok_or(InboxError::OffsetsUsedUp)?;
        Ok(Meta { id, lanes, next_base, registration: None })
    }

    /// Reads the meta file of the directory.
    pub(super) fn load(dir: &Path) -> Result<StoredMeta, InboxError> {
        let text = match durable::read_small_file(dir, META_FILE)? {
            SmallFile::Missing => return Ok(StoredMeta::Missing),
            SmallFile::Corrupt => return Ok(StoredMeta::Corrupt),
            SmallFile::Intact(text) => text,
        };
        match serde_json::from_str::<FileFormat>(&text) {
            Ok(FileFormat { format }) if format != u32::from(FORMAT) => {
                Err(InboxError::UnknownFormat { path: dir.join(META_FILE), format })
            }
            _ => Ok(Meta::parse(&text).map_or(StoredMeta::Corrupt, StoredMeta::Intact)),
        }
    }

    fn parse(text: &str) -> Option<Meta> {
        let file: MetaFile = serde_json::from_str(text).ok()?;
        let id = InboxId(u128::from_str_radix(&file.id, 16).ok()?.to_be_bytes());
        Some(Meta { id, lanes: file.lanes, next_base: file.next_base, registration: file.registration })
    }

    /// Reserves the next range of offsets and returns its first offset. The reservation is durable when this
    /// returns, so no offset of the range is issued again.
    pub(super) fn reserve(&mut self, dir: &Path) -> Result<Offset, InboxError> {
        let base = self.next_base;
        let next = base
            .checked_add(OFFSETS_PER_START)
            .filter(|next| i64::try_from(*next).is_ok())
            .ok_or(InboxError::OffsetsUsedUp)?;
        Meta { next_base: next, ..self.clone() }.store(dir)?;
        self.next_base = next;
        Ok(base)
    }

    /// Moves to a range at or above `offset`. Must be called before an offset of the current range is issued.
    pub(super) fn skip_to(&mut self, offset: Offset) -> Result<(), InboxError> {
        let ranges = offset.div_ceil(OFFSETS_PER_START);
        let base = ranges.checked_mul(OFFSETS_PER_START).ok_or(InboxError::OffsetsUsedUp)?;
        self.next_base = self.next_base.max(base);
        Ok(())
    }

    /// Stores the registration of this start durably.
    pub(super) fn register(&mut self, dir: &Path, registered: Registered) -> Result<(), InboxError> {
        self.registration = Some(registered);
        self.store(dir)
    }

    pub(super) fn store(&self, dir: &Path) -> Result<(), InboxError> {
        let text = serde_json::json!(MetaFile {
            format: u32::from(FORMAT),
            id: self.id.to_string(),
            lanes: self.lanes,
            next_base: self.next_base,
            registration: self.registration.clone(),
        });
        durable::replace_small_file(dir, META_FILE, &format!("{text}\n"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_range_is_durable_before_use() {
        let dir = tempfile::tempdir().unwrap();
        let mut meta = Meta::new(3);
        let first = meta.reserve(dir.path()).unwrap();
        let StoredMeta::Intact(mut again) = Meta::load(dir.path()).unwrap() else { panic!("not intact") };
        assert_eq!(again, meta);
        assert_eq!(again.reserve(dir.path()).unwrap(), first + OFFSETS_PER_START);
    }

    #[test]
    fn offsets_fit_a_signed_integer() {
        let dir = tempfile::tempdir().unwrap();
        let mut meta = Meta { next_base: (1 << 63) - OFFSETS_PER_START, ..Meta::new(1) };
        assert!(matches!(meta.reserve(dir.path()), Err(InboxError::OffsetsUsedUp)));
    }

    #[test]
    fn an_unknown_meta_format_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        durable::replace_small_file(dir.path(), META_FILE, "{\"format\":2,\"new\":true}").unwrap();
        assert!(matches!(Meta::load(dir.path()), Err(InboxError::UnknownFormat { format: 2, .. })));
    }
}
