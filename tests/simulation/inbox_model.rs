//! The inbox against a plain model in memory: random appends, reads, releases, restarts, power cuts at
//! any byte of the newest segment, flipped bits and lost meta files.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqtt_gateway::domain::message::{Body, DeliveryFacts, Offset, Publication, Record};
use mqtt_gateway::inbox::{AppendError, FsyncPolicy, Inbox, InboxOptions, InboxReader, KeepPolicy};
use proptest::prelude::*;
use proptest::sample::Index;

const MAX_BYTES: u64 = 1024 * 1024;
const HEADER_BYTES: u64 = 44;

#[derive(Debug, Clone, Copy)]
enum Step {
    Append {
        bytes: usize,
    },
    Read {
        reader: usize,
        records: usize,
        bytes: usize,
    },
    Rewind {
        reader: usize,
        by: usize,
    },
    Release {
        reader: usize,
    },
    Restart,
    /// The newest segment is cut before this byte.
    PowerCut {
        at: Index,
    },
    /// A bit of some segment flips while the gateway is down.
    BitFlip {
        segment: usize,
        at: Index,
        bit: u8,
    },
    LoseMeta,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..2000_usize).prop_map(|bytes| Step::Append { bytes }),
        5 => (0..120_000_usize).prop_map(|bytes| Step::Append { bytes }),
        20 => (0..3_usize, 0..12_usize, 0..9000_usize)
            .prop_map(|(reader, records, bytes)| Step::Read { reader, records, bytes }),
        2 => (0..3_usize, 0..9_usize).prop_map(|(reader, by)| Step::Rewind { reader, by }),
        6 => (0..3_usize).prop_map(|reader| Step::Release { reader }),
        2 => Just(Step::Restart),
        2 => any::<Index>().prop_map(|at| Step::PowerCut { at }),
        2 => (0..9_usize, any::<Index>(), 0..8_u8).prop_map(|(segment, at, bit)| Step::BitFlip { segment, at, bit }),
        1 => Just(Step::LoseMeta),
    ]
}

/// An acknowledged message and where its bytes lie.
#[derive(Debug, Clone)]
struct Entry {
    offset: Offset,
    payload: Vec<u8>,
    segment: PathBuf,
    bytes: std::ops::Range<u64>,
}

/// The inbox and its model.
struct World {
    dir: tempfile::TempDir,
    inbox: Option<Inbox>,
    readers: Vec<InboxReader>,
    /// The records that must be there, in order, without damaged ones.
    entries: Vec<Entry>,
    /// Every entry below it may be gone.
    released: Offset,
    highest: Offset,
    appended: u16,
    /// Bytes flipped so far: flipping one twice would mend it.
    flipped: Vec<(PathBuf, u64)>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            dir: tempfile::tempdir().unwrap(),
            inbox: None,
            readers: Vec::new(),
            entries: Vec::new(),
            released: 0,
            highest: 0,
            appended: 0,
            flipped: Vec::new(),
        };
        world.start(&[0, 0, 0]);
        world
    }

    fn inbox(&self) -> &Inbox {
        self.inbox.as_ref().unwrap()
    }

    fn start(&mut self, positions: &[Offset]) {
        let (inbox, _) = Inbox::open(InboxOptions {
            keep: KeepPolicy::NONE,
            dir: self.dir.path().to_path_buf(),
            max_bytes: MAX_BYTES,
            segment_bytes: 6000,
            fsync: FsyncPolicy::Never,
            lanes: 2,
            max_payload_bytes: 100_000,
        })
        .unwrap();
        self.readers = positions.iter().map(|position| inbox.reader(*position)).collect();
        self.inbox = Some(inbox);
    }

    /// Stops the inbox, lets `damage` happen, and starts it again; readers go on where they were.
    fn restart(&mut self, damage: impl FnOnce(&mut World)) {
        let id = self.inbox().id().to_string();
        let positions: Vec<_> = self.readers.drain(..).map(|reader| reader.position()).collect();
        self.inbox = None;
        damage(self);
        self.start(&positions);
        assert_eq!(self.inbox().id().to_string(), id);
        assert!(self.inbox().next_offset() > self.highest);
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Append { bytes } => self.append(bytes),
            Step::Read { reader, records, bytes } => self.read(reader, records, bytes),
            Step::Rewind { reader, by } => self.rewind(reader, by),
            Step::Release { reader } => self.release(reader),
            Step::Restart => self.restart(|_| {}),
            Step::PowerCut { at } => self.restart(|world| world.cut(at)),
            Step::BitFlip { segment, at, bit } => self.restart(|world| world.flip(segment, at, bit)),
            Step::LoseMeta if self.a_header_is_left() => {
                self.restart(|world| fs::remove_file(world.dir.path().join("meta")).unwrap());
            }
            Step::LoseMeta => {}
        }
        // A restart finds segments that were finished before, and keeps them until the next release.
        let stored: u64 = segments(self.dir.path()).iter().map(|path| len(path)).sum();
        assert_eq!(self.inbox().bytes() + self.inbox().kept_bytes(), stored);
        assert!(self.inbox().bytes() <= MAX_BYTES);
    }

    fn append(&mut self, bytes: usize) {
        self.appended += 1;
        let payload = self.appended.to_le_bytes().repeat(bytes / 2);
        let delivery = DeliveryFacts { packet_id: self.appended, ..DeliveryFacts::default() };
        let publication =
            Publication { topic: "plant/1", payload: &payload, delivery: &delivery, unfit: None };
        let offset = match self.inbox().append(&publication, 7) {
            Ok(offset) => offset,
            Err(AppendError::Full) => {
                assert!(self.inbox().bytes() + bytes as u64 + 200 > MAX_BYTES, "full too early");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(offset > self.highest, "offset {offset} was used before");
        self.highest = offset;
        let segment = segments(self.dir.path()).pop().unwrap();
        let end = len(&segment);
        let before = self.entries.iter().rev().find(|entry| entry.segment == segment);
        let start = before.map_or(HEADER_BYTES, |entry| entry.bytes.end);
        self.entries.push(Entry { offset, payload, segment, bytes: start..end });
    }

    fn read(&mut self, reader: usize, max_records: usize, max_bytes: usize) {
        let reader = &mut self.readers[reader];
        let from = reader.position();
        let mut out = Vec::new();
        reader.read(max_records, max_bytes, &mut out).unwrap();
        let to = reader.position();
        assert!(out.len() <= max_records);
        let stored: u64 = out.iter().map(|record| self.entry(record.offset).stored()).sum();
        assert!(out.len() <= 1 || stored <= max_bytes as u64);
        if out.is_empty() && max_records > 0 {
            assert!(to >= self.inbox().next_offset(), "stopped before the end");
        }
        self.assert_complete(&out, from, to);
    }

    fn rewind(&mut self, reader: usize, by: usize) {
        let position = self.readers[reader].position();
        let before = self.entries.iter().rev().filter(|entry| entry.offset < position);
        if let Some(entry) = before.take(by).last() {
            self.readers[reader].seek(entry.offset);
        }
    }

    fn release(&mut self, reader: usize) {
        let watermark = self.readers[reader].position();
        self.released = self.released.max(watermark);
        self.inbox().release(watermark).unwrap();
    }

    fn cut(&mut self, at: Index) {
        let Some(newest) = segments(self.dir.path()).pop() else {
            return;
        };
        let length = byte_of(&newest, at);
        OpenOptions::new().write(true).open(&newest).unwrap().set_len(length).unwrap();
        self.entries.retain(|entry| entry.segment != newest || entry.bytes.end <= length);
    }

    fn flip(&mut self, segment: usize, at: Index, bit: u8) {
        let segments = segments(self.dir.path());
        let Some(path) = segments.get(segment % segments.len().max(1)) else {
            return;
        };
        let at = byte_of(path, at);
        let place = (path.clone(), at);
        if self.flipped.contains(&place) {
            return;
        }
        self.flipped.push(place);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        self.entries.retain(|entry| entry.segment != *path || !entry.bytes.contains(&at));
    }

    /// Without a header the id of the inbox would be unknown.
    fn a_header_is_left(&self) -> bool {
        let damaged =
            |path: &PathBuf| self.flipped.iter().any(|(file, at)| file == path && *at < HEADER_BYTES);
        segments(self.dir.path()).iter().any(|path| !damaged(path))
    }

    fn entry(&self, offset: Offset) -> &Entry {
        self.entries.iter().find(|entry| entry.offset == offset).expect("a record that should be gone")
    }

    /// The records equal the model between the offsets, except for released ones.
    fn assert_complete(&self, records: &[Arc<Record>], from: Offset, to: Offset) {
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset), "not in order");
        for record in records {
            let entry = self.entry(record.offset);
            assert!((from..to).contains(&record.offset));
            assert_eq!(record.received_at_us, 7);
            match &record.body {
                Body::Whole(payload) => assert!(*payload == entry.payload, "another payload"),
                Body::Head { unfit, .. } => assert_eq!(unfit.length, entry.payload.len() as u64),
            }
        }
        let due = from.max(self.released)..to;
        let read = records.iter().map(|record| record.offset).filter(|offset| due.contains(offset));
        let expected = self.entries.iter().map(|entry| entry.offset).filter(|offset| due.contains(offset));
        assert!(read.eq(expected), "a record was lost");
    }

    /// A fresh reader finds all that must be there.
    fn assert_all_there(&self) {
        let mut reader = self.inbox().reader(0);
        let mut out = Vec::new();
        reader.read(usize::MAX, usize::MAX, &mut out).unwrap();
        assert_eq!(reader.position(), self.inbox().next_offset());
        self.assert_complete(&out, 0, reader.position());
    }
}

impl Entry {
    fn stored(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    segments.sort();
    segments
}

fn byte_of(path: &Path, at: Index) -> u64 {
    let len = usize::try_from(len(path)).unwrap();
    at.index(len.max(1)) as u64
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn inbox_matches_the_model(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.perform(step);
        }
        world.assert_all_there();
        world.restart(|_| {});
        world.assert_all_there();
    }
}
