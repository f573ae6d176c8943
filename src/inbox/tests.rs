use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::mpsc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::domain::message::{Body, DeliveryFacts, Record, Unfit};

mod kept;

const MIB: u64 = 1024 * 1024;

fn options(dir: &Path) -> InboxOptions {
    InboxOptions {
        keep: KeepPolicy::NONE,
        dir: dir.join("inbox"),
        max_bytes: MIB,
        segment_bytes: MIB,
        fsync: FsyncPolicy::Never,
        lanes: 2,
        max_payload_bytes: 100_000,
    }
}

fn open(dir: &TempDir) -> (Inbox, RecoveryReport) {
    Inbox::open(options(dir.path())).unwrap()
}

fn append(inbox: &Inbox, payload: &[u8]) -> Result<Offset, AppendError> {
    inbox.append(
        &Publication { topic: "plant/1", payload, delivery: &DeliveryFacts::default(), unfit: None },
        1,
    )
}

fn read_all(reader: &mut InboxReader) -> Vec<Arc<Record>> {
    let mut out = Vec::new();
    reader.read(usize::MAX, usize::MAX, &mut out).unwrap();
    out
}

fn payloads(inbox: &Inbox) -> Vec<Vec<u8>> {
    let payload = |record: &Arc<Record>| match &record.body {
        Body::Whole(payload) => payload.clone(),
        Body::Head { .. } => b"head".to_vec(),
    };
    read_all(&mut inbox.reader(0)).iter().map(payload).collect()
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path().join("inbox")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| segment::base_of(path).is_some());
    paths.sort();
    paths
}

fn last_segment(dir: &TempDir) -> PathBuf {
    segments(dir).pop().unwrap()
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Records without user properties have the same encoding in both formats.
#[test]
fn a_format_1_inbox_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"old").unwrap();
    drop(inbox);
    let path = last_segment(&dir);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 1;
    let checksum = crc32fast::hash(&bytes[..40]);
    bytes[40..44].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();

    let (inbox, _) = open(&dir);
    let user_properties = vec![("id".to_owned(), "7".to_owned())];
    let delivery = DeliveryFacts { user_properties, ..DeliveryFacts::default() };
    inbox
        .append(&Publication { topic: "plant/1", payload: b"new", delivery: &delivery, unfit: None }, 1)
        .unwrap();

    assert_eq!(payloads(&inbox), [b"old", b"new"]);
    let records = read_all(&mut inbox.reader(0));
    let deliveries: Vec<_> = records.iter().map(|record| record.delivery.clone()).collect();
    assert_eq!(deliveries, [DeliveryFacts::default(), delivery]);
}

#[test]
fn what_is_appended_is_read_in_order_by_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, report) = open(&dir);
    assert_eq!(report.meta, MetaOrigin::Created);
    let mut early = inbox.reader(0);
    assert!(read_all(&mut early).is_empty());
    let first = append(&inbox, b"1").unwrap();
    let second = append(&inbox, b"2").unwrap();
    assert_eq!(second, first + 1);
    let offsets = |records: Vec<Arc<Record>>| records.iter().map(|record| record.offset).collect::<Vec<_>>();
    assert_eq!(offsets(read_all(&mut early)), vec![first, second]);
    assert_eq!(offsets(read_all(&mut inbox.reader(second))), vec![second]);
    assert_eq!(early.position(), inbox.next_offset());
    early.seek(first);
    assert_eq!(offsets(read_all(&mut early)), vec![first, second]);
}

#[test]
fn a_read_is_bounded_but_hands_out_at_least_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    for _ in 0..5 {
        append(&inbox, &[1; 1000]).unwrap();
    }
    let mut reader = inbox.reader(0);
    let mut out = Vec::new();
    for (max_records, max_bytes, expected) in [(9, 0, 1), (1, 9000, 2), (9, 2100, 4), (9, 9000, 5)] {
        reader.read(max_records, max_bytes, &mut out).unwrap();
        assert_eq!(out.len(), expected);
    }
    assert!(out.is_sorted_by_key(|record| record.offset));
}

#[test]
fn a_second_process_learns_the_lock_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let error = Inbox::open(options(dir.path())).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.contains("INBOX_DIR"), "{error}");
    drop(inbox);
    open(&dir);
}

#[test]
fn directory_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"private").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("inbox")), 0o700);
    for entry in fs::read_dir(dir.path().join("inbox")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn an_existing_inbox_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let id = *inbox.id();
    assert_eq!(id.to_string().len(), 32);
    drop(inbox);
    let (inbox, report) = Inbox::open(InboxOptions { lanes: 7, ..options(dir.path()) }).unwrap();
    assert_eq!((*inbox.id(), inbox.lanes()), (id, 2));
    assert!(report.is_clean());
}

#[test]
fn empty_runs_leave_no_segments() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        open(&dir);
    }
    assert_eq!(segments(&dir).len(), 1);
}

#[test]
fn offsets_are_never_reused() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let last = (0..10).map(|_| append(&inbox, b"x").unwrap()).max().unwrap();
    drop(inbox);
    for path in segments(&dir) {
        fs::remove_file(path).unwrap();
    }
    let (inbox, _) = open(&dir);
    assert!(append(&inbox, b"y").unwrap() > last);
}

#[test]
fn a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"whole").unwrap();
    append(&inbox, b"torn").unwrap();
    drop(inbox);
    let path = last_segment(&dir);
    let len = fs::metadata(&path).unwrap().len();
    cut(&path, len - 1);
    let (inbox, report) = open(&dir);
    assert_eq!(payloads(&inbox), [b"whole"]);
    assert_eq!(report.damages[0].kind, DamageKind::Tail);
    let kept = fs::metadata(report.damages[0].quarantined.as_ref().unwrap()).unwrap().len();
    assert_eq!(fs::metadata(&path).unwrap().len() + kept, len - 1);
    drop(inbox);
    assert!(open(&dir).1.is_clean());
}

#[test]
fn damage_in_the_middle_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"first").unwrap();
    let at = fs::metadata(last_segment(&dir)).unwrap().len();
    append(&inbox, b"second").unwrap();
    append(&inbox, b"third").unwrap();
    drop(inbox);
    flip(&last_segment(&dir), at + 30);
    for expected_new in [true, false] {
        let (inbox, report) = open(&dir);
        assert_eq!(payloads(&inbox), [b"first", b"third"]);
        assert_eq!((report.damages.len(), report.damages[0].is_new), (1, expected_new));
        assert_eq!(report.damages[0].kind, DamageKind::Middle);
        assert_eq!(report.damages[0].range.start, at);
    }
    assert_eq!(fs::read_dir(dir.path().join("inbox/quarantine")).unwrap().count(), 1);
}

#[test]
fn a_reader_skips_new_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"first").unwrap();
    let at = fs::metadata(last_segment(&dir)).unwrap().len();
    append(&inbox, b"second").unwrap();
    flip(&last_segment(&dir), at);
    let mut reader = inbox.reader(0);
    assert_eq!(read_all(&mut reader).len(), 1);
    assert_eq!(reader.position(), inbox.next_offset());
    append(&inbox, b"third").unwrap();
    assert_eq!(read_all(&mut reader).len(), 1);
}

#[test]
fn a_reader_skips_a_damaged_segment_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { segment_bytes: 3000, ..options(dir.path()) };
    let (inbox, _) = Inbox::open(options).unwrap();
    for _ in 0..5 {
        append(&inbox, &[1; 900]).unwrap();
    }
    let sealed = segments(&dir).remove(0);
    flip(&sealed, fs::metadata(&sealed).unwrap().len() - 1);
    assert_eq!(read_all(&mut inbox.reader(0)).len(), 4);
}

#[test]
fn a_record_inside_a_payload_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"inner").unwrap();
    let at = fs::metadata(last_segment(&dir)).unwrap().len();
    let inner =
        fs::read(last_segment(&dir)).unwrap().split_off(usize::try_from(segment::HEADER_BYTES).unwrap());
    append(&inbox, &inner).unwrap();
    append(&inbox, b"last").unwrap();
    drop(inbox);
    flip(&last_segment(&dir), at + 5);
    assert_eq!(payloads(&open(&dir).0), [b"inner".to_vec(), b"last".to_vec()]);
}

#[test]
fn records_behind_damaged_headers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, b"kept").unwrap();
    drop(inbox);
    flip(&last_segment(&dir), 20);
    let (inbox, report) = open(&dir);
    assert_eq!(payloads(&inbox), [b"kept"]);
    assert_eq!(report.damages[0].range, 0..segment::HEADER_BYTES);
}

#[test]
fn a_foreign_file_is_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let foreign = segment::path_of(&dir.path().join("inbox"), 5);
    fs::write(&foreign, [9; 5000]).unwrap();
    let (_inbox, report) = open(&dir);
    assert_eq!(report.damages[0].kind, DamageKind::WholeFile);
    assert!(!foreign.exists());
    assert_eq!(fs::read(report.damages[0].quarantined.as_ref().unwrap()).unwrap(), [9; 5000]);
}

#[test]
fn a_lost_meta_file_is_rebuilt() {
    for lose in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| flip(path, 12)] {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, _) = open(&dir);
        let (id, offset) = (*inbox.id(), append(&inbox, b"kept").unwrap());
        drop(inbox);
        lose(&dir.path().join("inbox/meta"));
        let (inbox, report) = Inbox::open(InboxOptions { lanes: 7, ..options(dir.path()) }).unwrap();
        assert_eq!(report.meta, MetaOrigin::Rebuilt);
        assert_eq!((*inbox.id(), inbox.lanes()), (id, 2));
        assert_eq!(payloads(&inbox), [b"kept"]);
        assert!(append(&inbox, b"new").unwrap() > offset);
    }
}

#[test]
fn an_old_meta_file_reuses_no_offset() {
    let dir = tempfile::tempdir().unwrap();
    let meta = dir.path().join("inbox/meta");
    drop(open(&dir));
    let old = fs::read(&meta).unwrap();
    let (inbox, _) = open(&dir);
    let last = append(&inbox, b"x").unwrap();
    drop(inbox);
    fs::write(&meta, old).unwrap();
    let (inbox, report) = open(&dir);
    assert_eq!(report.meta, MetaOrigin::Rebuilt);
    assert!(append(&inbox, b"y").unwrap() > last);
    assert_eq!(payloads(&inbox).len(), 2);
}

#[test]
fn without_meta_and_headers_all_is_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let id = *inbox.id();
    append(&inbox, b"x").unwrap();
    drop(inbox);
    fs::remove_file(dir.path().join("inbox/meta")).unwrap();
    flip(&last_segment(&dir), 20);
    let (inbox, report) = open(&dir);
    assert_eq!(report.meta, MetaOrigin::Replaced);
    assert_ne!(*inbox.id(), id);
    assert_eq!(report.damages[0].kind, DamageKind::WholeFile);
}

#[test]
fn a_payload_above_the_limit_becomes_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    append(&inbox, &vec![1; 100_000]).unwrap();
    append(&inbox, &vec![2; 100_001]).unwrap();
    let records = read_all(&mut inbox.reader(0));
    assert!(matches!(&records[0].body, Body::Whole(payload) if payload.len() == 100_000));
    assert!(
        matches!(&records[1].body, Body::Head { unfit: Unfit { length: 100_001, .. }, head } if head.len() == 65_536)
    );
}

#[test]
fn a_quarter_of_the_inbox_limits_payloads() {
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { max_payload_bytes: usize::MAX, ..options(dir.path()) };
    let (inbox, _) = Inbox::open(options).unwrap();
    append(&inbox, &vec![1; 2_000_000]).unwrap();
    let records = read_all(&mut inbox.reader(0));
    assert!(matches!(records[0].body, Body::Head { unfit: Unfit { length: 2_000_000, .. }, .. }));
}

#[test]
fn release_frees_a_full_inbox() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    while append(&inbox, &[1; 10_000]).is_ok() {}
    assert!(matches!(append(&inbox, &[1; 10_000]), Err(AppendError::Full)));
    assert!(inbox.bytes() <= inbox.max_bytes());
    let before = inbox.bytes();
    inbox.release(inbox.next_offset()).unwrap();
    assert!(inbox.bytes() < before / 2);
    append(&inbox, &[1; 10_000]).unwrap();
    assert_eq!(payloads(&inbox).len(), 1);
}

#[test]
fn a_single_full_segment_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    while append(&inbox, &vec![1; 90_000]).is_ok() {}
    inbox.release(inbox.next_offset()).unwrap();
    assert_eq!((inbox.bytes(), segments(&dir).len()), (0, 0));
    assert_eq!(inbox.first_offset(), inbox.next_offset());
}

#[test]
fn release_keeps_unfinished_segments() {
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { segment_bytes: 3000, ..options(dir.path()) };
    let (inbox, _) = Inbox::open(options).unwrap();
    let offsets: Vec<_> = (0..30).map(|_| append(&inbox, &[1; 900]).unwrap()).collect();
    for offset in &offsets {
        inbox.release(*offset).unwrap();
        let left = read_all(&mut inbox.reader(0));
        assert!(left[0].offset <= *offset && left[0].offset + 5 > *offset, "a segment holds less than five");
        assert_eq!(left.last().unwrap().offset, offsets[29]);
        assert_eq!(inbox.first_offset(), left[0].offset);
    }
}

#[test]
fn a_reader_continues_after_a_deleted_segment() {
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { segment_bytes: 3000, ..options(dir.path()) };
    let (inbox, _) = Inbox::open(options).unwrap();
    let offsets: Vec<_> = (0..30).map(|_| append(&inbox, &[1; 900]).unwrap()).collect();
    let mut reader = inbox.reader(0);
    reader.read(1, 1, &mut Vec::new()).unwrap();
    inbox.release(offsets[20]).unwrap();
    let rest = read_all(&mut reader);
    assert_eq!(rest[0].offset, inbox.first_offset());
    assert_eq!(rest.last().unwrap().offset, offsets[29]);
}

/// Fills the inbox, then appends one more message on a thread that reports each wait.
fn blocked_appender(inbox: &Inbox) -> (JoinHandle<Result<Offset, Closed>>, mpsc::Receiver<String>) {
    while append(inbox, &[1; 10_000]).is_ok() {}
    let (waits, waiting) = mpsc::channel();
    let appender = inbox.clone();
    let thread = std::thread::spawn(move || {
        let publication = Publication {
            topic: "t",
            payload: &[2; 10_000],
            delivery: &DeliveryFacts::default(),
            unfit: None,
        };
        appender.append_blocking(&publication, 2, &|refusal| {
            waits.send(refusal.to_string()).unwrap();
        })
    });
    (thread, waiting)
}

#[test]
fn a_release_unblocks_appenders() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let (thread, waiting) = blocked_appender(&inbox);
    assert_eq!(waiting.recv().unwrap(), "the inbox is full");
    let before = inbox.next_offset();
    inbox.release(before).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(before));
}

#[test]
fn closing_fails_a_blocked_append() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let (thread, waiting) = blocked_appender(&inbox);
    waiting.recv().unwrap();
    inbox.close();
    assert_eq!(thread.join().unwrap(), Err(Closed));
    assert!(matches!(append(&inbox, b"late"), Err(AppendError::Closed)));
    assert!(!payloads(&inbox).is_empty());
}

#[test]
fn every_fsync_policy_keeps_appended_records() {
    for fsync in [FsyncPolicy::Always, FsyncPolicy::Interval(Duration::from_millis(1)), FsyncPolicy::Never] {
        let dir = tempfile::tempdir().unwrap();
        let options = || InboxOptions { fsync, segment_bytes: 2000, ..options(dir.path()) };
        let (inbox, _) = Inbox::open(options()).unwrap();
        for number in 0..20_u8 {
            append(&inbox, &[number; 500]).unwrap();
        }
        inbox.sync().unwrap();
        drop(inbox);
        let (inbox, report) = Inbox::open(options()).unwrap();
        assert!(report.is_clean());
        assert_eq!((report.records, payloads(&inbox).len()), (20, 20));
    }
}

#[test]
fn too_small_an_inbox_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { max_bytes: MIB - 1, ..options(dir.path()) };
    assert!(matches!(Inbox::open(options), Err(InboxError::TooSmall { .. })));
}

#[test]
fn concurrent_readers_see_every_record_once() {
    const RECORDS: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let options = InboxOptions { segment_bytes: 20_000, ..options(dir.path()) };
    let (inbox, _) = Inbox::open(options).unwrap();
    let readers: Vec<_> = (0..3).map(|_| inbox.reader(0)).collect();
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                let mut seen = Vec::new();
                while seen.len() < RECORDS {
                    reader.read(50, 100_000, &mut seen).unwrap();
                    std::thread::yield_now();
                }
                assert_eq!(seen.len(), RECORDS);
                assert!(seen.windows(2).all(|pair| pair[0].offset < pair[1].offset));
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..RECORDS / 2 {
                    append(&inbox, &vec![1; number % 300]).unwrap();
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_segment_content_prevents_opening(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir));
        fs::write(segment::path_of(&dir.path().join("inbox"), 5), bytes).unwrap();
        let (inbox, _) = open(&dir);
        append(&inbox, b"goes on").unwrap();
        prop_assert_eq!(payloads(&inbox), [b"goes on"]);
    }
}
