//! Restarts of workers, router and process.

use mqtt_gateway::domain::lanes::Lanes;
use mqtt_gateway::domain::message::Offset;
use mqtt_gateway::domain::routing_history::RoutingHistory;

use super::{News, World};
use crate::oracle::LANES;
use crate::worker::{Order, Worker};

impl World {
    pub(super) fn restart_router(&mut self) {
        self.router += 1;
        self.lanes = Lanes::new(LANES, &self.log.reader(), self.progress.clone());
        // A new router believes the first news of a lane, be it from before a restore.
        let old = self.news.iter().filter_map(|news| match news {
            News::Opened(lane, _, restores) if *restores < self.seen.restored => Some(*lane),
            _ => None,
        });
        self.set_back.extend(old);
        for worker in &mut self.workers {
            worker.orders.push_back(Order::Open);
        }
    }

    /// Everything in memory is lost. Transactions at the server end now or later.
    pub(super) fn restart_process(&mut self, power_was_lost: bool, commits: bool) {
        let jobs = self.workers.drain(..).filter_map(|worker| worker.job).chain(self.zombies.drain(..));
        let transactions: Vec<_> = jobs.filter_map(|job| job.transaction).collect();
        for transaction in transactions {
            if commits {
                self.orphans.push(transaction);
            } else {
                self.sql.roll_back(&transaction);
            }
        }
        self.log.restart(power_was_lost);
        if power_was_lost {
            let there: Vec<Offset> = self.log.records().iter().map(|record| record.offset).collect();
            let lowest = there.first().copied().unwrap_or(Offset::MAX);
            self.published.retain(|(record, _)| record.offset < lowest || there.contains(&record.offset));
        }
        self.process_restarted = true;
        self.start_process();
    }

    pub(super) fn start_process(&mut self) {
        // The tables are kept beside the log, so routing stays the same.
        self.tables =
            RoutingHistory::from_text(&self.tables.to_text()).expect("the text of a history is one");
        self.draining = false;
        self.news.clear();
        self.workers = (0..LANES).map(|_| Worker::default()).collect();
        self.restart_router();
    }
}
