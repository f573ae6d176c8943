//! One file of the log: a header, then records.
//!
//! ```text
//! magic 8 │ format 1 │ zero 3 │ lanes 4 │ inbox id 16 │ base offset 8 │ crc32 4 │ records …
//! ```
//!
//! Magic, format and checksum keep their place in later formats. Every segment repeats lanes and id, so that a
//! lost meta file can be rebuilt.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::durable;
use super::error::InboxError;
use super::meta::{InboxId, Meta};
use crate::domain::message::Offset;
use crate::files;

/// Bytes before the first record.
pub(super) const HEADER_BYTES: u64 = HEADER_LENGTH as u64;

const HEADER_LENGTH: usize = 44;
const CHECKED_LENGTH: usize = HEADER_LENGTH - 4;
const MAGIC: &[u8; 8] = b"mqgwlog\n";

/// The written format. Format 2 adds user properties, which a program for format 1 would read as payload. All
/// formats up to this one can be read.
const FORMAT: u8 = 2;

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: InboxId,
    pub(super) lanes: u32,
    pub(super) base: Offset,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = FORMAT;
        bytes[12..16].copy_from_slice(&self.lanes.to_le_bytes());
        bytes[16..32].copy_from_slice(self.id.bytes());
        bytes[32..40].copy_from_slice(&self.base.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..CHECKED_LENGTH]);
        bytes[CHECKED_LENGTH..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of a segment file. Returns `None` if it is damaged.
    pub(super) fn read(path: &Path) -> Result<Option<SegmentHeader>, InboxError> {
        let mut bytes = [0; HEADER_LENGTH];
        let opened = files::open_private(path, File::options().read(true));
        let read = opened.and_then(|file| file.read_exact_at(&mut bytes, 0));
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(InboxError::io("read", path)(error)),
        }
        let [.., c0, c1, c2, c3] = bytes;
        if !bytes.starts_with(MAGIC)
            || crc32fast::hash(&bytes[..CHECKED_LENGTH]) != u32::from_le_bytes([c0, c1, c2, c3])
        {
            return Ok(None);
        }
        if !(1..=FORMAT).contains(&bytes[8]) {
            return Err(InboxError::UnknownFormat { path: path.to_path_buf(), format: u32::from(bytes[8]) });
        }
        Ok(SegmentHeader::fields(&bytes))
    }

    fn fields(bytes: &[u8; HEADER_LENGTH]) -> Option<SegmentHeader> {
        Some(SegmentHeader {
            lanes: u32::from_le_bytes(bytes[12..16].try_into().ok()?),
            id: InboxId::from_bytes(bytes[16..32].try_into().ok()?),
            base: u64::from_le_bytes(bytes[32..40].try_into().ok()?),
        })
    }
}

/// The result of a walk through a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walked {
    /// Start of the records: behind the header, or 0 if the header is damaged.
    pub(super) start: u64,
    /// Valid length in bytes.
    pub(super) len: u64,
    /// All its offsets are below this one.
    pub(super) end: Offset,
    /// Unreadable byte ranges, in order.
    pub(super) damage: Vec<Range<u64>>,
}

/// A segment shared by the writer and readers. Only the writer changes `len` and `end`, after the bytes are in
/// the file. All bytes below `len` are complete.
#[derive(Debug)]
pub(super) struct Segment {
    /// First offset, which is also the file name.
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    /// Start of the records in the file.
    pub(super) start: u64,
    /// Unreadable byte ranges found by recovery.
    damage: Vec<Range<u64>>,
    len: AtomicU64,
    end: AtomicU64,
    dirty: AtomicBool,
    removed: AtomicBool,
}

impl Segment {
    /// Creates a segment from the result of a walk.
    pub(super) fn new(path: PathBuf, base: Offset, walked: Walked) -> Segment {
        Segment {
            base,
            path,
            start: walked.start,
            damage: walked.damage,
            len: AtomicU64::new(walked.len),
            end: AtomicU64::new(walked.end),
            dirty: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        }
    }

    /// Creates the file of an empty segment with its header, without syncing it.
    pub(super) fn create(dir: &Path, meta: &Meta, base: Offset) -> Result<(Segment, File), InboxError> {
        let path = path_of(dir, base);
        let header = SegmentHeader { id: meta.id, lanes: meta.lanes, base };
        let file = durable::create_private_file(&path)
            .and_then(|file| file.write_all_at(&header.encode(), 0).map(|()| file))
            .map_err(InboxError::io("create", &path))?;
        let empty = Walked { start: HEADER_BYTES, len: HEADER_BYTES, end: base, damage: Vec::new() };
        let segment = Segment::new(path, base, empty);
        segment.dirty.store(true, Ordering::Relaxed);
        Ok((segment, file))
    }

    /// Readable length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// All its offsets are below this one.
    pub(super) fn end(&self) -> Offset {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn has_records(&self) -> bool {
        self.end() > self.base
    }

    /// Makes the record written at `len` visible to readers.
    pub(super) fn publish(&self, record_bytes: u64, offset: Offset) {
        self.end.store(offset + 1, Ordering::Release);
        self.len.fetch_add(record_bytes, Ordering::Release);
    }

    pub(super) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Returns whether something was written since the last call, and resets the mark.
    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::Relaxed)
    }

    /// Marks whether the file is deleted or about to be.
    pub(super) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Release);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Syncs the file. Succeeds if the file was deleted.
    pub(super) fn sync(&self) -> Result<(), InboxError> {
        match files::open_private(&self.path, File::options().read(true)).and_then(|file| file.sync_data()) {
            Err(_) if self.is_removed() => Ok(()),
            result => result.map_err(InboxError::io("sync", &self.path)),
        }
    }

    /// Returns the known damage that contains byte `at`.
    pub(super) fn damage_at(&self, at: u64) -> Option<&Range<u64>> {
        self.damage.iter().find(|range| range.contains(&at))
    }
}

/// Returns the path of the segment with this base. Names sort in the order of offsets.
pub(super) fn path_of(dir: &Path, base: Offset) -> PathBuf {
    dir.join(format!("{base:020}.segment"))
}

/// Parses the base from a segment's file name. Returns `None` for all other files.
pub(super) fn base_of(path: &Path) -> Option<Offset> {
    let base = path.file_name()?.to_str()?.strip_suffix(".segment")?;
    (base.len() == 20).then(|| base.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_detects_any_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::new(4);
        let (segment, _file) = Segment::create(dir.path(), &meta, 9).unwrap();
        let header = SegmentHeader { id: meta.id, lanes: 4, base: 9 };
        assert_eq!(SegmentHeader::read(&segment.path).unwrap(), Some(header));
        for index in 0..HEADER_LENGTH {
            let mut bytes = header.encode();
            bytes[index] ^= 0x20;
            std::fs::write(&segment.path, bytes).unwrap();
            assert_eq!(SegmentHeader::read(&segment.path).unwrap(), None, "byte {index}");
        }
    }

    #[test]
    fn a_later_segment_format_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = SegmentHeader { id: InboxId::random(), lanes: 1, base: 0 }.encode();
        bytes[8] = FORMAT + 1;
        let checksum = crc32fast::hash(&bytes[..CHECKED_LENGTH]);
        bytes[CHECKED_LENGTH..].copy_from_slice(&checksum.to_le_bytes());
        let path = path_of(dir.path(), 0);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(SegmentHeader::read(&path), Err(InboxError::UnknownFormat { format: 3, .. })));
    }

    #[test]
    fn a_file_name_contains_the_base() {
        let path = path_of(Path::new("/inbox"), 1 << 40);
        assert_eq!(base_of(&path), Some(1 << 40));
        assert_eq!(base_of(Path::new("/inbox/meta")), None);
        assert_eq!(base_of(Path::new("/inbox/1.segment")), None);
    }
}
