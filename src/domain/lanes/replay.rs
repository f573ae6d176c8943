//! Replays after the database was set back.
//!
//! A lane continues at its offset in the database. An offset below the remembered one means that a backup was restored,
//! or that a failover lost the last commits. The records between the two offsets are processed again, as far as the
//! inbox holds them. Sequence numbers are then assigned again, because the counters were set back with the lane.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::super::batch::{Lane, ProcessError, ProcessResult};
use super::super::message::Offset;

/// Maximum number of flows in a summary.
const MAX_NAMED_FLOWS: usize = 20;

/// The committed offset of each lane, and the running replays.
#[derive(Debug, Default)]
pub(super) struct Replays {
    committed: Vec<Offset>,
    running: BTreeMap<Lane, Replay>,
}

#[derive(Debug)]
struct Replay {
    until: Offset,
    messages: u64,
    /// The first and the last sequence number of each flow.
    numbers: BTreeMap<Arc<str>, (i64, i64)>,
}

/// A lane whose offset in the database is below its committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The lane.
    pub lane: Lane,
    /// Records whose commits are lost. They are processed again as far as the inbox holds them.
    pub lost: Range<Offset>,
    /// The part of `lost` that the inbox has deleted.
    pub missing: Range<Offset>,
}

/// The summary of a completed replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The lane.
    pub lane: Lane,
    /// Number of repeated messages, counted once for each flow.
    pub messages: u64,
    numbers: BTreeMap<Arc<str>, (i64, i64)>,
}

impl Replays {
    /// Creates the state from the remembered committed offsets.
    pub(super) fn new(committed: Vec<Offset>) -> Self {
        Self { committed, running: BTreeMap::new() }
    }

    /// The committed offset of each lane.
    pub(super) fn committed(&self) -> &[Offset] {
        &self.committed
    }

    /// Records that a worker has opened the lane at offset `now`. Returns the loss if the lane was set back.
    ///
    /// The inbox holds no records below `deleted_below`.
    pub(super) fn reopen(&mut self, lane: Lane, now: Offset, deleted_below: Offset) -> Option<SetBack> {
        let committed = self.committed_of(lane);
        let until = self.running.get(&lane).map_or(committed, |replay| replay.until.max(committed));
        self.set_committed(lane, now);
        if now >= until {
            // The last batch of the replay is committed. Its outcome, which may still arrive, ends the replay.
            return None;
        }
        let is_new = now < committed;
        // A running replay keeps its counts.
        let replay = Replay { until, messages: 0, numbers: BTreeMap::new() };
        self.running.entry(lane).or_insert(replay).until = until;
        let missing = now..deleted_below.clamp(now, until);
        is_new.then_some(SetBack { lane, lost: now..until, missing })
    }

    /// Returns the end of the running replay of the lane. No batch may extend beyond it.
    pub(super) fn ends_at(&self, lane: Lane) -> Option<Offset> {
        let until = self.running.get(&lane)?.until;
        (self.committed_of(lane) < until).then_some(until)
    }

    /// Records that a batch of the lane is committed up to `next`. Returns the summary after the last batch of a
    /// replay.
    pub(super) fn record_commit(
        &mut self,
        lane: Lane,
        next: Offset,
        results: &[Result<ProcessResult, ProcessError>],
    ) -> Option<Replayed> {
        self.set_committed(lane, next);
        let replay = self.running.get_mut(&lane)?;
        replay.count(results);
        if next < replay.until {
            return None;
        }
        let Replay { messages, numbers, .. } = self.running.remove(&lane)?;
        Some(Replayed { lane, messages, numbers })
    }

    fn committed_of(&self, lane: Lane) -> Offset {
        let lane = usize::try_from(lane).ok();
        lane.and_then(|lane| self.committed.get(lane)).copied().unwrap_or(0)
    }

    fn set_committed(&mut self, lane: Lane, offset: Offset) {
        let Ok(lane) = usize::try_from(lane) else { return };
        if self.committed.len() <= lane {
            self.committed.resize(lane + 1, 0);
        }
        self.committed[lane] = offset;
    }
}

impl Replay {
    fn count(&mut self, results: &[Result<ProcessResult, ProcessError>]) {
        self.messages += results.len() as u64;
        for result in results.iter().filter_map(|result| result.as_ref().ok()) {
            let number = result.message_id;
            let numbers = self.numbers.entry(Arc::clone(&result.flow_code)).or_insert((number, number));
            *numbers = (numbers.0.min(number), numbers.1.max(number));
        }
    }
}

impl fmt::Display for SetBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, lost, missing } = self;
        write!(
            f,
            "The database went back: lane {lane} was committed up to offset {}, but the database has offset {}. The messages \
             from there on are processed again, and their sequence numbers are assigned again",
            lost.end, lost.start
        )?;
        if !missing.is_empty() {
            write!(
                f,
                ". Those from offset {} to {} are no longer in the inbox and cannot be brought back (INBOX_KEEP_SECONDS, \
                 INBOX_KEEP_BYTES)",
                missing.start, missing.end
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, messages, numbers } = self;
        write!(f, "Replay of lane {lane} completed: {messages} messages were processed again")?;
        for (index, (flow, (first, last))) in numbers.iter().take(MAX_NAMED_FLOWS).enumerate() {
            let before = if index == 0 { "; sequence numbers assigned again: " } else { ", " };
            write!(f, "{before}{flow} {first} to {last}")?;
        }
        if numbers.len() > MAX_NAMED_FLOWS {
            write!(f, ", and numbers of {} more flows", numbers.len() - MAX_NAMED_FLOWS)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::flow::Action;
    use super::*;

    fn numbered(flow: &str, numbers: Range<i64>) -> Vec<Result<ProcessResult, ProcessError>> {
        numbers
            .map(|message_id| {
                Ok(ProcessResult {
                    flow_code: flow.into(),
                    message_id,
                    action: Action::StoreDb,
                    inbox_offset: 0,
                })
            })
            .collect()
    }

    #[test]
    fn continuing_lane_is_no_replay() {
        let mut replays = Replays::new(vec![10]);
        assert_eq!(replays.reopen(0, 10, 5), None);
        assert_eq!(replays.reopen(1, 0, 5), None, "a lane without a remembered offset");
        assert_eq!(replays.record_commit(0, 20, &numbered("F", 1..3)), None);
        assert_eq!(replays.committed(), [20, 0]);
    }

    #[test]
    fn replay_reports_missing_records_and_repeated_numbers() {
        let mut replays = Replays::new(vec![100]);
        let set_back = replays.reopen(0, 40, 60).unwrap();
        assert_eq!(set_back, SetBack { lane: 0, lost: 40..100, missing: 40..60 });
        assert!(set_back.to_string().contains("cannot be brought back"));
        assert_eq!(replays.ends_at(0), Some(100));
        assert_eq!(replays.record_commit(0, 80, &numbered("F", 5..8)), None);
        let replayed = replays.record_commit(0, 100, &numbered("F", 8..10)).unwrap();
        assert_eq!(replayed.messages, 5);
        assert!(replayed.to_string().ends_with("numbers assigned again: F 5 to 9"), "{replayed}");
        assert_eq!(replays.ends_at(0), None);
    }

    #[test]
    fn replaced_worker_continues_the_replay() {
        let mut replays = Replays::new(vec![100]);
        replays.reopen(0, 40, 0).unwrap();
        replays.record_commit(0, 60, &numbered("F", 1..4));
        assert_eq!(replays.reopen(0, 60, 0), None, "it is reported once");
        let replayed = replays.record_commit(0, 100, &[]).unwrap();
        assert_eq!(replayed.messages, 3);
    }

    #[test]
    fn late_outcome_ends_the_replay() {
        let mut replays = Replays::new(vec![100]);
        replays.reopen(0, 40, 0).unwrap();
        assert_eq!(replays.reopen(0, 100, 0), None);
        assert_eq!(replays.ends_at(0), None, "batches are no longer cut");
        let replayed = replays.record_commit(0, 100, &numbered("F", 5..10)).unwrap();
        assert_eq!(replayed.messages, 5);
    }

    #[test]
    fn second_set_back_extends_the_replay() {
        let mut replays = Replays::new(vec![100]);
        replays.reopen(0, 40, 0).unwrap();
        replays.record_commit(0, 60, &[]);
        assert_eq!(replays.reopen(0, 20, 0).map(|set_back| set_back.lost), Some(20..100));
    }
}
