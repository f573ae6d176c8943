//! The inbox on a disk that fails.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use fail::FailScenario;
use mqtt_gateway::domain::message::{Body, DeliveryFacts, Offset, Publication};
use mqtt_gateway::domain::redelivery::InFlight;
use mqtt_gateway::inbox::{AppendError, FsyncPolicy, Inbox, InboxOptions, KeepPolicy};

fn open(dir: &Path, fsync: FsyncPolicy) -> Inbox {
    let options = InboxOptions {
        keep: KeepPolicy::NONE,
        dir: dir.to_path_buf(),
        max_bytes: 1024 * 1024,
        segment_bytes: 1024 * 1024,
        fsync,
        lanes: 1,
        max_payload_bytes: 1000,
    };
    Inbox::open(options).unwrap().0
}

fn append(inbox: &Inbox, payload: &str) -> Result<Offset, AppendError> {
    let delivery = DeliveryFacts::default();
    inbox
        .append(&Publication { topic: "t", payload: payload.as_bytes(), delivery: &delivery, unfit: None }, 1)
}

fn payloads(inbox: &Inbox) -> Vec<String> {
    let mut out = Vec::new();
    inbox.reader(0).read(usize::MAX, usize::MAX, &mut out).unwrap();
    let text = |body: &Body| match body {
        Body::Whole(payload) => String::from_utf8(payload.clone()).unwrap(),
        Body::Head { .. } => panic!("only a head"),
    };
    out.iter().map(|record| text(&record.body)).collect()
}

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".segment")).count()
}

/// Appends with these fail points set, which must fail, and once more without.
fn fail_once(inbox: &Inbox, points: &[&str]) {
    for point in points {
        fail::cfg(*point, "return").unwrap();
    }
    let next = inbox.next_offset();
    assert!(matches!(append(inbox, "refused"), Err(AppendError::Io(_))));
    assert_eq!(inbox.next_offset(), next);
    for point in points {
        fail::remove(point);
    }
    assert_eq!(append(inbox, "after").unwrap(), next);
}

#[test]
fn a_failed_append_leaves_nothing_behind() {
    let scenario = FailScenario::setup();
    for (points, fsync, expected_segments) in [
        (&["inbox-append-write"][..], FsyncPolicy::Never, 1),
        // Not even cut back: the segment is sealed at its last good length.
        (&["inbox-append-write", "inbox-truncate"][..], FsyncPolicy::Never, 2),
        (&["inbox-fsync"][..], FsyncPolicy::Always, 2),
        // The whole failed record stays in the file and must never be read.
        (&["inbox-fsync", "inbox-truncate"][..], FsyncPolicy::Always, 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path(), fsync);
        append(&inbox, "before").unwrap();
        fail_once(&inbox, points);
        assert_eq!(payloads(&inbox), ["before", "after"], "{points:?}");
        assert_eq!(segments(dir.path()), expected_segments, "{points:?}");
        drop(inbox);
        assert_eq!(payloads(&open(dir.path(), fsync)), ["before", "after"], "{points:?}, reopened");
    }
    scenario.teardown();
}

#[test]
fn unrepairable_new_segment_is_replaced() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path(), FsyncPolicy::Never);
    let mut reader = inbox.reader(0);
    fail_once(&inbox, &["inbox-append-write", "inbox-truncate"]);
    assert_eq!(payloads(&inbox), ["after"]);
    reader.read(9, 9, &mut Vec::new()).unwrap();
    assert_eq!(reader.position(), inbox.next_offset());
    assert_eq!(segments(dir.path()), 1);
    scenario.teardown();
}

#[test]
fn blocked_append_resumes_with_disk() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path(), FsyncPolicy::Never);
    fail::cfg("inbox-append-write", "return").unwrap();
    let delivery = DeliveryFacts::default();
    let publication = Publication { topic: "t", payload: b"patient", delivery: &delivery, unfit: None };
    let mended = |refusal: &AppendError| {
        assert!(matches!(refusal, AppendError::Io(_)));
        fail::remove("inbox-append-write");
    };
    inbox.append_blocking(&publication, 1, &mended).unwrap();
    assert_eq!(payloads(&inbox), ["patient"]);
    scenario.teardown();
}

#[test]
fn failed_sync_opens_new_segment() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path(), FsyncPolicy::Interval(Duration::from_hours(1)));
    append(&inbox, "one").unwrap();
    fail::cfg("inbox-sync", "return").unwrap();
    assert!(inbox.sync().is_err());
    fail::remove("inbox-sync");
    append(&inbox, "two").unwrap();
    assert_eq!(segments(dir.path()), 2);
    inbox.sync().unwrap();
    assert_eq!(payloads(&inbox), ["one", "two"]);
    scenario.teardown();
}

#[test]
fn full_disk_at_start_still_drains() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path(), FsyncPolicy::Never);
    let last = append(&inbox, "waiting").unwrap();
    drop(inbox);
    fail::cfg("inbox-replace-file", "return").unwrap();
    let inbox = open(dir.path(), FsyncPolicy::Never);
    assert_eq!(payloads(&inbox), ["waiting"]);
    assert!(matches!(append(&inbox, "no room"), Err(AppendError::Io(_))));
    inbox.release(inbox.next_offset()).unwrap();
    assert_eq!(segments(dir.path()), 0);
    fail::remove("inbox-replace-file");
    assert!(append(&inbox, "room again").unwrap() > last);
    assert_eq!(payloads(&inbox), ["room again"]);
    scenario.teardown();
}

/// Whether the last of many messages is recognised after the inbox is reopened.
fn is_last_recognised(dir: &Path) -> bool {
    let inbox = open(dir, FsyncPolicy::Never);
    inbox.set_broker_session("gateway@broker:1883").unwrap();
    inbox.begin_connection(InFlight::Bounded);
    inbox.is_redelivered(&Publication {
        topic: "t",
        payload: b"100",
        delivery: &numbered(100, true),
        unfit: None,
    })
}

fn numbered(packet_id: u16, duplicate: bool) -> DeliveryFacts {
    DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() }
}

fn append_numbered(inbox: &Inbox, ids: RangeInclusive<u16>) {
    for id in ids {
        let payload = id.to_string();
        let publication = Publication {
            topic: "t",
            payload: payload.as_bytes(),
            delivery: &numbered(id, false),
            unfit: None,
        };
        inbox.append(&publication, 1).unwrap();
    }
}

#[test]
fn unwritable_disk_still_releases_segments() {
    let scenario = FailScenario::setup();
    for (fails, expected) in [(false, true), (true, false)] {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(dir.path(), FsyncPolicy::Never);
        inbox.set_broker_session("gateway@broker:1883").unwrap();
        append_numbered(&inbox, 1..=99);
        drop(inbox);
        let inbox = open(dir.path(), FsyncPolicy::Never);
        append_numbered(&inbox, 100..=100);
        if fails {
            fail::cfg("inbox-replace-file", "return").unwrap();
        }
        inbox.release(inbox.next_offset()).unwrap();
        assert_eq!(segments(dir.path()), 1, "only the one that was just begun");
        drop(inbox);
        fail::remove("inbox-replace-file");
        assert_eq!(is_last_recognised(dir.path()), expected);
    }
    scenario.teardown();
}
