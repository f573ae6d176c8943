use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::domain::message::{DeliveryFacts, Publication};
use crate::domain::redelivery::MIN_RISING_IDS;
use crate::inbox::{FsyncPolicy, Inbox, InboxOptions, KeepPolicy};

const SESSION: &str = "gateway@broker:1883";

/// Opens an inbox with small segments at the start of a connection.
fn open(dir: &TempDir) -> Inbox {
    open_for(dir, SESSION)
}

fn open_for(dir: &TempDir, session: &str) -> Inbox {
    let (inbox, _) = Inbox::open(InboxOptions {
        keep: KeepPolicy::NONE,
        dir: dir.path().to_path_buf(),
        max_bytes: 4 * 1024 * 1024,
        segment_bytes: 20_000,
        fsync: FsyncPolicy::Never,
        lanes: 1,
        max_payload_bytes: 100_000,
    })
    .unwrap();
    inbox.set_broker_session(session).unwrap();
    inbox.begin_connection(InFlight::Bounded);
    inbox
}

fn with_message<T>(packet_id: u16, duplicate: bool, take: impl FnOnce(&Publication<'_>) -> T) -> T {
    let delivery = DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() };
    let payload = format!("payload {packet_id}");
    take(&Publication { topic: "plant/1", payload: payload.as_bytes(), delivery: &delivery, unfit: None })
}

fn append(inbox: &Inbox, ids: impl IntoIterator<Item = u16>) {
    for id in ids {
        with_message(id, false, |publication| inbox.append(publication, 1)).unwrap();
    }
}

fn recognised(inbox: &Inbox, ids: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let is_redelivered = |id: &u16| with_message(*id, true, |publication| inbox.is_redelivered(publication));
    ids.into_iter().filter(is_redelivered).collect()
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join(REDELIVERY_FILE)
}

/// Imitates `kill -9`: the file stays as it was, and the log holds the newer messages.
fn kill(dir: &TempDir, inbox: Inbox) {
    let before = fs::read(file(dir)).unwrap();
    drop(inbox);
    fs::write(file(dir), before).unwrap();
}

/// Enough messages for a trusted broker and for many segments.
const MANY: u16 = 3_000;

#[test]
fn messages_are_recognised_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for is_killed in [false, true] {
        let inbox = open(&dir);
        inbox.begin_session().unwrap();
        append(&inbox, 1..=MANY);
        if is_killed {
            kill(&dir, inbox);
        } else {
            drop(inbox);
        }
        assert_eq!(recognised(&open(&dir), [2_998, 2_999, 3_000, 3_001]), [2_998, 2_999, 3_000]);
    }
}

#[test]
fn an_orderly_shutdown_stores_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let seen = || {
        let file: DuplicateFilterFile = serde_json::from_str(&text(&dir)).unwrap();
        file.seen
    };
    let inbox = open(&dir);
    append(&inbox, 1..=10);
    let end = inbox.next_offset();
    assert!(seen() < end);
    drop(inbox);
    assert_eq!(seen(), end);
}

#[test]
fn messages_of_deleted_segments_are_recognised() {
    let dir = tempfile::tempdir().unwrap();
    for watermark_from_the_end in [0, 500] {
        let inbox = open(&dir);
        inbox.begin_session().unwrap();
        append(&inbox, 1..=MANY);
        inbox.release(inbox.next_offset() - watermark_from_the_end).unwrap();
        append(&inbox, [3_001]);
        kill(&dir, inbox);
        let inbox = open(&dir);
        assert_eq!(recognised(&inbox, 2_000..=3_001).len(), 1_002);
        inbox.release(inbox.next_offset()).unwrap();
        drop(inbox);
        assert_eq!(recognised(&open(&dir), 2_500..=3_001).len(), 502, "and once more");
    }
}

#[test]
fn only_the_final_file_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let stored = || serde_json::from_str::<DuplicateFilterFile>(&text(&dir)).unwrap().tail.len();
    let inbox = open(&dir);
    append(&inbox, 1..=MANY);
    inbox.release(inbox.next_offset()).unwrap();
    assert_eq!(stored(), usize::from(RECEIVE_MAXIMUM));
    drop(inbox);
    assert_eq!(stored(), usize::from(MANY));
    assert_eq!(Extent::Bounded.max_messages(16 * 1024 * 1024), 32_768, "the usual segment");
}

#[test]
fn trust_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append(&inbox, 1..=100);
    // One step back ends all recognition until enough identifiers have risen again.
    append(&inbox, 1..=200);
    kill(&dir, inbox);
    assert!(recognised(&open(&dir), 199..=200).is_empty());
    append(&open(&dir), 201..=u16::try_from(MIN_RISING_IDS).unwrap() + 10);
    assert_eq!(recognised(&open(&dir), 2_000..=2_001), [2_000, 2_001]);
}

#[test]
fn another_session_recognises_nothing() {
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
fn a_damaged_file_costs_only_recognition() {
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

/// Messages with equal content are recognised only at a trusted broker.
fn take_equal<T>(packet_id: u16, duplicate: bool, take: impl FnOnce(&Publication<'_>) -> T) -> T {
    let delivery = DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() };
    take(&Publication { topic: "equal", payload: b"{}", delivery: &delivery, unfit: None })
}

fn append_equal(inbox: &Inbox, ids: impl IntoIterator<Item = u16>) {
    for id in ids {
        take_equal(id, false, |publication| inbox.append(publication, 1)).unwrap();
    }
}

fn is_proven_at(inbox: &Inbox, last: u16) -> bool {
    take_equal(last, true, |publication| inbox.is_redelivered(publication))
}

fn text(dir: &TempDir) -> String {
    match durable::read_small_file(dir.path(), REDELIVERY_FILE).unwrap() {
        SmallFile::Intact(text) => text,
        other => panic!("{other:?}"),
    }
}

/// Changes the file as another program or another boot would.
fn rewrite(dir: &TempDir, change: impl FnOnce(&mut serde_json::Value)) {
    let mut file = serde_json::from_str(&text(dir)).unwrap();
    change(&mut file);
    durable::replace_small_file(dir.path(), REDELIVERY_FILE, &file.to_string()).unwrap();
}

#[test]
fn an_invalidation_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append_equal(&inbox, 1..=MANY);
    inbox.invalidate_session(SESSION).unwrap();
    kill(&dir, inbox);
    let inbox = open(&dir);
    assert!(!is_proven_at(&inbox, MANY));
    append_equal(&inbox, MANY + 1..=MANY + 100);
    kill(&dir, inbox);
    assert!(!is_proven_at(&open(&dir), MANY + 100), "evidence starts after the invalidation");
}

#[test]
fn a_repeated_invalidation_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append_equal(&inbox, 1..=10);
    inbox.invalidate_session(SESSION).unwrap();
    // Replacing the file would create it again.
    fs::remove_file(file(&dir)).unwrap();
    inbox.invalidate_session(SESSION).unwrap();
    assert!(!file(&dir).exists());
    append_equal(&inbox, [11]);
    inbox.invalidate_session(SESSION).unwrap();
    assert!(file(&dir).exists());
}

#[test]
fn an_unstored_invalidation_is_stored_later() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append_equal(&inbox, 1..=10);
    // A directory can be neither replaced nor removed as a file.
    fs::remove_file(file(&dir)).unwrap();
    fs::create_dir(file(&dir)).unwrap();
    inbox.invalidate_session(SESSION).unwrap_err();
    fs::remove_dir(file(&dir)).unwrap();
    inbox.invalidate_session(SESSION).unwrap();
    assert!(file(&dir).is_file());
}

#[test]
fn trust_ends_with_the_boot() {
    let another_boot = |file: &mut serde_json::Value| file["boot"] = "another".into();
    let unknown_boot = |file: &mut serde_json::Value| file["boot"] = serde_json::Value::Null;
    let before_boots = |file: &mut serde_json::Value| {
        file["format"] = 1.into();
        file.as_object_mut().unwrap().remove("boot");
    };
    for (change, is_same) in [
        (None::<fn(&mut serde_json::Value)>, true),
        (Some(another_boot), false),
        (Some(unknown_boot), false),
        (Some(before_boots), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        append_equal(&inbox, 1..=MANY);
        kill(&dir, inbox);
        if let Some(change) = change {
            rewrite(&dir, change);
        }
        // Without a boot id every start drops the evidence.
        let is_proven = is_same && boot_id().is_some();
        assert_eq!(is_proven_at(&open(&dir), MANY), is_proven);
        let inbox = open(&dir);
        assert_eq!(is_proven_at(&inbox, MANY), is_proven, "no later start on this boot brings it back");
        append_equal(&inbox, MANY + 1..=2 * MANY);
        kill(&dir, inbox);
        assert_eq!(is_proven_at(&open(&dir), 2 * MANY), boot_id().is_some(), "evidence of this boot");
    }
}

#[test]
fn an_untrusted_file_records_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    rewrite(&dir, |file| file["boot"] = "another".into());
    let inbox = open(&dir);
    append_equal(&inbox, 1..=MANY);
    kill(&dir, inbox);
    assert_eq!(is_proven_at(&open(&dir), MANY), boot_id().is_some());
}

#[test]
fn a_damaged_log_recognises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(&dir), 1..=MANY);
    let newest = newest_segment(&dir);
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let inbox = open(&dir);
    assert!(recognised(&inbox, 1_000..=MANY).is_empty());
    append(&inbox, MANY + 1..=MANY + 20);
    inbox.begin_connection(InFlight::Bounded);
    assert_eq!(recognised(&inbox, [MANY + 20]), [MANY + 20], "a new beginning");
}

fn newest_segment(dir: &TempDir) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments.into_iter().max().unwrap()
}

#[test]
fn a_foreign_file_is_rejected() {
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
fn a_torn_record_is_not_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&dir);
    append(&inbox, 1..=MANY);
    kill(&dir, inbox);
    let newest = newest_segment(&dir);
    let length = fs::metadata(&newest).unwrap().len();
    fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(length - 1).unwrap();
    assert_eq!(recognised(&open(&dir), 2_998..=3_000), [2_998, 2_999]);
}

#[test]
fn a_large_payload_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let large = |packet_id, duplicate, first: u8, take: &dyn Fn(&Publication<'_>) -> bool| {
        let delivery = DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() };
        let mut payload = vec![7; 150_000];
        payload[149_999] = first;
        take(&Publication { topic: "large", payload: &payload, delivery: &delivery, unfit: None })
    };
    let inbox = open(&dir);
    append(&inbox, 1..=u16::try_from(MIN_RISING_IDS).unwrap());
    assert!(large(2_049, false, 1, &|publication| inbox.append(publication, 1).is_ok()));
    kill(&dir, inbox);
    assert!(!large(2_049, true, 2, &|publication| open(&dir).is_redelivered(publication)));
    assert!(large(2_049, true, 1, &|publication| open(&dir).is_redelivered(publication)));
}

#[test]
fn qos_0_messages_do_not_interfere() {
    let dir = tempfile::tempdir().unwrap();
    let fleeting = |inbox: &Inbox| {
        let publication =
            Publication { topic: "t", payload: b"x", delivery: &DeliveryFacts::default(), unfit: None };
        inbox.append(&publication, 1).unwrap();
    };
    let inbox = open(&dir);
    append(&inbox, 1..=100);
    fleeting(&inbox);
    append(&inbox, 101..=102);
    kill(&dir, inbox);
    let inbox = open(&dir);
    assert_eq!(recognised(&inbox, [100, 101]), [100, 101]);
    fleeting(&inbox);
    assert_eq!(recognised(&inbox, [102]), [102]);
}
