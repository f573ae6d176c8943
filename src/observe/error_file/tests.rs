use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use log::Level;
use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 3600;

/// A manual clock, in seconds from noon of 2026-11-22.
fn clock() -> (Arc<AtomicI64>, LocalClock) {
    let seconds = Arc::new(AtomicI64::new(0));
    let hand = Arc::clone(&seconds);
    let noon = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
    let clock = move || noon + chrono::TimeDelta::seconds(seconds.load(Ordering::Relaxed));
    (hand, Box::new(clock))
}

fn append(file: &ErrorFile, message: &str) -> io::Result<Appended> {
    file.append(&file.line(Level::Error, message))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_file_before_the_first_error() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/b");
    ErrorFile::open(&dir, clock().1).unwrap();
    assert_eq!(names(&dir), [""; 0]);
}

#[test]
fn local_day_selects_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("2026-11-22.log"), "before\n").unwrap();
    let (hand, clock) = clock();
    let file = ErrorFile::open(dir.path(), clock).unwrap();
    append(&file, "one").unwrap();
    hand.store(11 * 3600 + 3599, Ordering::Relaxed);
    append(&file, "two").unwrap();
    hand.store(12 * 3600, Ordering::Relaxed);
    append(&file, "three").unwrap();

    assert_eq!(names(dir.path()), ["2026-11-22.log", "2026-11-23.log"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("2026-11-22.log")).unwrap(),
        "before\n2026-11-22 12:00:00 | ERROR | mqtt_gateway | one\n2026-11-22 23:59:59 | ERROR | mqtt_gateway | two\n"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("2026-11-23.log")).unwrap(),
        "2026-11-23 00:00:00 | ERROR | mqtt_gateway | three\n"
    );
}

#[test]
fn unusable_directory_fails_at_startup() {
    let root = tempfile::tempdir().unwrap();
    let in_the_way = root.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    assert!(ErrorFile::open(&in_the_way, clock().1).is_err());
    fs::create_dir(root.path().join("2026-11-22.log")).unwrap();
    assert!(ErrorFile::open(root.path(), clock().1).is_err(), "today's file is a directory");
}

#[test]
fn later_failure_is_reported_once() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let file = ErrorFile::open(&dir, clock().1).unwrap();
    fs::remove_dir(&dir).unwrap();
    fs::write(&dir, "in the way").unwrap();
    assert!(append(&file, "lost").is_err());
    assert!(append(&file, "lost too").is_ok(), "said already");
    fs::remove_file(&dir).unwrap();
    append(&file, "kept").unwrap();
    assert!(fs::read_to_string(dir.join("2026-11-22.log")).unwrap().ends_with("| kept\n"));
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

/// Total length of all files in the directory.
fn size(dir: &Path) -> usize {
    names(dir).iter().map(|name| text(dir, name).len()).sum()
}

fn bounded(dir: &Path, max_bytes: u64) -> (Arc<AtomicI64>, ErrorFile) {
    let (hand, clock) = clock();
    (hand, ErrorFile::open(dir, clock).unwrap().within(max_bytes))
}

/// Appends until the limit is reached, and returns the number of lines written.
fn fill(file: &ErrorFile) -> usize {
    (0..1_000).take_while(|_| append(file, "x").unwrap() == Appended::Written).count()
}

#[test]
fn oldest_files_are_deleted_as_needed() {
    let dir = tempfile::tempdir().unwrap();
    for day in ["2026-11-19", "2026-11-20", "2026-11-21"] {
        fs::write(dir.path().join(format!("{day}.log")), [b'.'; 400]).unwrap();
    }
    let (_, file) = bounded(dir.path(), 1_300);
    assert_eq!(names(dir.path()).len(), 3, "still within the limit");
    append(&file, "y").unwrap();
    assert_eq!(names(dir.path()), ["2026-11-20.log", "2026-11-21.log", "2026-11-22.log"]);
    while names(dir.path()).len() == 3 {
        assert_eq!(append(&file, "y").unwrap(), Appended::Written);
        assert!(size(dir.path()) <= 1_300);
    }
    assert_eq!(names(dir.path()), ["2026-11-21.log", "2026-11-22.log"]);
}

#[test]
fn startup_never_deletes_todays_file() {
    let dir = tempfile::tempdir().unwrap();
    for day in ["2026-11-20", "2026-11-21", "2026-11-22"] {
        fs::write(dir.path().join(format!("{day}.log")), [b'.'; 1_000]).unwrap();
    }
    drop(bounded(dir.path(), 2_000));
    assert_eq!(names(dir.path()), ["2026-11-21.log", "2026-11-22.log"]);
    drop(bounded(dir.path(), 999));
    assert_eq!(names(dir.path()), ["2026-11-22.log"]);
}

#[test]
fn foreign_files_are_neither_counted_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = ["2026-11-20.log.1", "2026-11-9.log", "app.log", "notes"];
    for name in theirs {
        fs::write(dir.path().join(name), [b'.'; 1_000]).unwrap();
    }
    fs::create_dir(dir.path().join("2026-11-19.log")).unwrap();
    let (_, file) = bounded(dir.path(), 1_000);
    assert!(fill(&file) > 0);
    for name in theirs.iter().chain(&["2026-11-19.log"]) {
        assert!(dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn full_day_ends_with_one_closing_line() {
    let dir = tempfile::tempdir().unwrap();
    let (hand, file) = bounded(dir.path(), 1_000);
    let written = (0..1_000).map(|_| append(&file, "x").unwrap());
    let first: Vec<_> = written.skip_while(|appended| *appended == Appended::Written).collect();
    assert_eq!(first[0], Appended::Full { max_bytes: 1_000 });
    assert!(first[1..].iter().all(|appended| *appended == Appended::Skipped));
    // A shorter line would fit, but must not follow the closing line.
    hand.store(3600, Ordering::Relaxed);
    assert_eq!(append(&file, "").unwrap(), Appended::Skipped);
    let today = text(dir.path(), "2026-11-22.log");
    assert!(today.len() <= 1_000, "{}", today.len());
    assert!(today.ends_with(&format!("2026-11-22 12:00:00 | ERROR | mqtt_gateway | {CLOSING}\n")), "{today}");
    assert_eq!(today.matches(CLOSING).count(), 1);

    hand.store(DAY, Ordering::Relaxed);
    assert_eq!(append(&file, "tomorrow").unwrap(), Appended::Written);
    assert_eq!(names(dir.path()), ["2026-11-23.log"], "yesterday's makes room");
    fill(&file);
    assert!(text(dir.path(), "2026-11-23.log").contains(CLOSING), "told again on another day");
}

#[test]
fn freed_space_is_used_within_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let today = dir.path().join("2026-11-22.log");
    let (hand, file) = bounded(dir.path(), 1_000);
    for (minute, make_room) in [(1, true), (2, false)] {
        assert!(fill(&file) > 0);
        if make_room {
            fs::remove_file(&today).unwrap();
        } else {
            File::create(&today).unwrap();
        }
        hand.store(minute * 60 - 1, Ordering::Relaxed);
        assert_eq!(append(&file, "x").unwrap(), Appended::Skipped, "not checked yet");
        hand.store(minute * 60, Ordering::Relaxed);
        assert_eq!(append(&file, "again").unwrap(), Appended::Written);
        assert!(text(dir.path(), "2026-11-22.log").ends_with("| again\n"));
    }
    while append(&file, "x").unwrap() == Appended::Written {}
    assert_eq!(append(&file, "x").unwrap(), Appended::Skipped, "reported today already");
    assert!(text(dir.path(), "2026-11-22.log").contains(CLOSING), "and is the last line once more");
}

#[test]
fn lines_of_another_gateway_count() {
    let dir = tempfile::tempdir().unwrap();
    let ((_, one), (_, other)) = (bounded(dir.path(), 1_000), bounded(dir.path(), 1_000));
    while append(&one, "x").unwrap() == Appended::Written && append(&other, "x").unwrap() == Appended::Written
    {
    }
    assert!(size(dir.path()) <= 1_000);
    assert_eq!(fill(&one) + fill(&other), 0);
}

proptest! {
    #[test]
    fn size_limit_is_never_exceeded(
        max_bytes in 300_u64..3_000,
        steps in prop::collection::vec((0_i64..40_000, 0_usize..400), 0..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (hand, file) = bounded(dir.path(), max_bytes);
        let mut now = 0;
        for (step, length) in steps {
            now += step;
            hand.store(now, Ordering::Relaxed);
            let message = "x".repeat(length);
            let written = append(&file, &message).unwrap() == Appended::Written;
            prop_assert!(size(dir.path()) as u64 <= max_bytes);
            let newest = names(dir.path()).pop().map(|name| text(dir.path(), &name)).unwrap_or_default();
            let last = format!("| {message}\n");
            prop_assert!(!written || newest.ends_with(&last));
        }
    }
}
