//! A look at an inbox from outside, while a gateway may be at work on it: takes no lock, changes nothing.
//!
//! What is seen is never ahead of the log, and behind it by what was appended or released meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::{Cursor, Step};
use super::error::InboxError;
use super::meta::{Meta, StoredMeta};
use super::record::Codec;
use super::segment::{self, HEADER_BYTES, Header, Segment, Walked};
use super::{InboxId, Progress, Registered};
use crate::domain::message::Offset;

/// What an inbox directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Its name.
    pub id: InboxId,
    /// Lanes its records are spread over.
    pub lanes: u32,
    /// No offset at or above it was ever issued.
    pub never_issued: Offset,
    /// The registration of its last start.
    pub registration: Option<Registered>,
    /// How far the database was, as the directory remembers it.
    pub progress: Progress,
    /// First offset of the segment that is appended to; none where all segments are released.
    pub newest_base: Option<Offset>,
    /// Above the last record that was found.
    pub end: Offset,
    /// Records that were found.
    pub records: u64,
    /// Bytes that they take, with those that cannot be read.
    pub bytes: u64,
    /// Stretches that cannot be read, with intact records behind them.
    pub damages: u64,
    /// What could not be read was below this offset.
    pub damaged_below: Offset,
    /// Records at and above each offset that was asked for.
    pub waiting: BTreeMap<Offset, u64>,
}

/// Walks through the log, and counts the records at and above each of `marks`. `None` where there is
/// no inbox, or none whose meta file can be read.
pub fn survey(dir: &Path, marks: &[Offset]) -> Result<Option<Survey>, InboxError> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let StoredMeta::Intact(meta) = Meta::load(dir)? else { return Ok(None) };
    let mut survey = Survey {
        id: meta.id,
        lanes: meta.lanes,
        never_issued: meta.next_base,
        progress: Progress::load(dir, &meta.id)?,
        registration: meta.registration,
        newest_base: None,
        end: 0,
        records: 0,
        bytes: 0,
        damages: 0,
        damaged_below: 0,
        waiting: marks.iter().map(|mark| (*mark, 0)).collect(),
    };
    let segments = segments_of(dir, &meta.id)?;
    let mut is_moving = false;
    for (index, (base, path)) in segments.iter().enumerate() {
        let limit = segments.get(index + 1).map_or(Offset::MAX, |(next, _)| *next);
        match survey.walk(*base, path, limit) {
            Ok(()) => survey.newest_base = Some(*base),
            // Released since it was listed, and perhaps followed by one that is not on the list.
            Err(error) if error.kind() == io::ErrorKind::NotFound => is_moving = true,
            Err(error) => return Err(InboxError::io("read", path)(error)),
        }
    }
    survey.newest_base = survey.newest_base.filter(|_| !is_moving);
    Ok(Some(survey))
}

/// Segments of this inbox with an intact header, in the order of their offsets.
fn segments_of(dir: &Path, id: &InboxId) -> Result<Vec<(Offset, PathBuf)>, InboxError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(InboxError::io("list", dir))? {
        let path = entry.map_err(InboxError::io("list", dir))?.path();
        let Some(base) = segment::base_of(&path) else { continue };
        match Header::read(&path) {
            Ok(Some(header)) if header.base == base && header.id == *id => segments.push((base, path)),
            // Of another inbox, damaged, or without its header yet: for the next start to look at.
            Ok(_) => {}
            Err(InboxError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort();
    Ok(segments)
}

impl Survey {
    fn walk(&mut self, base: Offset, path: &Path, limit: Offset) -> io::Result<()> {
        let bytes = fs::metadata(path)?.len();
        let whole = Walked { start: HEADER_BYTES, len: bytes, end: limit, damage: Vec::new() };
        let segment = Arc::new(Segment::new(path.to_path_buf(), base, whole));
        let mut cursor = Cursor::open(&segment, Codec::new(&self.id))?;
        self.bytes += bytes;
        let mut behind_damage = false;
        loop {
            match cursor.step(bytes, limit)? {
                Step::Record(offset, _) => {
                    self.records += 1;
                    self.end = offset + 1;
                    if std::mem::take(&mut behind_damage) {
                        self.damaged_below = offset;
                    }
                    self.waiting.range_mut(..=offset).for_each(|(_, count)| *count += 1);
                }
                Step::Damage(range) if range.end < bytes => {
                    self.damages += 1;
                    behind_damage = true;
                }
                // At the end it is a record that is being written, or what recovery cuts off.
                Step::Damage(_) | Step::End => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::message::{DeliveryFacts, Publication};
    use crate::inbox::{FsyncPolicy, Inbox, InboxOptions, KeepPolicy};

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
    fn an_inbox_in_use_is_surveyed_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        let offsets = append(&inbox, 100);
        let before = files(dir.path());
        let found = survey(dir.path(), &[offsets[40], offsets[99] + 1]).unwrap().unwrap();
        assert_eq!((found.id, found.lanes, found.records), (*inbox.id(), 3, 100));
        assert_eq!((found.end, found.damages), (inbox.next_offset(), 0));
        assert_eq!(found.waiting, BTreeMap::from([(offsets[40], 60), (offsets[99] + 1, 0)]));
        assert!(found.newest_base.unwrap() <= offsets[99] && found.end < found.never_issued);
        assert_eq!(files(dir.path()), before);
        assert_eq!(append(&inbox, 1), [offsets[99] + 1]);
    }

    #[test]
    fn damage_is_counted_but_for_a_record_that_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        let offsets = append(&inbox, 60);
        let (path, mut bytes) = files(dir.path()).pop_first_segment();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (path, bytes) = files(dir.path()).pop_last_segment();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let found = survey(dir.path(), &[]).unwrap().unwrap();
        assert_eq!((found.damages, found.records), (1, 58));
        assert!(offsets[1..40].contains(&found.damaged_below));
    }

    #[test]
    fn where_all_segments_are_released_nothing_is_said_of_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path());
        for (path, _) in files(dir.path()) {
            if segment::base_of(&path).is_some() {
                fs::remove_file(path).unwrap();
            }
        }
        let found = survey(dir.path(), &[]).unwrap().unwrap();
        assert_eq!((found.newest_base, found.records), (None, 0));
        drop(inbox);
    }

    #[test]
    fn a_directory_that_is_no_inbox_has_nothing_to_survey() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(survey(dir.path(), &[]).unwrap(), None);
        assert_eq!(survey(&dir.path().join("none"), &[]).unwrap(), None);
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
