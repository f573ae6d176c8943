//! A read-only scan of an inbox that a gateway may be using. It takes no lock.
//!
//! The result is never ahead of the log. It may lack records that were appended or released meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::content::{MetaOrigin, candidates, known_meta, segments_of};
use super::cursor::{Cursor, CursorStep};
use super::error::InboxError;
use super::record::Codec;
use super::segment::{HEADER_BYTES, Segment, Walked};
use super::{InboxId, InboxProgress, Registered};
use crate::domain::message::Offset;

/// The content of an inbox directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Id of the inbox.
    pub id: InboxId,
    /// Number of lanes.
    pub lanes: u32,
    /// Whether the meta file is lost. Lanes and offsets are then those that the next start takes from the segments.
    pub is_meta_rebuilt: bool,
    /// First offset that was never issued.
    pub never_issued: Offset,
    /// Registration of the last start.
    pub registration: Option<Registered>,
    /// Last known progress of the database.
    pub progress: InboxProgress,
    /// Base of the newest segment; `None` if all segments were released.
    pub newest_base: Option<Offset>,
    /// Offset after the last record found.
    pub end: Offset,
    /// Number of records found.
    pub records: u64,
    /// Size of the segments in bytes, including unreadable ones.
    pub bytes: u64,
    /// Number of unreadable ranges that are followed by intact records.
    pub damages: u64,
    /// Offset of the first intact record after the last damage.
    pub damaged_below: Offset,
    /// Number of records at and above each requested offset.
    pub waiting: BTreeMap<Offset, u64>,
}

/// What a scan found in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Surveyed {
    /// An inbox.
    Inbox(Box<Survey>),
    /// Nothing: the next start begins a new inbox.
    Nothing,
    /// Files of an inbox, of which none can be read: the next start puts them into quarantine.
    Unreadable,
}

impl Surveyed {
    /// The inbox, if there is one that can be read.
    #[must_use]
    pub fn inbox(self) -> Option<Survey> {
        if let Self::Inbox(found) = self { Some(*found) } else { None }
    }
}

/// Scans the log and counts the records at and above each of `marks`.
pub fn survey(dir: &Path, marks: &[Offset]) -> Result<Surveyed, InboxError> {
    if !dir.is_dir() {
        return Ok(Surveyed::Nothing);
    }
    let candidates = candidates(dir)?;
    let (meta, origin) = match known_meta(dir, &candidates)? {
        (Some(meta), origin) => (meta, origin),
        (None, MetaOrigin::Replaced) => return Ok(Surveyed::Unreadable),
        (None, _) => return Ok(Surveyed::Nothing),
    };
    let mut survey = Survey {
        id: meta.id,
        lanes: meta.lanes,
        is_meta_rebuilt: origin == MetaOrigin::Rebuilt,
        never_issued: meta.next_base,
        progress: InboxProgress::load(dir, &meta.id)?,
        registration: meta.registration,
        newest_base: None,
        end: 0,
        records: 0,
        bytes: 0,
        damages: 0,
        damaged_below: 0,
        waiting: marks.iter().map(|mark| (*mark, 0)).collect(),
    };
    let segments = segments_of(candidates, &meta.id);
    let mut is_moving = false;
    for (index, (base, path)) in segments.iter().enumerate() {
        let limit = segments.get(index + 1).map_or(Offset::MAX, |(next, _)| *next);
        match survey.walk(*base, path, limit) {
            Ok(()) => survey.newest_base = Some(*base),
            // The segment was released after the listing, which may also lack a newer one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => is_moving = true,
            Err(error) => return Err(InboxError::io("read", path)(error)),
        }
    }
    survey.newest_base = survey.newest_base.filter(|_| !is_moving);
    Ok(Surveyed::Inbox(Box::new(survey)))
}

/// Opens a segment at its first record. Returns also its length.
pub(super) fn open_segment(
    id: &InboxId,
    base: Offset,
    path: &Path,
    limit: Offset,
) -> io::Result<(Cursor, u64)> {
    let bytes = fs::metadata(path)?.len();
    let whole = Walked { start: HEADER_BYTES, len: bytes, end: limit, damage: Vec::new() };
    let segment = Arc::new(Segment::new(path.to_path_buf(), base, whole));
    Ok((Cursor::open(&segment, Codec::new(id))?, bytes))
}

impl Survey {
    fn walk(&mut self, base: Offset, path: &Path, limit: Offset) -> io::Result<()> {
        let (mut cursor, bytes) = open_segment(&self.id, base, path, limit)?;
        self.bytes += bytes;
        let mut behind_damage = false;
        loop {
            match cursor.step(bytes, limit)? {
                CursorStep::Record(offset, _) => {
                    self.records += 1;
                    self.end = offset + 1;
                    if std::mem::take(&mut behind_damage) {
                        self.damaged_below = offset;
                    }
                    self.waiting.range_mut(..=offset).for_each(|(_, count)| *count += 1);
                }
                CursorStep::Damage(range) if range.end < bytes => {
                    self.damages += 1;
                    behind_damage = true;
                }
                // Damage at the end is an unfinished append, or bytes that recovery cuts off.
                CursorStep::Damage(_) | CursorStep::End => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::message::{DeliveryFacts, Publication};
    use crate::inbox::{FsyncPolicy, Inbox, InboxOptions, KeepPolicy, segment};
    use std::path::PathBuf;

    fn open(dir: &Path) -> Inbox {
        let options = InboxOptions {
            keep: KeepPolicy::NONE,
            dir: dir.to_path_buf(),
            max_bytes: 4 << 20,
            segment_bytes: 4_000,
            fsync: FsyncPolicy::Never,
            lanes: 3,
            max_payload_bytes: 1_000,
        };
        Inbox::open(options).unwrap().0
    }

    fn append(inbox: &Inbox, count: usize) -> Vec<Offset> {
        let delivery = DeliveryFacts::default();
        let publication = Publication { topic: "t", payload: &[b'x'; 100], delivery: &delivery, unfit: None };
        (0..count).map(|_| inbox.append(&publication, 7).unwrap()).collect()
    }

    fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn a_survey_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        let offsets = append(&inbox, 100);
        let before = files(dir.path());
        let found = survey(dir.path(), &[offsets[40], offsets[99] + 1]).unwrap().inbox().unwrap();
        assert_eq!((found.id, found.lanes, found.records), (*inbox.id(), 3, 100));
        assert_eq!((found.end, found.damages), (inbox.next_offset(), 0));
        assert_eq!(found.waiting, BTreeMap::from([(offsets[40], 60), (offsets[99] + 1, 0)]));
        assert!(found.newest_base.unwrap() <= offsets[99] && found.end < found.never_issued);
        assert_eq!(files(dir.path()), before);
        assert_eq!(append(&inbox, 1), [offsets[99] + 1]);
    }

    #[test]
    fn an_unfinished_record_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        let offsets = append(&inbox, 60);
        let (path, mut bytes) = files(dir.path()).pop_first_segment();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (path, bytes) = files(dir.path()).pop_last_segment();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let found = survey(dir.path(), &[]).unwrap().inbox().unwrap();
        assert_eq!((found.damages, found.records), (1, 58));
        assert!(offsets[1..40].contains(&found.damaged_below));
    }

    #[test]
    fn an_empty_log_has_no_newest_segment() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        for (path, _) in files(dir.path()) {
            if segment::base_of(&path).is_some() {
                fs::remove_file(path).unwrap();
            }
        }
        let found = survey(dir.path(), &[]).unwrap().inbox().unwrap();
        assert_eq!((found.newest_base, found.records), (None, 0));
        fs::write(dir.path().join("meta"), "damaged").unwrap();
        assert_eq!(survey(dir.path(), &[]).unwrap(), Surveyed::Unreadable);
        drop(inbox);
    }

    #[test]
    fn segments_are_found_without_the_meta_file() {
        for lose in
            [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "x").unwrap()]
        {
            let dir = tempfile::tempdir().unwrap();
            let inbox = open(dir.path());
            append(&inbox, 100);
            lose(&dir.path().join("meta"));
            let before = files(dir.path());
            let found = survey(dir.path(), &[]).unwrap().inbox().unwrap();
            assert!(found.is_meta_rebuilt);
            assert_eq!((found.id, found.lanes, found.records), (*inbox.id(), 3, 100));
            assert!(found.never_issued > found.end);
            assert_eq!(files(dir.path()), before);
        }
    }

    #[test]
    fn other_directories_have_no_survey() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(survey(dir.path(), &[]).unwrap(), Surveyed::Nothing);
        assert_eq!(survey(&dir.path().join("none"), &[]).unwrap(), Surveyed::Nothing);
    }

    trait Segments {
        fn pop_first_segment(self) -> (PathBuf, Vec<u8>);
        fn pop_last_segment(self) -> (PathBuf, Vec<u8>);
    }

    impl Segments for BTreeMap<PathBuf, Vec<u8>> {
        fn pop_first_segment(mut self) -> (PathBuf, Vec<u8>) {
            self.retain(|path, _| segment::base_of(path).is_some());
            self.pop_first().unwrap()
        }

        fn pop_last_segment(mut self) -> (PathBuf, Vec<u8>) {
            self.retain(|path, _| segment::base_of(path).is_some());
            self.pop_last().unwrap()
        }
    }
}
