use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::domain::message::{DeliveryFacts, Publication};
use crate::domain::redelivery::PROOF;
use crate::inbox::{FsyncPolicy, Inbox, InboxOptions};

const SESSION: &str = "gateway@broker:1883";

/// An inbox of small segments, told of its broker, at the beginning of a connection.
fn open(dir: &TempDir) -> Inbox {
    open_for(dir, SESSION)
}

fn open_for(dir: &TempDir, session: &str) -> Inbox {
    let (inbox, _) = Inbox::open(InboxOptions {
        dir: dir.path().to_path_buf(),
        max_bytes: 4 * 1024 * 1024,
        segment_bytes: 20_000,
        fsync: FsyncPolicy::Never,
        lanes: 1,
        max_payload_bytes: 100_000,
    })
    .unwrap();
    inbox.expect_redelivery_from(session).unwrap();
    inbox.begin_connection(InFlight::Bounded);
    inbox
}

fn with_message<T>(packet_id: u16, duplicate: bool, take: impl FnOnce(&Publication<'_>) -> T) -> T {
    let delivery = DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() };
    let payload = format!("payload {packet_id}");
    take(&Publication { topic: "plant/1", payload: payload.as_bytes(), delivery: &delivery })
}

fn append(inbox: &Inbox, ids: impl IntoIterator<Item = u16>) {
    for id in ids {
        with_message(id, false, |publication| inbox.append(publication, 1)).unwrap();
    }
}

fn recognised(inbox: &Inbox, ids: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let recognises = |id: &u16| with_message(*id, true, |publication| inbox.recognises(publication));
    ids.into_iter().filter(recognises).collect()
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join(REDELIVERY_FILE)
}

/// Enough for the proof, and for many segments.
const MANY: u16 = 3_000;

#[test]
fn what_was_received_is_recognised_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(&dir), 1..=MANY);
    assert_eq!(recognised(&open(&dir), [2_998, 2_999, 3_000, 3_001]), [2_998, 2_999, 3_000]);
}

#[test]
fn what_was_received_is_recognised_when_its_segments_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    for watermark_from_the_end in [0, 500] {
        let inbox = open(&dir);
        inbox.begin_session().unwrap();
        append(&inbox, 1..=MANY);
        inbox.release(inbox.next_offset() - watermark_from_the_end).unwrap();
        append(&inbox, [3_001]);
        drop(inbox);
        let inbox = open(&dir);
        assert_eq!(recognised(&inbox, 2_000..=3_001).len(), 1_002);
        inbox.release(inbox.next_offset()).unwrap();
        drop(inbox);
        assert_eq!(recognised(&open(&dir), 2_500..=3_001).len(), 502, "and once more");
    }
}

#[test]
fn a_restart_remembers_whether_the_broker_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append(&inbox, 1..=100);
    // One step back ends all recognition; only the proof brings it again.
    append(&inbox, 1..=200);
    drop(inbox);
    assert!(recognised(&open(&dir), 199..=200).is_empty());
    append(&open(&dir), 201..=u16::try_from(PROOF).unwrap() + 10);
    assert_eq!(recognised(&open(&dir), 2_000..=2_001), [2_000, 2_001]);
}

#[test]
fn nothing_of_before_is_recognised_in_a_new_session_or_at_another_broker() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append(&inbox, 1..=MANY);
    inbox.begin_session().unwrap();
    assert!(recognised(&inbox, 2_990..=3_000).is_empty());
    drop(inbox);
    let inbox = open(&dir);
    assert!(recognised(&inbox, 2_990..=3_000).is_empty(), "the new session is on disk");
    append(&inbox, 1..=MANY);
    drop(inbox);
    assert!(recognised(&open_for(&dir, "gateway@other:1883"), 2_990..=3_000).is_empty());
    assert!(recognised(&open(&dir), 2_990..=3_000).is_empty(), "back again");
}

#[test]
fn a_lost_or_damaged_file_costs_recognition_and_nothing_else() {
    for damage in [
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| fs::write(path, "00000000\n{}").unwrap(),
        |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path: &Path| {
            durable::replace_small_file(path.parent().unwrap(), REDELIVERY_FILE, "{\"format\":9}").unwrap();
        },
    ] {
        let dir = tempfile::tempdir().unwrap();
        append(&open(&dir), 1..=MANY);
        damage(&file(&dir));
        let inbox = open(&dir);
        assert!(recognised(&inbox, 2_990..=3_000).is_empty());
        append(&inbox, 3_001..=3_100);
        inbox.begin_connection(InFlight::Bounded);
        assert_eq!(recognised(&inbox, 3_099..=3_101), [3_099, 3_100], "a new beginning");
    }
}

#[test]
fn the_file_of_another_inbox_is_not_believed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inbox = open(&dir);
    append(&inbox, 1..=MANY);
    inbox.release(inbox.next_offset()).unwrap();
    drop(inbox);
    drop(open(&other));
    fs::copy(file(&dir), file(&other)).unwrap();
    assert!(recognised(&open(&other), 2_990..=3_000).is_empty());
}

#[test]
fn a_record_that_is_torn_off_is_not_recognised_and_those_before_it_are() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(&dir), 1..=MANY);
    let mut segments: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let newest = segments.iter().max().unwrap();
    let length = fs::metadata(newest).unwrap().len();
    fs::OpenOptions::new().write(true).open(newest).unwrap().set_len(length - 1).unwrap();
    assert_eq!(recognised(&open(&dir), 2_998..=3_000), [2_998, 2_999]);
}

#[test]
fn a_payload_above_the_limit_is_recognised_from_what_is_kept_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let large = |packet_id, duplicate, first: u8, take: &dyn Fn(&Publication<'_>) -> bool| {
        let delivery = DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() };
        let mut payload = vec![7; 150_000];
        payload[149_999] = first;
        take(&Publication { topic: "large", payload: &payload, delivery: &delivery })
    };
    let inbox = open(&dir);
    append(&inbox, 1..=u16::try_from(PROOF).unwrap());
    assert!(large(2_049, false, 1, &|publication| inbox.append(publication, 1).is_ok()));
    drop(inbox);
    assert!(!large(2_049, true, 2, &|publication| open(&dir).recognises(publication)));
    assert!(large(2_049, true, 1, &|publication| open(&dir).recognises(publication)));
}

#[test]
fn messages_of_qos_0_come_in_between_without_being_missed() {
    let dir = tempfile::tempdir().unwrap();
    let fleeting = |inbox: &Inbox| {
        let publication = Publication { topic: "t", payload: b"x", delivery: &DeliveryFacts::default() };
        inbox.append(&publication, 1).unwrap();
    };
    let inbox = open(&dir);
    append(&inbox, 1..=100);
    fleeting(&inbox);
    append(&inbox, 101..=102);
    drop(inbox);
    let inbox = open(&dir);
    assert_eq!(recognised(&inbox, [100, 101]), [100, 101]);
    fleeting(&inbox);
    assert_eq!(recognised(&inbox, [102]), [102]);
}
