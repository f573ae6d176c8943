//! Fuzz tests of the inbox files: recovery never returns false records and never loses intact ones.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::cursor::{Cursor, CursorStep};
use super::meta::META_FILE;
use super::record::{self, Codec};
use super::segment::{HEADER_BYTES, Segment, SegmentHeader, Walked};
use super::{
    Damage, FsyncPolicy, Inbox, InboxId, InboxOptions, KeepPolicy, durable, recovery, segment, survey,
};
use crate::domain::message::{Body, DeliveryFacts, Offset, Publication, Record};
use crate::fuzzing::{behaviour, fuzz, fuzz_from};

const ID: &[u8; 16] = b"MARKfuzz90123456";
const BASE: Offset = 1 << 40;
const LANES: u32 = 2;

/// Printable tokens, so that a corpus can be written by hand.
const WORDS: [&str; 8] =
    ["MARK", "mqgwlog\n", "MARKfuzz90123456", "\0\0\0\0", "t/0", "{\"a\":1}", "\u{1}", "MAR"];

/// A log of several records with all kinds of bodies, and the byte range of each.
struct FuzzLog {
    bytes: Vec<u8>,
    records: Vec<(Range<usize>, Record)>,
}

impl FuzzLog {
    fn new() -> FuzzLog {
        let codec = Codec::new(&InboxId::from_bytes(*ID));
        let header = SegmentHeader { id: InboxId::from_bytes(*ID), lanes: LANES, base: BASE };
        let mut log = FuzzLog { bytes: header.encode().to_vec(), records: Vec::new() };
        for index in 0..12_u32 {
            let delivery =
                DeliveryFacts { qos: 1, subscription_ids: vec![index; 2], ..DeliveryFacts::default() };
            // The payload contains the marker of a record.
            let payload = format!("{{\"n\":{index}}}MARK{}", "x".repeat(index as usize * 7)).into_bytes();
            let limit = if index % 5 == 4 { 10 } else { 1_000 };
            let topic = format!("t/{index}");
            let publication =
                Publication { topic: &topic, payload: &payload, delivery: &delivery, unfit: None };
            let mut bytes = Vec::new();
            codec.encode(&mut bytes, BASE + u64::from(index * 3), &publication, 5, limit);
            let begins = log.bytes.len();
            log.records.push((begins..begins + bytes.len(), record::decode(&bytes).unwrap()));
            log.bytes.extend(bytes);
        }
        log
    }
}

/// Uses a memory file system if available, because all writes are synced.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Creates an inbox directory with these bytes as its only segment.
fn inbox_with(bytes: &[u8]) -> TempDir {
    let dir = directory();
    let meta = format!(
        "{{\"format\":1,\"id\":\"{}\",\"lanes\":{LANES},\"next_base\":{}}}",
        InboxId::from_bytes(*ID),
        2 * BASE
    );
    durable::replace_small_file(dir.path(), META_FILE, &meta).unwrap();
    fs::write(segment::path_of(dir.path(), BASE), bytes).unwrap();
    dir
}

fn options(dir: &Path) -> InboxOptions {
    InboxOptions {
        keep: KeepPolicy::NONE,
        dir: dir.to_path_buf(),
        max_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        fsync: FsyncPolicy::Never,
        lanes: 1,
        max_payload_bytes: 1_000,
    }
}

/// Opens the inbox, reads all records, and appends one.
fn opened(dir: &Path) -> (Vec<Record>, Vec<Damage>) {
    survey(dir, &[0, BASE]).unwrap();
    let (inbox, report) = Inbox::open(options(dir)).unwrap();
    let mut records = Vec::new();
    inbox.reader(0).read(usize::MAX, usize::MAX, &mut records).unwrap();
    assert_eq!(records.len() as u64, report.records, "readers return the records that recovery counts");
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset), "in order");
    let publication =
        Publication { topic: "t", payload: b"new", delivery: &DeliveryFacts::default(), unfit: None };
    let offset = inbox.append(&publication, 1).unwrap();
    assert!(records.iter().all(|record| record.offset < offset), "an offset is used twice");
    let mut appended = Vec::new();
    inbox.reader(offset).read(1, usize::MAX, &mut appended).unwrap();
    assert_eq!(appended.first().map(|record| record.offset), Some(offset));
    (records.iter().map(|record| Record::clone(record)).collect(), report.damages)
}

#[test]
fn recovery_returns_only_written_records() {
    let log = FuzzLog::new();
    let written: BTreeMap<Offset, &Record> =
        log.records.iter().map(|(_, record)| (record.offset, record)).collect();
    fuzz_from("inbox_segment", &[&log.bytes], &WORDS, |input| {
        let dir = inbox_with(input);
        let (records, damages) = opened(dir.path());
        for record in &records {
            assert_eq!(Some(&record), written.get(&record.offset), "a record that was never written");
        }
        behaviour((records.len(), damages.iter().map(|damage| damage.kind as u8).collect::<Vec<_>>()))
    });
}

/// The input is a list of changes: position (2 bytes), length (1 byte), and the `XOR` mask.
#[test]
fn untouched_records_are_recovered() {
    let log = FuzzLog::new();
    fuzz("inbox_changes", &[], |input| {
        let mut bytes = log.bytes.clone();
        for change in input.chunks(4).take(40) {
            let [low, high, length, mask] = [0, 1, 2, 3].map(|index| change.get(index).copied().unwrap_or(1));
            let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
            bytes.iter_mut().skip(at).take(usize::from(length) + 1).for_each(|byte| *byte ^= mask);
        }
        let untouched: Vec<&Record> = log
            .records
            .iter()
            .filter(|(range, _)| bytes[range.clone()] == log.bytes[range.clone()])
            .map(|(_, record)| record)
            .collect();
        let dir = inbox_with(&bytes);
        let (records, damages) = opened(dir.path());
        assert_eq!(records.iter().collect::<Vec<_>>(), untouched);
        behaviour((records.len(), damages.len()))
    });
}

#[test]
fn any_meta_file_is_read_or_replaced() {
    let log = FuzzLog::new();
    fuzz(
        "inbox_meta",
        &["\"format\":", "\"id\":", "\"lanes\":", "\"next_base\":", "18446744073709551615", "2", "\n"],
        |input| {
            let dir = inbox_with(&log.bytes);
            // The checksum is valid, so the content is parsed.
            match str::from_utf8(input) {
                Ok(text) => durable::replace_small_file(dir.path(), META_FILE, text).unwrap(),
                Err(_) => fs::write(dir.path().join(META_FILE), input).unwrap(),
            }
            match recovery::recover(dir.path(), 3) {
                Ok(recovered) => behaviour((recovered.report.meta as u8, recovered.report.records)),
                Err(error) => behaviour(std::mem::discriminant(&error)),
            }
        },
    );
}

#[test]
fn decoding_and_encoding_agree() {
    let codec = Codec::new(&InboxId::from_bytes(*ID));
    let log = FuzzLog::new();
    let seeds: Vec<&[u8]> = log.records.iter().map(|(range, _)| &log.bytes[range.clone()]).collect();
    fuzz_from("inbox_record", &seeds, &WORDS, |input| {
        let Some(record) = record::decode(input) else { return behaviour("none") };
        let Body::Whole(payload) = &record.body else { return behaviour("head") };
        let publication =
            Publication { topic: &record.topic, payload, delivery: &record.delivery, unfit: None };
        let mut bytes = Vec::new();
        codec.encode(&mut bytes, record.offset, &publication, record.received_at_us, usize::MAX);
        assert_eq!(record::decode(&bytes), Some(record.clone()));
        behaviour((
            record.delivery.subscription_ids.len().min(4),
            record.topic.len().min(4),
            payload.len().min(4),
        ))
    });
}

/// The walk of recovery ends even over bytes that another program is writing.
#[test]
fn a_walk_ends_over_any_bytes() {
    let log = FuzzLog::new();
    fuzz("inbox_walk", &WORDS, |input| {
        let dir = directory();
        let path = segment::path_of(dir.path(), BASE);
        fs::write(&path, [&log.bytes, input].concat()).unwrap();
        let walked = Walked { start: HEADER_BYTES, len: HEADER_BYTES, end: BASE, damage: Vec::new() };
        let segment = Arc::new(Segment::new(path, BASE, walked));
        let mut cursor = Cursor::open(&segment, Codec::new(&InboxId::from_bytes(*ID))).unwrap();
        let end = (log.bytes.len() + input.len()) as u64;
        let (mut records, mut last) = (0, HEADER_BYTES);
        while let CursorStep::Record(..) | CursorStep::Damage(_) = cursor.step(end, Offset::MAX).unwrap() {
            assert!(cursor.at() > last, "the cursor does not advance");
            (records, last) = (records + 1, cursor.at());
        }
        assert!(records >= log.records.len());
        behaviour(records)
    });
}
