//! Replays after the database went back.
//!
//! A lane continues at its offset in the database. If that is below the offset committed before, the database was
//! restored, or a server took over without its last commits. The records between are processed again from the inbox, as
//! far as it was kept. Numbers are then given again, because the counters went back with the lane.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::super::batch::{Lane, ProcessError, ProcessResult};
use super::super::message::Offset;

/// Flows that a summary names.
const MAX_NAMED_FLOWS: usize = 20;

/// The committed offset of each lane, and the replays that run.
#[derive(Debug, Default)]
pub struct Replays {
    committed: Vec<Offset>,
    running: BTreeMap<Lane, Replay>,
}

#[derive(Debug)]
struct Replay {
    until: Offset,
    messages: u64,
    /// The first and the last number of each flow.
    numbers: BTreeMap<Arc<str>, (i64, i64)>,
}

/// A lane was committed further than the database says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The lane.
    pub lane: Lane,
    /// Committed, and not in the database any more. All of it is processed again that the inbox still holds.
    pub lost: Range<Offset>,
    /// The part of it that the inbox has deleted.
    pub missing: Range<Offset>,
}

/// A replay that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The lane.
    pub lane: Lane,
    /// Messages that were processed again, counted once for each flow.
    pub messages: u64,
    numbers: BTreeMap<Arc<str>, (i64, i64)>,
}

impl Replays {
    /// With the committed offsets that are remembered.
    #[must_use]
    pub fn new(committed: Vec<Offset>) -> Self {
        Self { committed, running: BTreeMap::new() }
    }

    /// The committed offset of each lane.
    #[must_use]
    pub fn committed(&self) -> &[Offset] {
        &self.committed
    }

    /// A worker has found the lane at `now`. `deleted_below`: the inbox has deleted records below.
    pub fn reopen(&mut self, lane: Lane, now: Offset, deleted_below: Offset) -> Option<SetBack> {
        let committed = self.committed_of(lane);
        let until = self.running.get(&lane).map_or(committed, |replay| replay.until.max(committed));
        self.set_committed(lane, now);
        if now >= until {
            // Its last batch is committed, and may not have been heard of yet: that ends the replay.
            return None;
        }
        let is_new = now < committed;
        // Earlier counts of this replay stay.
        let replay = Replay { until, messages: 0, numbers: BTreeMap::new() };
        self.running.entry(lane).or_insert(replay).until = until;
        let missing = now..deleted_below.clamp(now, until);
        is_new.then_some(SetBack { lane, lost: now..until, missing })
    }

    /// Where the replay of the lane ends: a batch goes no further.
    #[must_use]
    pub fn ends_at(&self, lane: Lane) -> Option<Offset> {
        let until = self.running.get(&lane)?.until;
        (self.committed_of(lane) < until).then_some(until)
    }

    /// A batch of the lane is committed up to `next`. Returns the summary of the replay after its last batch.
    pub fn record_commit(
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
            "The database went back: lane {lane} was committed up to offset {} and stands at {} now. Messages from there on \
             are processed again, and their numbers are given again",
            lost.end, lost.start
        )?;
        if !missing.is_empty() {
            write!(
                f,
                ". The inbox has deleted those from offset {} to {}: they cannot be brought back (INBOX_KEEP_SECONDS, \
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
        write!(f, "Lane {lane} is back where it was: {messages} messages were processed again")?;
        for (index, (flow, (first, last))) in numbers.iter().take(MAX_NAMED_FLOWS).enumerate() {
            let before = if index == 0 { "; numbers given again: " } else { ", " };
            write!(f, "{before}{flow} {first} to {last}")?;
        }
        if numbers.len() > MAX_NAMED_FLOWS {
            write!(f, " and those of {} more flows", numbers.len() - MAX_NAMED_FLOWS)?;
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
                Ok(ProcessResult { flow_code: flow.into(), message_id, action: Action::StoreDb })
            })
            .collect()
    }

    #[test]
    fn continuing_lane_is_no_replay() {
        let mut replays = Replays::new(vec![10]);
        assert_eq!(replays.reopen(0, 10, 5), None);
        assert_eq!(replays.reopen(1, 0, 5), None, "a lane that nothing is remembered of");
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
        assert!(replayed.to_string().ends_with("numbers given again: F 5 to 9"), "{replayed}");
        assert_eq!(replays.ends_at(0), None);
    }

    #[test]
    fn replaced_worker_continues_the_replay() {
        let mut replays = Replays::new(vec![100]);
        replays.reopen(0, 40, 0).unwrap();
        replays.record_commit(0, 60, &numbered("F", 1..4));
        assert_eq!(replays.reopen(0, 60, 0), None, "it was said before");
        let replayed = replays.record_commit(0, 100, &[]).unwrap();
        assert_eq!(replayed.messages, 3);
    }

    #[test]
    fn late_outcome_ends_the_replay() {
        let mut replays = Replays::new(vec![100]);
        replays.reopen(0, 40, 0).unwrap();
        assert_eq!(replays.reopen(0, 100, 0), None);
        assert_eq!(replays.ends_at(0), None, "batches go on");
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
