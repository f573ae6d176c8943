use std::convert::Infallible;
use std::sync::Arc;

use super::super::batch::LaggingFlow;
use super::super::flow::Flow;
use super::super::message::{Body, DeliveryFacts, Record};
use super::super::payload::PayloadLimits;
use super::super::routing::RoutingTable;
use super::super::routing_history::RoutingHistory;
use super::*;

const LANES: u32 = 2;

/// Records of one topic, with offsets from 0.
#[derive(Clone)]
struct Log {
    records: u64,
    next: Offset,
}

impl RecordSource for Log {
    type Error = Infallible;

    fn position(&self) -> Offset {
        self.next
    }

    fn seek(&mut self, offset: Offset) {
        self.next = offset;
    }

    fn read(&mut self, max_records: usize, _: usize, out: &mut Vec<Arc<Record>>) -> Result<(), Infallible> {
        let record = |offset| Record {
            offset,
            received_at_us: 0,
            topic: "t".to_owned(),
            body: Body::Whole(b"{}".to_vec()),
            delivery: DeliveryFacts::default(),
        };
        let end = self.records.min(self.next + max_records as u64);
        out.extend((self.next..end).map(record).map(Arc::new));
        self.next = end;
        Ok(())
    }

    fn reader_at(&self, next: Offset) -> Self {
        Self { next, ..*self }
    }
}

/// A router of two lanes. Flow 1 belongs to lane 0, and lane 1 has no flow.
struct Router {
    lanes: Lanes<Log, &'static str>,
    tables: RoutingHistory,
    scan_limit: usize,
    end: Offset,
}

impl Router {
    fn new(records: u64) -> Self {
        let (code, topic) = ("F".to_owned(), "t".to_owned());
        let flow = Flow { id: 1, code, topic, action: "STORE_DB".to_owned(), endpoint_url: None };
        let mut tables = RoutingHistory::default();
        tables.push(0, Arc::new(RoutingTable::new(vec![flow]).0));
        let lanes = Lanes::new(LANES, &Log { records, next: 0 }, vec![0; 2]);
        Self { lanes, tables, scan_limit: 1_000, end: records }
    }

    fn opened(records: u64) -> Self {
        let mut router = Self::new(records);
        for lane in 0..LANES {
            router.open(lane, 1, 0);
        }
        router
    }

    fn open(&mut self, lane: Lane, epoch: i64, next_offset: Offset) -> Opening {
        let position = LanePosition { epoch, next_offset };
        self.lanes.open(lane, &OpenedLane { position, lagging: Vec::new() }, 0)
    }

    fn next(&mut self, lane: Lane) -> Option<(Batch, bool)> {
        let context = BatchContext {
            tables: &self.tables,
            binding_of: &|_| None,
            lanes: LANES,
            payload: &PayloadLimits::default(),
            max_pairs: 2,
            max_bytes: usize::MAX,
            scan_limit: self.scan_limit,
            max_lagging: 1,
        };
        let Ok(next) = self.lanes.next_batch(lane, &context, IdleLane::Skip);
        next
    }

    /// The offsets of the next batch.
    fn offsets(&mut self, lane: Lane) -> Option<(Offset, Offset)> {
        self.next(lane).map(|(batch, _)| (batch.from, batch.next))
    }

    fn commit(&mut self, lane: Lane) -> Option<Replayed> {
        self.lanes.apply_outcome(lane, 1, &BatchOutcome::default())
    }
}

#[test]
fn one_scan_is_queued_at_a_time() {
    let mut router = Router::opened(10);
    router.scan_limit = 3;
    assert_eq!(router.offsets(1), None, "lane 1 has scanned three records");
    assert!(router.lanes.queue_scan());
    assert_eq!(router.offsets(1), None);
    assert!(!router.lanes.queue_scan(), "one is queued");
    router.lanes.begin_scan();
    assert!(!router.lanes.queue_scan(), "nothing was found to scan since");
    assert_eq!(router.offsets(1), None);
    assert!(router.lanes.queue_scan());
}

#[test]
fn full_lane_stops_scanning() {
    let mut router = Router::opened(10);
    assert!(router.lanes.is_any_free());
    assert!(matches!(router.next(0), Some((batch, true)) if batch.entries.len() == 2));
    assert_eq!(router.offsets(0), None, "its worker is busy");
    assert!(!router.lanes.queue_scan());
    assert_eq!(router.commit(0), None);
    assert_eq!(router.offsets(0), Some((2, 4)));
}

#[test]
fn fenced_batch_is_read_again_after_reopening() {
    let mut router = Router::opened(10);
    assert_eq!(router.offsets(0), Some((0, 2)));
    assert!(router.lanes.close(0, 1), "the caller opens the lane again");
    assert_eq!(router.offsets(0), None);
    assert_eq!(router.open(0, 2, 0), Opening::Opened);
    assert_eq!(router.offsets(0), Some((0, 2)));
    assert!(!router.lanes.close(0, 1), "a fence of the former epoch");
    assert_eq!(router.open(0, 1, 9), Opening::Outdated);
}

#[test]
fn outcome_of_an_older_epoch_is_ignored() {
    let mut router = Router::opened(10);
    assert_eq!(router.offsets(0), Some((0, 2)));
    router.open(0, 2, 0);
    assert_eq!(router.offsets(0), Some((0, 2)));
    router.commit(0);
    assert_eq!(router.offsets(0), None, "the batch of epoch 2 is in progress");
    assert_eq!(router.lanes.position(0), Some(LanePosition { epoch: 2, next_offset: 0 }));
}

#[test]
fn callers_are_answered_when_all_lanes_caught_up() {
    let mut router = Router::opened(2);
    router.lanes.drain("first");
    router.lanes.drain("second");
    assert_eq!(router.offsets(0), Some((0, 2)));
    assert_eq!(router.offsets(1), Some((0, 2)), "an idle lane stores its offset during a drain");
    router.commit(0);
    assert!(router.lanes.take_drained(router.end).is_empty());
    router.commit(1);
    assert_eq!(router.lanes.take_drained(router.end), ["first", "second"]);
    assert!(!router.lanes.is_draining());
}

#[test]
fn nothing_is_released_before_all_lanes_opened() {
    let mut router = Router::new(2);
    router.open(0, 1, 2);
    assert_eq!(router.lanes.released(), None);
    router.open(1, 1, 1);
    let released = ReleasedRecords { committed: &[2, 1], watermark: 1, rescan_offset: 1 };
    assert_eq!(router.lanes.released(), Some(released));
}

#[test]
fn lagging_flow_holds_back_the_release() {
    let mut router = Router::new(2);
    router.open(1, 1, 2);
    let lagging = vec![LaggingFlow { flow: 1, next_offset: 1 }];
    let position = LanePosition { epoch: 1, next_offset: 2 };
    router.lanes.open(0, &OpenedLane { position, lagging }, 0);
    assert_eq!(
        router.lanes.released().map(|released| (released.watermark, released.rescan_offset)),
        Some((1, 1))
    );
}

#[test]
fn idle_scan_releases_records_but_no_tables() {
    let mut router = Router::opened(2);
    assert_eq!(router.offsets(1), None, "all records belong to lane 0");
    router.next(0);
    router.commit(0);
    let released = router.lanes.released().map(|released| (released.watermark, released.rescan_offset));
    assert_eq!(released, Some((2, 0)), "a restarted lane 1 scans the records again");
}

#[test]
fn replay_ends_with_a_batch_and_is_summarised() {
    let mut router = Router::opened(10);
    for _ in 0..2 {
        router.next(0);
        router.commit(0);
    }
    router.next(0);
    assert!(matches!(router.open(0, 2, 3), Opening::SetBack(set_back) if set_back.lost == (3..4)));
    assert_eq!(router.offsets(0), Some((3, 4)), "the batch ends with the replay");
    assert!(router.lanes.is_replaying());
    let replayed = router.lanes.apply_outcome(0, 2, &BatchOutcome::default());
    assert_eq!(replayed.map(|replayed| replayed.lane), Some(0));
    assert_eq!(router.offsets(0), Some((4, 6)));
}
