//! One file of the log: a header, then records.
//!
//! ```text
//! magic 8 │ format 1 │ zero 3 │ lanes 4 │ inbox id 16 │ base offset 8 │ crc32 4 │ records …
//! ```
//!
//! Magic, format and checksum keep their place in later formats. Lanes and id are repeated in every
//! segment so that a lost meta file can be made again.

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

/// The format that is written: 2 since records may hold user properties, which a program that knows
/// only format 1 would take for payload. All formats up to it are read.
const FORMAT: u8 = 2;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: InboxId,
    pub(super) lanes: u32,
    pub(super) base: Offset,
}

impl Header {
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

    /// Reads the header of a segment file; `None` when it is damaged.
    pub(super) fn read(path: &Path) -> Result<Option<Header>, InboxError> {
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
        Ok(Header::fields(&bytes))
    }

    fn fields(bytes: &[u8; HEADER_LENGTH]) -> Option<Header> {
        Some(Header {
            lanes: u32::from_le_bytes(bytes[12..16].try_into().ok()?),
            id: InboxId::from_bytes(bytes[16..32].try_into().ok()?),
            base: u64::from_le_bytes(bytes[32..40].try_into().ok()?),
        })
    }
}

/// What a walk through a segment file has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walked {
    /// Where records begin: behind the header, or at 0 where the header is damaged.
    pub(super) start: u64,
    /// Bytes that count.
    pub(super) len: u64,
    /// All its offsets are below this one.
    pub(super) end: Offset,
    /// Ranges of unreadable bytes, in order.
    pub(super) damage: Vec<Range<u64>>,
}

/// A segment as writer and readers share it. Only the writer changes `len` and `end`, and only after
/// the bytes are in the file: what lies below `len` is whole.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its first offset, and its file name.
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    /// Where records begin.
    pub(super) start: u64,
    /// Byte ranges that recovery found unreadable.
    damage: Vec<Range<u64>>,
    len: AtomicU64,
    end: AtomicU64,
    dirty: AtomicBool,
    removed: AtomicBool,
}

impl Segment {
    /// A segment file of which this much is known.
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

    /// Creates the file of an empty segment with its header. It is not synced yet.
    pub(super) fn create(dir: &Path, meta: &Meta, base: Offset) -> Result<(Segment, File), InboxError> {
        let path = path_of(dir, base);
        let header = Header { id: meta.id, lanes: meta.lanes, base };
        let file = durable::create_private_file(&path)
            .and_then(|file| file.write_all_at(&header.encode(), 0).map(|()| file))
            .map_err(InboxError::io("create", &path))?;
        let empty = Walked { start: HEADER_BYTES, len: HEADER_BYTES, end: base, damage: Vec::new() };
        let segment = Segment::new(path, base, empty);
        segment.dirty.store(true, Ordering::Relaxed);
        Ok((segment, file))
    }

    /// Bytes that may be read.
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

    /// Lets readers see a record that was written at `len`.
    pub(super) fn publish(&self, record_bytes: u64, offset: Offset) {
        self.end.store(offset + 1, Ordering::Release);
        self.len.fetch_add(record_bytes, Ordering::Release);
    }

    pub(super) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Whether something was written since the last call.
    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::Relaxed)
    }

    /// Tells readers that the file is gone or will be.
    pub(super) fn mark_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Release);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Forces its bytes to the disk.
    pub(super) fn sync(&self) -> Result<(), InboxError> {
        match files::open_private(&self.path, File::options().read(true)).and_then(|file| file.sync_data()) {
            Err(_) if self.is_removed() => Ok(()),
            result => result.map_err(InboxError::io("sync", &self.path)),
        }
    }

    /// The known damage that byte `at` lies in.
    pub(super) fn damage_at(&self, at: u64) -> Option<&Range<u64>> {
        self.damage.iter().find(|range| range.contains(&at))
    }
}

/// Where the segment with this base lies; names sort as offsets do.
pub(super) fn path_of(dir: &Path, base: Offset) -> PathBuf {
    dir.join(format!("{base:020}.segment"))
}

/// The base that a segment's file name says; `None` for all other files.
pub(super) fn base_of(path: &Path) -> Option<Offset> {
    let base = path.file_name()?.to_str()?.strip_suffix(".segment")?;
    (base.len() == 20).then(|| base.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_was_written_and_notices_any_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::new(4);
        let (segment, _file) = Segment::create(dir.path(), &meta, 9).unwrap();
        let header = Header { id: meta.id, lanes: 4, base: 9 };
        assert_eq!(Header::read(&segment.path).unwrap(), Some(header));
        for index in 0..HEADER_LENGTH {
            let mut bytes = header.encode();
            bytes[index] ^= 0x20;
            std::fs::write(&segment.path, bytes).unwrap();
            assert_eq!(Header::read(&segment.path).unwrap(), None, "byte {index}");
        }
    }

    #[test]
    fn a_segment_of_a_later_format_is_refused_not_taken_for_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Header { id: InboxId::random(), lanes: 1, base: 0 }.encode();
        bytes[8] = FORMAT + 1;
        let checksum = crc32fast::hash(&bytes[..CHECKED_LENGTH]);
        bytes[CHECKED_LENGTH..].copy_from_slice(&checksum.to_le_bytes());
        let path = path_of(dir.path(), 0);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Header::read(&path), Err(InboxError::UnknownFormat { format: 3, .. })));
    }

    #[test]
    fn file_names_give_back_the_base() {
        let path = path_of(Path::new("/inbox"), 1 << 40);
        assert_eq!(base_of(&path), Some(1 << 40));
        assert_eq!(base_of(Path::new("/inbox/meta")), None);
        assert_eq!(base_of(Path::new("/inbox/1.segment")), None);
    }
}
