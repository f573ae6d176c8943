//! Retention of finished segments, in case the database loses commits.

use super::*;
use crate::domain::message::OFFSETS_PER_START;

const PAYLOAD: [u8; 900] = [7; 900];

/// Opens an inbox with three messages per segment.
fn keeping(dir: &TempDir, keep: KeepPolicy) -> Inbox {
    Inbox::open(InboxOptions { segment_bytes: 3_000, keep, ..options(dir.path()) }).unwrap().0
}

fn for_long(max_bytes: u64) -> KeepPolicy {
    KeepPolicy { max_age: Duration::from_hours(1), max_bytes }
}

fn fill(inbox: &Inbox, messages: usize) -> Vec<Offset> {
    (0..messages).map(|_| append(inbox, &PAYLOAD).unwrap()).collect()
}

#[test]
fn finished_segments_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, for_long(MIB));
    let offsets = fill(&inbox, 9);
    let before = inbox.bytes();
    inbox.release(offsets[6]).unwrap();
    assert_eq!(inbox.bytes() + inbox.kept_bytes(), before);
    assert!(inbox.kept_bytes() > 2 * 3 * 900);
    assert_eq!(inbox.unreleased().records, 3);
    assert_eq!(payloads(&inbox).len(), 9);
}

#[test]
fn the_size_limit_deletes_oldest_segments() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, for_long(6_000));
    let offsets = fill(&inbox, 12);
    inbox.release(offsets[9]).unwrap();
    assert_eq!(segments(&dir).len(), 3, "two kept and the active one");
    assert_eq!(inbox.first_offset(), offsets[3]);
    assert_eq!(inbox.progress().deleted_below, offsets[3]);
}

#[test]
fn expired_segments_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, KeepPolicy { max_age: Duration::ZERO, max_bytes: MIB });
    let offsets = fill(&inbox, 9);
    inbox.release(offsets[6]).unwrap();
    assert_eq!((inbox.kept_bytes(), segments(&dir).len()), (0, 1));
}

#[test]
fn a_lower_watermark_restores_kept_segments() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, for_long(MIB));
    let offsets = fill(&inbox, 12);
    inbox.release(offsets[9]).unwrap();
    let all = inbox.bytes() + inbox.kept_bytes();
    inbox.release(offsets[4]).unwrap();
    assert_eq!(inbox.unreleased().records, 8);
    inbox.release(offsets[0]).unwrap();
    assert_eq!((inbox.bytes(), inbox.kept_bytes()), (all, 0));
}

/// Until the lanes report their offsets, no record is known to be done.
#[test]
fn kept_segments_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, for_long(MIB));
    let offsets = fill(&inbox, 12);
    inbox.release(offsets[9]).unwrap();
    let (live, kept) = (inbox.bytes(), inbox.kept_bytes());
    drop(inbox);
    let inbox = keeping(&dir, KeepPolicy::NONE);
    assert_eq!(inbox.kept_bytes(), kept, "they count as before");
    assert_eq!(inbox.bytes(), live + segment::HEADER_BYTES, "and a new segment");
    assert_eq!(inbox.unreleased().records, 3);
    inbox.release(offsets[9]).unwrap();
    assert_eq!(inbox.kept_bytes(), 0);
    assert_eq!(inbox.first_offset(), offsets[9]);
}

#[test]
fn kept_segments_do_not_count_as_full() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = keeping(&dir, for_long(8 * MIB));
    let mut last = 0;
    while let Ok(offset) = append(&inbox, &PAYLOAD) {
        last = offset;
    }
    inbox.release(last).unwrap();
    assert_eq!(fill(&inbox, 1_000).len(), 1_000);
}

#[test]
fn begin_above_skips_issued_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    let own = inbox.next_offset();
    inbox.begin_above(own).unwrap();
    assert_eq!(inbox.next_offset(), own, "nothing to skip");
    inbox.begin_above(own + 1).unwrap();
    let above = inbox.next_offset();
    assert!(above > own && above.is_multiple_of(OFFSETS_PER_START));
    assert_eq!(append(&inbox, b"first").unwrap(), above);
    drop(inbox);
    assert!(open(&dir).0.next_offset() > above, "the reservation is on disk");
}

#[test]
fn a_registration_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open(&dir);
    assert_eq!(inbox.registration(), None);
    let registered = Registered { database_id: "d".to_owned(), start_id: "s".to_owned() };
    inbox.register(registered.clone()).unwrap();
    drop(inbox);
    assert_eq!(open(&dir).0.registration(), Some(registered));
}
