//! How a run ends: all comes to rest, with everything in SQL.

use super::World;
use crate::oracle::LANES;
use crate::steps::{End, Step};

impl World {
    /// Without faults and locks all messages must reach SQL.
    pub(crate) fn come_to_rest(&mut self) {
        self.draining = false;
        self.log.fail_reads(0);
        self.reload();
        for _ in 0..2_000 {
            while !self.orphans.is_empty() {
                self.perform(Step::Orphan { index: 0, commits: true });
            }
            self.sql.flows.values_mut().for_each(|row| row.locked_elsewhere = false);
            for index in 0..self.zombies.len() {
                self.perform(Step::Zombie { index, most: 9, end: None });
                self.perform(Step::Zombie { index, most: 9, end: Some(End::Answered) });
            }
            for lane in 0..LANES {
                self.perform(Step::Work { lane, most: 9, patient: true });
                self.perform(Step::End { lane, end: End::Answered });
            }
            while !self.news.is_empty() {
                self.perform(Step::Deliver { index: 0 });
            }
            self.perform(Step::Pump { tick: true, scan_limit: 9 });
            self.perform(Step::Heartbeat);
            if self.is_at_rest() {
                self.assert_complete();
                return;
            }
        }
        panic!("STUCK: {} flows lag, lanes stand at {:?}", self.sql.lagging.len(), self.sql.lanes);
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.zombies.is_empty()
            && self.sql.lagging.is_empty()
            && self.set_back.is_empty()
            && self.lanes.are_drained(self.log.next_offset())
            && self.lanes.watermark() >= self.log.next_offset()
    }

    /// Each message is there once for each of its flows; where the process was restarted, which
    /// flows those were may have changed with the table, and what was said step by step has to do.
    pub(super) fn assert_complete(&self) {
        for lane in &self.sql.lanes {
            assert!(lane.next_offset >= self.log.next_offset(), "the lanes are at the end");
        }
        assert!(!self.lanes.is_replaying(), "REPLAYED");
        if self.process_restarted {
            return;
        }
        for (record, due) in &self.published {
            for flow in due {
                assert!(self.sql.is_settled(*flow, record), "COMPLETE: flow {flow} never got {record:?}");
            }
        }
    }
}
