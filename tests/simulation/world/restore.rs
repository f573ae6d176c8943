//! The database goes back, and the gateway notices. As `actors/router.rs` and `app/identity.rs` do it.

use mqtt_gateway::domain::batch::{Lane, OpenedLane};
use mqtt_gateway::domain::lanes::Opening;

use super::{News, World};
use crate::oracle::LANES;
use crate::sql::Sql;
use crate::worker::Order;

impl World {
    /// The server is started again on its last backup: all transactions are gone.
    pub(super) fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        self.seen.restored += 1;
        self.orphans.clear();
        let jobs = self.workers.iter_mut().filter_map(|worker| worker.job.as_mut()).chain(&mut self.zombies);
        for job in jobs {
            if let Some(transaction) = job.transaction.take() {
                job.unanswered(&transaction);
            }
        }
        for lane in 0..LANES {
            let of = |sql: &Sql| {
                let lagging: Vec<_> = sql.lagging_in(lane).map(|flow| (flow, sql.lagging[&flow])).collect();
                (sql.lanes[lane as usize].next_offset, lagging)
            };
            if of(&self.sql) != of(&backup) {
                self.set_back.insert(lane);
            }
        }
        self.sql = Sql { takeovers: self.sql.takeovers, ..backup };
        self.forget_lost();
    }

    /// Deleted records cannot be replayed. The database loses them.
    fn forget_lost(&mut self) {
        let there = self.log.records();
        self.published.retain(|(record, due)| {
            there.iter().any(|kept| kept.offset == record.offset)
                || due.iter().all(|flow| self.sql.is_settled(*flow, record))
        });
    }

    /// An idle lane learns that the database went back.
    pub(super) fn heartbeat(&mut self) {
        for (lane, known) in (0..).zip(&self.progress) {
            let lags = |flow| self.sql.lagging[&flow] < self.log.done_below();
            let is_behind = self.sql.lanes[lane as usize].next_offset < *known;
            if is_behind || self.sql.lagging_in(lane).any(lags) {
                self.lanes.close_any(lane);
                self.workers[lane as usize].orders.push_back(Order::Open);
            }
        }
    }

    pub(super) fn expire(&mut self) {
        let before = self.log.records().len();
        self.log.expire();
        self.seen.released += u64::from(self.log.records().len() < before);
        // Before the router has heard of it.
        if !self.set_back.is_empty() {
            self.forget_lost();
        }
    }

    pub(super) fn opened(&mut self, lane: Lane, opened: &OpenedLane, restores: u64) {
        let opening = self.lanes.open(lane, opened, self.log.deleted_below());
        if opening != Opening::Outdated && restores == self.seen.restored {
            self.set_back.remove(&lane);
        }
    }

    /// A batch whose COMMIT was undone by the restore is done again by itself: then the router is right all the same.
    pub(super) fn forget_what_is_over(&mut self) {
        let lanes = &self.lanes;
        let workers = &self.workers;
        let is_told = |lane: Lane| {
            let is_about = |news: &News| match news {
                News::Opened(of, ..) | News::Reply(_, of, ..) => *of == lane,
            };
            workers[lane as usize].job.is_none() && !self.news.iter().any(is_about)
        };
        self.set_back.retain(|lane| {
            let known = lanes.position(*lane);
            let lags = self.sql.lagging_in(*lane).next().is_some();
            lags || !is_told(*lane) || known != Some(self.sql.lanes[*lane as usize])
        });
    }
}
