//! Appends to the inbox, alone and from the broker's callback, and reads.
//!
//! The inbox is in memory if possible, because the disk is not measured.

use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use mqtt_gateway::actors::{InboxSignal, Slot};
use mqtt_gateway::domain::message::{DeliveryFacts, Publication};
use mqtt_gateway::domain::redelivery::{InFlight, MIN_RISING_IDS};
use mqtt_gateway::inbox::{FsyncPolicy, Inbox, InboxOptions, Intake, KeepPolicy};
use tempfile::TempDir;

use crate::payloads::THREE_ATTRIBUTES;

const TOPIC: &str = "plant1/line2/machine3/temperature";

/// Messages between two unmeasured truncations.
const ROUND: u64 = 4_096;

/// Messages in the inbox that is read.
const BACKLOG: usize = 10_000;

/// Messages that the broker sends again after a lost connection.
const SENT_AGAIN: u16 = 20;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inbox");
    group.bench_function("append", |bencher| bencher.iter_custom(append));
    group.bench_function("callback", |bencher| bencher.iter_custom(take_in));
    group.bench_function("callback, sent again", |bencher| bencher.iter_custom(recognise));
    group.finish();

    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(BACKLOG as u64));
    let (dir, inbox) = backlog();
    for records in [16, 256] {
        group.bench_function(BenchmarkId::new("read at once", records), |bencher| {
            bencher.iter_batched(|| inbox.reader(0), |reader| read(reader, records), BatchSize::SmallInput);
        });
    }
    drop(inbox);
    group.bench_function("open", |bencher| {
        // Only one inbox may be open in a directory.
        bencher.iter_batched(|| (), |()| Inbox::open(options(&dir)).unwrap().0, BatchSize::PerIteration);
    });
    group.finish();
}

fn options(dir: &TempDir) -> InboxOptions {
    InboxOptions {
        keep: KeepPolicy::NONE,
        dir: dir.path().to_path_buf(),
        max_bytes: 256 << 20,
        segment_bytes: 16 << 20,
        fsync: FsyncPolicy::Never,
        lanes: 2,
        max_payload_bytes: 1 << 20,
    }
}

fn empty() -> (TempDir, Inbox) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (inbox, _) = Inbox::open(options(&dir)).unwrap();
    (dir, inbox)
}

/// Packet identifiers as an MQTT 5 broker assigns them.
fn delivery(number: u64, duplicate: bool) -> DeliveryFacts {
    let packet_id = u16::try_from(number % 65_535).unwrap() + 1;
    DeliveryFacts { qos: 1, packet_id, duplicate, subscription_ids: vec![7], ..DeliveryFacts::default() }
}

fn publication(delivery: &DeliveryFacts) -> Publication<'_> {
    Publication { topic: TOPIC, payload: THREE_ATTRIBUTES.as_bytes(), delivery, unfit: None }
}

/// Times `count` calls of `each` with their numbers, without the calls of `between`.
fn timed(calls: u64, mut each: impl FnMut(u64), mut between: impl FnMut()) -> Duration {
    let mut elapsed = Duration::ZERO;
    for from in (0..calls).step_by(usize::try_from(ROUND).unwrap()) {
        let begun = Instant::now();
        (from..calls.min(from + ROUND)).for_each(&mut each);
        elapsed += begun.elapsed();
        between();
    }
    elapsed
}

fn append(calls: u64) -> Duration {
    let (_dir, inbox) = empty();
    let delivery = delivery(1, false);
    timed(
        calls,
        |_| {
            inbox.append(&publication(&delivery), 1_700_000_000_000_000).unwrap();
        },
        || inbox.release(inbox.next_offset()).unwrap(),
    )
}

/// The callback, with a router that is down, so that nobody is woken: what it does for a message and nothing else.
struct Callback {
    intake: Intake,
    signal: InboxSignal,
}

impl Callback {
    fn new(inbox: &Inbox) -> Self {
        let intake = Intake::new(inbox.clone(), "gateway", None);
        let callback = Self { intake, signal: InboxSignal::new(Slot::new("router", 1)) };
        callback.connect();
        callback
    }

    fn connect(&self) {
        self.intake.begin_connection("broker", InFlight::Bounded);
    }

    fn take_in(&self, delivery: &DeliveryFacts) {
        self.intake.on_message(&publication(delivery), || self.signal.raise());
    }
}

fn take_in(calls: u64) -> Duration {
    let (_dir, inbox) = empty();
    let callback = Callback::new(&inbox);
    let mut delivery = delivery(0, false);
    timed(
        calls,
        |number| {
            delivery.packet_id = u16::try_from(number % 65_535).unwrap() + 1;
            callback.take_in(&delivery);
        },
        || inbox.release(inbox.next_offset()).unwrap(),
    )
}

/// After each lost connection the broker sends messages again that the inbox has.
fn recognise(calls: u64) -> Duration {
    let (_dir, inbox) = empty();
    let callback = Callback::new(&inbox);
    let known = u64::from(MIN_RISING_IDS) + 1;
    for number in 0..known {
        callback.take_in(&delivery(number, false));
    }
    let again: Vec<DeliveryFacts> =
        (known - u64::from(SENT_AGAIN)..known).map(|number| delivery(number, true)).collect();
    let mut next = [].iter();
    let taken = inbox.next_offset();
    let elapsed = timed(
        calls,
        |_| {
            let delivery = next.next().unwrap_or_else(|| {
                callback.connect();
                next = again.iter();
                next.next().unwrap()
            });
            callback.take_in(delivery);
        },
        || {},
    );
    assert_eq!(inbox.next_offset(), taken, "not taken in again");
    elapsed
}

fn backlog() -> (TempDir, Inbox) {
    let (dir, inbox) = empty();
    let delivery = delivery(1, false);
    for _ in 0..BACKLOG {
        inbox.append(&publication(&delivery), 1_700_000_000_000_000).unwrap();
    }
    (dir, inbox)
}

/// Reads the whole inbox in pages.
fn read(mut reader: mqtt_gateway::inbox::InboxReader, at_once: usize) -> usize {
    let mut records = Vec::new();
    let mut read = 0;
    loop {
        reader.read(at_once, 1 << 20, &mut records).unwrap();
        if records.is_empty() {
            assert_eq!(read, BACKLOG);
            return read;
        }
        read += records.len();
        records.clear();
    }
}
