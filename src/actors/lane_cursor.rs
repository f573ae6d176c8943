//! How far one lane has read, and what it is given next. Decides; sends nothing.
//!
//! Every lane has a cursor of its own over the inbox. A lane whose database rows are locked
//! elsewhere then holds back nobody but itself, and a restarted worker rewinds only its lane. The
//! price, that each record is looked at once for every lane, is a microsecond.

use std::collections::VecDeque;
use std::sync::Arc;

use super::copies::Copies;
use crate::domain::batch::{Batch, BatchEntry, Lane, Scope, lane_of};
use crate::domain::message::{Body, FlowId, Offset, Record, SubscriptionId};
use crate::domain::payload::PayloadLimits;
use crate::domain::routing_history::RoutingHistory;
use crate::inbox::{InboxError, Reader};
use crate::store::{LanePosition, read_payload};

/// The lane that answers for payloads that belong to no flow because they cannot be read. Fixed,
/// because flows come and go, and exactly one lane must answer.
const JUDGE: Lane = 0;

/// Records looked at in one go; a turn of the router must stay short even where a lane has
/// nothing to do with a million records.
const LOOK_AHEAD: usize = 4_096;

/// Records read at once.
const READ_RECORDS: usize = 256;
const READ_BYTES: usize = 1 << 20;

/// What gathering a batch needs to know.
pub(super) struct Gathering<'a> {
    pub(super) tables: &'a RoutingHistory,
    pub(super) filter_of: &'a dyn Fn(SubscriptionId) -> Option<&'a str>,
    pub(super) lanes: u32,
    pub(super) payload: &'a PayloadLimits,
    /// Most messages of a batch, counted once for each flow.
    pub(super) max_pairs: usize,
    /// Most payload bytes of a batch.
    pub(super) max_bytes: usize,
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No worker has taken it over yet.
    Closed,
    /// Ready for a batch.
    Open,
    /// A batch is with the worker.
    Busy,
}

/// What came of looking at the next record.
enum Looked {
    Found(BatchEntry),
    NotOurs,
    AtTheEnd,
}

/// A lane's cursor.
pub(super) struct LaneCursor {
    lane: Lane,
    reader: Reader,
    /// Read, and not yet looked at.
    pending: VecDeque<Arc<Record>>,
    /// Looked at, and too much for the batch it came up for.
    held_back: Option<BatchEntry>,
    state: State,
    /// Where the lane stands in SQL.
    in_sql: LanePosition,
    /// Every record below is in SQL for this lane, or none of its business.
    done: Offset,
    /// What lane 0 answered for last.
    unreadable: Copies,
}

impl LaneCursor {
    pub(super) fn new(lane: Lane, reader: Reader) -> Self {
        let in_sql = LanePosition { epoch: 0, next_offset: 0 };
        Self {
            lane,
            reader,
            pending: VecDeque::new(),
            held_back: None,
            state: State::Closed,
            in_sql,
            done: 0,
            unreadable: Copies::default(),
        }
    }

    /// A worker has taken the lane over: begin again where it stands in SQL.
    ///
    /// Older news than what the lane works by is void. A closed lane works by none and believes any:
    /// where somebody deleted its row or restored a backup, epochs begin again below the known one,
    /// and news that was too old after all is found out by the first batch.
    pub(super) fn open(&mut self, position: LanePosition) {
        if self.state != State::Closed && position.epoch <= self.in_sql.epoch {
            return;
        }
        self.reader.seek(position.next_offset);
        self.pending.clear();
        self.held_back = None;
        self.unreadable = Copies::default();
        self.in_sql = position;
        self.done = position.next_offset;
        self.state = State::Open;
    }

    /// The worker is gone, or another took the lane: wait until it is opened anew. False when the
    /// lane is in a later epoch already.
    pub(super) fn close(&mut self, epoch: i64) -> bool {
        let current = epoch == self.in_sql.epoch;
        if current {
            self.state = State::Closed;
        }
        current
    }

    /// The batch is in SQL. Replies of older epochs are void.
    pub(super) fn committed(&mut self, epoch: i64, next: Offset) {
        if epoch == self.in_sql.epoch && self.state == State::Busy {
            self.in_sql.next_offset = next;
            self.done = next;
            self.state = State::Open;
        }
    }

    /// Every record below is done for this lane.
    pub(super) fn done(&self) -> Offset {
        self.done
    }

    /// Whether a batch can be given to the worker.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether all below `end` is done and SQL knows it.
    pub(super) fn is_drained(&self, end: Offset) -> bool {
        self.is_open() && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// The next batch, if there is one. An idle lane's batch is empty and only states how far it
    /// has got; it is made when `even_if_empty`.
    ///
    /// The second value tells whether there is more to look at.
    pub(super) fn next_batch(
        &mut self,
        gathering: &Gathering<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), InboxError> {
        let (entries, more) = self.gather(gathering)?;
        let next = self.looked_up_to();
        let idle = entries.is_empty();
        if idle {
            self.done = self.done.max(next);
        }
        if next <= self.in_sql.next_offset || (idle && !even_if_empty) {
            return Ok((None, more));
        }
        self.state = State::Busy;
        let LanePosition { epoch, next_offset: from } = self.in_sql;
        Ok((
            Some(Batch {
                lane: self.lane,
                epoch,
                scope: Scope::Lane { may_leave_behind: 0 },
                from,
                next,
                entries,
            }),
            more,
        ))
    }

    fn gather(&mut self, gathering: &Gathering<'_>) -> Result<(Vec<BatchEntry>, bool), InboxError> {
        let mut entries = Vec::new();
        let (mut pairs, mut bytes, mut looked_at) = (0, 0, 0);
        while looked_at < LOOK_AHEAD {
            looked_at += 1;
            let entry = match self.next_entry(gathering) {
                Ok(Looked::Found(entry)) => entry,
                Ok(Looked::NotOurs) => continue,
                Ok(Looked::AtTheEnd) => return Ok((entries, false)),
                // The reader is past what was gathered: that goes first, and the error comes again.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            let weight = entry.flows.len().max(1);
            let size = weight * body_length(&entry.record);
            let full = pairs + weight > gathering.max_pairs || bytes + size > gathering.max_bytes;
            if full && !entries.is_empty() {
                self.held_back = Some(entry);
                break;
            }
            (pairs, bytes) = (pairs + weight, bytes + size);
            entries.push(entry);
        }
        Ok((entries, true))
    }

    fn next_entry(&mut self, gathering: &Gathering<'_>) -> Result<Looked, InboxError> {
        if let Some(entry) = self.held_back.take() {
            return Ok(Looked::Found(entry));
        }
        let Some(record) = self.next_record()? else { return Ok(Looked::AtTheEnd) };
        Ok(self.entry(record, gathering).map_or(Looked::NotOurs, Looked::Found))
    }

    /// Every record below has been given to the worker, or is none of its business.
    fn looked_up_to(&self) -> Offset {
        let held_back = self.held_back.as_ref().map(|entry| &entry.record);
        held_back.or(self.pending.front()).map_or(self.reader.position(), |record| record.offset)
    }

    fn next_record(&mut self) -> Result<Option<Arc<Record>>, InboxError> {
        if self.pending.is_empty() {
            let mut records = Vec::new();
            let read = self.reader.read(READ_RECORDS, READ_BYTES, &mut records);
            self.pending.extend(records);
            // The same for what was read before the failure.
            if self.pending.is_empty() {
                read?;
            }
        }
        Ok(self.pending.pop_front())
    }

    /// What this lane has to do with a record, if anything.
    fn entry(&mut self, record: Arc<Record>, gathering: &Gathering<'_>) -> Option<BatchEntry> {
        let flows = self.flows_of(&record, gathering);
        let judge = self.lane == JUDGE
            && read_payload(&record, gathering.payload).is_err()
            && !self.unreadable.is_copy(&record);
        (judge || !flows.is_empty()).then_some(BatchEntry { record, flows, judge })
    }

    fn flows_of(&self, record: &Record, gathering: &Gathering<'_>) -> Vec<FlowId> {
        let mut flows = Vec::new();
        if let Some(table) = gathering.tables.at(record.offset) {
            table.route(&record.topic, &record.delivery.subscription_ids, gathering.filter_of, &mut flows);
            flows.retain(|flow| lane_of(*flow, gathering.lanes) == self.lane);
        }
        flows
    }
}

fn body_length(record: &Record) -> usize {
    match &record.body {
        Body::Whole(bytes) | Body::Head { head: bytes, .. } => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::domain::flow::Flow;
    use crate::domain::message::{DeliveryFacts, Publication};
    use crate::domain::routing::RoutingTable;
    use crate::inbox::{FsyncPolicy, Inbox, InboxOptions};

    const LANES: u32 = 2;

    /// An inbox with some flows, and what two lanes make of it.
    struct Setup {
        inbox: Inbox,
        tables: RoutingHistory,
        payload: PayloadLimits,
        max_pairs: usize,
        directory: tempfile::TempDir,
    }

    impl Setup {
        fn new(topics: &[&str], max_pairs: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = InboxOptions {
                dir: directory.path().join("inbox"),
                max_bytes: 1 << 24,
                segment_bytes: 1 << 16,
                fsync: FsyncPolicy::Never,
                lanes: LANES,
                max_payload_bytes: 1 << 20,
            };
            let mut tables = RoutingHistory::default();
            let flow = |(id, topic): (i64, &&str)| Flow {
                id,
                code: format!("F{id}"),
                topic: (*topic).to_owned(),
                action: "STORE_DB".to_owned(),
                endpoint_url: None,
            };
            tables.push(0, RoutingTable::new((1..).zip(topics).map(flow).collect()).0.into());
            let payload = PayloadLimits::default();
            Self { inbox: Inbox::open(options).unwrap().0, tables, payload, max_pairs, directory }
        }

        fn publish(&self, topic: &str, payload: &str, ids: &[SubscriptionId]) {
            let delivery = DeliveryFacts { subscription_ids: ids.to_vec(), ..DeliveryFacts::default() };
            let publication = Publication { topic, payload: payload.as_bytes(), delivery: &delivery };
            self.inbox.append(&publication, 0).unwrap();
        }

        fn cursor(&self, lane: Lane) -> LaneCursor {
            let mut cursor = LaneCursor::new(lane, self.inbox.reader(0));
            cursor.open(LanePosition { epoch: 1, next_offset: 0 });
            cursor
        }

        fn next(&self, cursor: &mut LaneCursor, even_if_empty: bool) -> Option<Batch> {
            self.try_next(cursor, even_if_empty).unwrap()
        }

        fn try_next(
            &self,
            cursor: &mut LaneCursor,
            even_if_empty: bool,
        ) -> Result<Option<Batch>, InboxError> {
            let gathering = Gathering {
                tables: &self.tables,
                filter_of: &|_| None,
                lanes: LANES,
                payload: &self.payload,
                max_pairs: self.max_pairs,
                max_bytes: usize::MAX,
            };
            cursor.next_batch(&gathering, even_if_empty).map(|(batch, _)| batch)
        }

        fn segments(&self) -> Vec<PathBuf> {
            let files = fs::read_dir(self.directory.path().join("inbox")).unwrap();
            let files = files.map(|file| file.unwrap().path());
            let mut segments: Vec<PathBuf> = files
                .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
                .collect();
            segments.sort();
            segments
        }

        /// Everything the lane is given, batch by batch, each committed at once.
        fn all(&self, cursor: &mut LaneCursor) -> Vec<Batch> {
            std::iter::from_fn(|| {
                let batch = self.next(cursor, false)?;
                cursor.committed(batch.epoch, batch.next);
                Some(batch)
            })
            .collect()
        }
    }

    #[test]
    fn every_message_goes_once_to_the_lane_of_each_of_its_flows() {
        let setup = Setup::new(&["a/#", "a/+", "b"], 5);
        for n in 0..20 {
            setup.publish(if n % 3 == 0 { "b" } else { "a/x" }, &format!("{{\"n\":{n}}}"), &[]);
        }
        let mut pairs = Vec::new();
        for lane in 0..LANES {
            let batches = setup.all(&mut setup.cursor(lane));
            assert!(batches.windows(2).all(|two| two[0].next == two[1].from));
            assert!(batches.iter().all(|batch| batch.pairs() <= 5));
            for entry in batches.iter().flat_map(|batch| &batch.entries) {
                assert!(entry.flows.iter().all(|flow| lane_of(*flow, LANES) == lane) && !entry.judge);
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
    fn an_unreadable_message_is_answered_for_once_also_when_its_copy_was_held_back() {
        let setup = Setup::new(&["t"], 1);
        for _ in 0..3 {
            setup.publish("t", "garbage", &[7]);
            setup.publish("t", "garbage", &[8]);
        }
        for (lane, answers) in [(0, 3), (1, 0)] {
            let batches = setup.all(&mut setup.cursor(lane));
            let judged = batches.iter().flat_map(|batch| &batch.entries).filter(|entry| entry.judge).count();
            assert_eq!(judged, answers, "lane {lane}");
        }
    }

    #[test]
    fn an_idle_lane_follows_and_says_so_when_asked() {
        let setup = Setup::new(&["t"], 5);
        let idle = 1 - lane_of(1, LANES);
        let mut cursor = setup.cursor(idle);
        setup.publish("t", "{}", &[]);
        let end = setup.inbox.next_offset();

        assert!(setup.next(&mut cursor, false).is_none());
        assert_eq!(cursor.done(), end);
        assert!(!cursor.is_drained(end), "SQL does not know yet");
        let batch = setup.next(&mut cursor, true).unwrap();
        assert_eq!((batch.entries.len(), batch.from, batch.next), (0, 0, end));
        cursor.committed(batch.epoch, batch.next);
        assert!(cursor.is_drained(end));
        assert!(setup.next(&mut cursor, true).is_none(), "nothing new to say");
    }

    #[test]
    fn a_lane_that_was_taken_over_begins_where_sql_stands_and_ignores_older_replies() {
        let setup = Setup::new(&["t"], 5);
        for _ in 0..3 {
            setup.publish("t", "{}", &[]);
        }
        let mut cursor = setup.cursor(lane_of(1, LANES));
        let lost = setup.next(&mut cursor, false).unwrap();
        assert!(!cursor.is_open(), "one batch at a time");

        let second = lost.entries[1].record.offset;
        cursor.open(LanePosition { epoch: 2, next_offset: second });
        cursor.committed(lost.epoch, lost.next);
        assert!(!cursor.close(lost.epoch));
        let again = setup.next(&mut cursor, false).unwrap();
        assert_eq!((again.epoch, again.from, again.entries.len()), (2, second, 2));
    }

    #[test]
    fn what_was_gathered_before_the_disk_failed_is_not_passed_over() {
        const MESSAGES: usize = 100;
        let setup = Setup::new(&["t"], 1_000);
        let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000));
        for _ in 0..MESSAGES {
            setup.publish("t", &payload, &[]);
        }
        let mut cursor = setup.cursor(lane_of(1, LANES));
        let (second, away) = (&setup.segments()[1], setup.directory.path().join("away"));
        fs::rename(second, &away).unwrap();

        let before = setup.next(&mut cursor, false).unwrap();
        cursor.committed(before.epoch, before.next);
        assert!(setup.try_next(&mut cursor, false).is_err());
        fs::rename(&away, second).unwrap();
        let after = setup.all(&mut cursor);

        let entries: usize = after.iter().map(|batch| batch.entries.len()).sum();
        assert_eq!(before.entries.len() + entries, MESSAGES);
    }

    #[test]
    fn a_lane_whose_row_was_deleted_opens_in_an_epoch_that_began_again() {
        let setup = Setup::new(&["t"], 5);
        setup.publish("t", "{}", &[]);
        let mut cursor = setup.cursor(lane_of(1, LANES));
        cursor.open(LanePosition { epoch: 9, next_offset: 0 });
        let fenced = setup.next(&mut cursor, false).unwrap();
        cursor.open(LanePosition { epoch: 8, next_offset: 0 });
        assert!(!cursor.is_open(), "a lane at work takes no older news");

        assert!(cursor.close(fenced.epoch));
        cursor.open(LanePosition { epoch: 1, next_offset: 0 });

        let batch = setup.next(&mut cursor, false).unwrap();
        assert_eq!((batch.epoch, batch.entries.len()), (1, 1));
    }
}
