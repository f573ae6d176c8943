//! The contract of a lane's cursor, one claim at a time.

use std::fs;
use std::path::Path;

use mqtt_gateway::domain::batch::{
    Batch, BatchOutcome, CatchUp, LaggingFlow, Lane, LanePosition, OpenedLane, Scope, lane_of,
};
use mqtt_gateway::domain::flow::Flow;
use mqtt_gateway::domain::lanes::IdleLane::{Skip, StoreOffset};
use mqtt_gateway::domain::lanes::{BatchContext, IdleLane, LaneCursor, RecordSource, max_lagging};
use mqtt_gateway::domain::message::{DeliveryFacts, FlowId, Offset, Publication};
use mqtt_gateway::domain::payload::PayloadLimits;
use mqtt_gateway::domain::routing::RoutingTable;
use mqtt_gateway::domain::routing_history::RoutingHistory;
use mqtt_gateway::inbox::{FsyncPolicy, Inbox, InboxOptions, KeepPolicy};

use crate::log::{ModelLog, ModelReader};
use crate::oracle::LANES;

/// Flows from 1 on, each with a topic. Of the first four 1 and 3 are in lane 0, the others in lane 1.
struct Setup {
    log: ModelLog,
    tables: RoutingHistory,
    payload: PayloadLimits,
    max_pairs: usize,
    max_lagging: usize,
}

impl Setup {
    fn new(topics: &[&str], max_pairs: usize) -> Self {
        let mut tables = RoutingHistory::default();
        let flow = |(id, topic): (FlowId, &&str)| Flow {
            id,
            code: format!("F{id}"),
            topic: (*topic).to_owned(),
            action: "STORE_DB".to_owned(),
            endpoint_url: None,
        };
        tables.push(0, RoutingTable::new((1..).zip(topics).map(flow).collect()).0.into());
        Self { log: ModelLog::new(), tables, payload: PayloadLimits::default(), max_pairs, max_lagging: 3 }
    }

    fn publish(&self, topic: &str, count: usize) {
        for _ in 0..count {
            self.log.append(topic, "{}", &[], 0);
        }
    }

    fn cursor(&self, lane: Lane) -> LaneCursor<ModelReader> {
        let mut cursor = LaneCursor::new(lane, self.log.reader());
        cursor.open(&at(1, 0, &[]));
        cursor
    }

    fn next<R: RecordSource>(&self, cursor: &mut LaneCursor<R>, idle: IdleLane) -> Option<Batch> {
        self.try_next(cursor, idle).ok().expect("the log can be read")
    }

    fn try_next<R: RecordSource>(
        &self,
        cursor: &mut LaneCursor<R>,
        idle: IdleLane,
    ) -> Result<Option<Batch>, R::Error> {
        cursor.next_batch(&self.batch_context(), idle).map(|(batch, _)| batch)
    }

    fn batch_context(&self) -> BatchContext<'_> {
        BatchContext {
            tables: &self.tables,
            binding_of: &|_| None,
            lanes: LANES,
            payload: &self.payload,
            max_pairs: self.max_pairs,
            max_bytes: usize::MAX,
            scan_limit: 1_000,
            max_lagging: self.max_lagging,
        }
    }

    /// Everything the lane is given, batch by batch, each committed at once.
    fn all<R: RecordSource>(&self, cursor: &mut LaneCursor<R>) -> Vec<Batch> {
        std::iter::from_fn(|| {
            let batch = self.next(cursor, Skip)?;
            cursor.apply_outcome(batch.epoch, &BatchOutcome::default());
            Some(batch)
        })
        .collect()
    }
}

fn at(epoch: i64, next_offset: Offset, lagging: &[(FlowId, Offset)]) -> OpenedLane {
    let lagging = lagging.iter().map(|&(flow, next_offset)| LaggingFlow { flow, next_offset }).collect();
    OpenedLane { position: LanePosition { epoch, next_offset }, lagging }
}

fn deferred(flow: FlowId, next_offset: Offset) -> BatchOutcome {
    BatchOutcome { deferred: vec![LaggingFlow { flow, next_offset }], ..BatchOutcome::default() }
}

fn caught_up(catch_up: CatchUp) -> BatchOutcome {
    BatchOutcome { catch_up: Some(catch_up), ..BatchOutcome::default() }
}

/// The flows of a batch, message by message.
fn flows(batch: &Batch) -> Vec<FlowId> {
    batch.entries.iter().flat_map(|entry| entry.flows.clone()).collect()
}

#[test]
fn messages_reach_each_lane_once() {
    let setup = Setup::new(&["a/#", "a/+", "b"], 5);
    for n in 0..20 {
        setup.publish(if n % 3 == 0 { "b" } else { "a/x" }, 1);
    }
    let mut pairs = Vec::new();
    for lane in 0..LANES {
        let batches = setup.all(&mut setup.cursor(lane));
        assert!(batches.windows(2).all(|two| two[0].next == two[1].from));
        assert!(batches.iter().all(|batch| batch.pairs() <= 5));
        for entry in batches.iter().flat_map(|batch| &batch.entries) {
            assert!(
                entry.flows.iter().all(|flow| lane_of(*flow, LANES) == lane)
                    && !entry.reports_invalid_payload
            );
            pairs.extend(entry.flows.iter().map(|flow| (*flow, entry.record.offset)));
        }
    }
    assert!(pairs.iter().filter(|(flow, _)| *flow == 1).is_sorted());
    let count = pairs.len();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!((count, pairs.len()), (13 * 2 + 7, 13 * 2 + 7));
}

#[test]
fn held_back_copy_is_rejected_once() {
    let setup = Setup::new(&["t"], 1);
    for _ in 0..3 {
        setup.log.append("t", "garbage", &[7], 0);
        setup.log.append("t", "garbage", &[8], 0);
    }
    for (lane, answers) in [(0, 3), (1, 0)] {
        let batches = setup.all(&mut setup.cursor(lane));
        let judged = batches
            .iter()
            .flat_map(|batch| &batch.entries)
            .filter(|entry| entry.reports_invalid_payload)
            .count();
        assert_eq!(judged, answers, "lane {lane}");
    }
}

#[test]
fn rejoined_flow_rejects_copy_once() {
    let setup = Setup::new(&["t"], 9);
    let mut cursor = setup.cursor(0);
    let first = setup.log.append("t", "garbage", &[7], 0);
    let batch = setup.next(&mut cursor, Skip).unwrap();
    assert!(batch.entries[0].reports_invalid_payload);
    cursor.apply_outcome(1, &deferred(1, first));
    // The copy is skipped, and read again with the flow.
    setup.log.append("t", "garbage", &[8], 0);
    assert!(setup.next(&mut cursor, Skip).is_none());
    cursor.tick();
    assert_eq!(flows(&setup.next(&mut cursor, Skip).unwrap()), [1]);
    cursor.apply_outcome(1, &caught_up(CatchUp::Rejoined));

    let batch = setup.next(&mut cursor, Skip).unwrap();

    assert_eq!(flows(&batch), [1]);
    assert!(batch.entries.iter().all(|entry| !entry.reports_invalid_payload));
}

#[test]
fn idle_lane_reports_offset_on_request() {
    let setup = Setup::new(&["t"], 5);
    let mut cursor = setup.cursor(1);
    setup.publish("t", 1);
    let end = setup.log.next_offset();

    assert!(setup.next(&mut cursor, Skip).is_none());
    assert_eq!(cursor.watermark(), end);
    assert!(!cursor.is_drained(end), "SQL does not know yet");
    let batch = setup.next(&mut cursor, StoreOffset).unwrap();
    assert_eq!((batch.entries.len(), batch.from, batch.next), (0, 0, end));
    cursor.apply_outcome(batch.epoch, &BatchOutcome::default());
    assert!(cursor.is_drained(end));
    assert!(setup.next(&mut cursor, StoreOffset).is_none(), "nothing new to say");
}

#[test]
fn batch_says_if_lane_is_done() {
    let setup = Setup::new(&["t", "-", "t"], 4);
    setup.publish("t", 3);
    let mut cursor = setup.cursor(0);
    let next = |cursor: &mut LaneCursor<ModelReader>| {
        let (batch, more) = cursor.next_batch(&setup.batch_context(), Skip).ok().unwrap();
        let batch = batch.unwrap();
        cursor.apply_outcome(batch.epoch, &BatchOutcome::default());
        (flows(&batch).len(), more)
    };
    assert_eq!([next(&mut cursor), next(&mut cursor)], [(4, true), (2, false)]);

    let mut cursor = setup.cursor(0);
    cursor.open(&at(2, 0, &[(3, 0)]));
    assert_eq!(next(&mut cursor), (3, true), "the flow that lags has something, too");
}

#[test]
fn takeover_starts_at_sql_position() {
    let setup = Setup::new(&["t"], 5);
    setup.publish("t", 3);
    let mut cursor = setup.cursor(0);
    let lost = setup.next(&mut cursor, Skip).unwrap();
    assert!(setup.next(&mut cursor, StoreOffset).is_none(), "one batch at a time");

    let second = lost.entries[1].record.offset;
    cursor.open(&at(2, second, &[]));
    cursor.apply_outcome(lost.epoch, &BatchOutcome::default());
    assert!(!cursor.close(lost.epoch));
    let again = setup.next(&mut cursor, Skip).unwrap();
    cursor.apply_outcome(lost.epoch, &BatchOutcome::default());

    assert_eq!((again.epoch, again.from, again.entries.len()), (2, second, 2));
    assert!(setup.next(&mut cursor, StoreOffset).is_none(), "the batch under way is another");
}

#[test]
fn deleted_lane_row_restarts_epochs() {
    let setup = Setup::new(&["t"], 5);
    setup.publish("t", 1);
    let mut cursor = setup.cursor(0);
    cursor.open(&at(9, 0, &[]));
    let fenced = setup.next(&mut cursor, Skip).unwrap();
    cursor.open(&at(8, 0, &[]));
    assert!(setup.next(&mut cursor, StoreOffset).is_none(), "a lane at work takes no older news");

    assert!(cursor.close(fenced.epoch));
    cursor.open(&at(1, 0, &[]));

    let batch = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((batch.epoch, batch.entries.len()), (1, 1));
}

#[test]
fn deferred_flow_catches_up_beside_lane() {
    let setup = Setup::new(&["t", "-", "t"], 4);
    setup.publish("t", 2);
    let mut cursor = setup.cursor(0);
    let first = setup.next(&mut cursor, Skip).unwrap();
    let locked_since = first.from;
    assert_eq!(first.scope, Scope::Lane { max_deferred: 3 });
    assert_eq!(flows(&first), [1, 3, 1, 3]);
    cursor.apply_outcome(1, &deferred(1, locked_since));
    setup.publish("t", 3);

    let second = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((second.scope, flows(&second)), (Scope::Lane { max_deferred: 2 }, vec![3, 3, 3]));
    cursor.apply_outcome(1, &BatchOutcome::default());
    assert_eq!(cursor.watermark(), locked_since);
    assert!(setup.next(&mut cursor, Skip).is_none(), "it was locked a moment ago");

    // One message asks whether it still is.
    cursor.tick();
    let probe = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!(probe.scope, Scope::Lagging { flow: 1, lane_at: second.next });
    assert_eq!((probe.from, flows(&probe)), (locked_since, vec![1]));
    cursor.apply_outcome(1, &caught_up(CatchUp::StillLocked));
    assert!(setup.next(&mut cursor, Skip).is_none());
    cursor.tick();
    let probe_again = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((probe_again.from, probe_again.next), (probe.from, probe.next));
    cursor.apply_outcome(1, &caught_up(CatchUp::Advanced));
    assert_eq!(cursor.watermark(), probe.next);

    let rest = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((rest.from, rest.next, flows(&rest)), (probe.next, second.next, vec![1; 4]));
    cursor.apply_outcome(1, &caught_up(CatchUp::Rejoined));
    assert_eq!(cursor.watermark(), second.next);
    setup.publish("t", 1);
    assert_eq!(flows(&setup.next(&mut cursor, Skip).unwrap()), [1, 3]);
}

#[test]
fn rejoined_flow_rescans_its_records() {
    let setup = Setup::new(&["t"], 9);
    setup.publish("t", 1);
    let mut cursor = setup.cursor(0);
    let first = setup.next(&mut cursor, Skip).unwrap();
    cursor.apply_outcome(1, &deferred(1, first.from));
    setup.publish("t", 2);
    assert!(setup.next(&mut cursor, Skip).is_none(), "the lane has looked at them without the flow");
    cursor.tick();
    let batch = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((batch.next, flows(&batch)), (first.next, vec![1]), "no further than the lane is in SQL");

    cursor.apply_outcome(1, &caught_up(CatchUp::Rejoined));

    assert_eq!(cursor.watermark(), first.next);
    let batch = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((batch.from, flows(&batch)), (first.next, vec![1, 1]));
}

#[test]
fn lane_and_lagging_flows_take_turns() {
    let setup = Setup::new(&["t", "-", "t", "-", "-", "-", "-", "-", "-", "-", "t"], 1);
    assert_eq!([1, 3, 11].map(|flow| lane_of(flow, LANES)), [0; 3]);
    setup.publish("t", 4);
    let end = setup.log.next_offset();
    let mut cursor = setup.cursor(0);
    cursor.open(&at(2, end - 2, &[(1, end - 3), (3, end - 4)]));

    let turns = std::iter::from_fn(|| {
        let batch = setup.next(&mut cursor, Skip)?;
        let (flow, catch_up) = match batch.scope {
            Scope::Lane { .. } => (None, None),
            Scope::Lagging { flow, lane_at } if batch.next == lane_at => {
                (Some(flow), Some(CatchUp::Rejoined))
            }
            Scope::Lagging { flow, .. } => (Some(flow), Some(CatchUp::Advanced)),
        };
        cursor.apply_outcome(2, &BatchOutcome { catch_up, ..BatchOutcome::default() });
        Some(flow)
    });

    let turns: Vec<Option<FlowId>> = turns.take(4).collect();
    assert_eq!(turns, [None, Some(1), None, Some(3)]);
}

#[test]
fn half_full_inbox_defers_no_more_flows() {
    assert!(max_lagging(50, 100) > 0);
    let mut setup = Setup::new(&["t", "-", "t"], 9);
    setup.max_lagging = max_lagging(51, 100);
    setup.publish("t", 2);
    let end = setup.log.next_offset();
    let mut cursor = setup.cursor(0);
    cursor.open(&at(2, end - 1, &[(1, end - 2)]));
    let batch = setup.next(&mut cursor, Skip).unwrap();
    assert_eq!((batch.scope, flows(&batch)), (Scope::Lane { max_deferred: 0 }, vec![3]));
    cursor.apply_outcome(2, &BatchOutcome::default());
    assert_eq!(flows(&setup.next(&mut cursor, Skip).unwrap()), [1]);
}

#[test]
fn lane_drains_despite_lagging_flow() {
    let setup = Setup::new(&["t"], 9);
    setup.publish("t", 1);
    let mut cursor = setup.cursor(0);
    let batch = setup.next(&mut cursor, Skip).unwrap();
    cursor.apply_outcome(1, &deferred(1, batch.from));
    let end = setup.log.next_offset();
    assert!(cursor.is_drained(end));
    assert_eq!(cursor.watermark(), batch.from);
}

#[test]
fn a_lane_taken_over_knows_which_flows_lag() {
    let setup = Setup::new(&["t", "-", "t"], 9);
    setup.publish("t", 2);
    let end = setup.log.next_offset();
    let mut cursor = setup.cursor(0);
    let lost = setup.next(&mut cursor, Skip).unwrap();

    cursor.open(&at(2, end - 1, &[(3, end - 2)]));
    cursor.apply_outcome(lost.epoch, &deferred(1, lost.from));

    assert_eq!(cursor.watermark(), end - 2);
    assert_eq!(flows(&setup.next(&mut cursor, Skip).unwrap()), [3]);
    cursor.apply_outcome(2, &caught_up(CatchUp::StillLocked));
    assert_eq!(flows(&setup.next(&mut cursor, Skip).unwrap()), [1]);
}

#[test]
fn gathered_records_survive_disk_failure() {
    const MESSAGES: usize = 100;
    let setup = Setup::new(&["t"], 1_000);
    let directory = tempfile::tempdir().unwrap();
    let inbox = inbox(directory.path());
    let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000));
    for _ in 0..MESSAGES {
        let delivery = DeliveryFacts::default();
        let publication =
            Publication { topic: "t", payload: payload.as_bytes(), delivery: &delivery, unfit: None };
        inbox.append(&publication, 0).unwrap();
    }
    let mut cursor = LaneCursor::new(0, inbox.reader(0));
    cursor.open(&at(1, 0, &[]));
    let files = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    segments.sort();
    let away = directory.path().join("away");
    fs::rename(&segments[1], &away).unwrap();

    let before = setup.next(&mut cursor, Skip).unwrap();
    cursor.apply_outcome(before.epoch, &BatchOutcome::default());
    assert!(setup.try_next(&mut cursor, Skip).is_err());
    fs::rename(&away, &segments[1]).unwrap();
    let after = setup.all(&mut cursor);

    let entries: usize = after.iter().map(|batch| batch.entries.len()).sum();
    assert_eq!(before.entries.len() + entries, MESSAGES);
}

fn inbox(directory: &Path) -> Inbox {
    let options = InboxOptions {
        keep: KeepPolicy::NONE,
        dir: directory.to_path_buf(),
        max_bytes: 1 << 24,
        segment_bytes: 1 << 16,
        fsync: FsyncPolicy::Never,
        lanes: LANES,
        max_payload_bytes: 1 << 20,
    };
    Inbox::open(options).unwrap().0
}
