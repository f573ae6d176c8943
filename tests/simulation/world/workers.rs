//! The workers, replaced workers, and transactions without a connection.

use mqtt_gateway::domain::batch::{Lane, lane_of};

use super::{News, Reply, World};
use crate::oracle::{LANES, assert_nothing_passed_over, assert_numbers};
use crate::sql::Transaction;
use crate::steps::End;
use crate::worker::{Job, Order, Turn};

impl World {
    pub(super) fn work(&mut self, lane: Lane, most: usize, patient: bool) {
        let worker = &mut self.workers[lane as usize];
        if worker.job.is_none() {
            match worker.orders.pop_front() {
                None => return,
                Some(Order::Process(mut job)) => {
                    job.lagging.clone_from(&worker.lagging);
                    worker.job = Some(job);
                }
                Some(Order::Open) => {
                    match self.sql.take_over(lane, |flow| lane_of(flow, LANES) == lane) {
                        Some(opened) => {
                            worker.lagging = opened.lagging.iter().map(|lagging| lagging.flow).collect();
                            self.news.push(News::Opened(lane, opened, self.seen.restored));
                        }
                        None => worker.orders.push_front(Order::Open),
                    }
                    return;
                }
            }
        }
        if let Some(mut job) = worker.job.take() {
            let turn = job.attempt(&mut self.sql, most, patient);
            self.workers[lane as usize].lagging.clone_from(&job.lagging);
            if let Some(job) = self.settle_turn(job, turn) {
                self.workers[lane as usize].job = Some(job);
            }
        }
    }

    pub(super) fn end(&mut self, lane: Lane, end: End) {
        let Some(mut job) = self.workers[lane as usize].job.take() else { return };
        let turn = self.end_transaction(&mut job, end);
        self.workers[lane as usize].lagging.clone_from(&job.lagging);
        if let Some(job) = self.settle_turn(job, turn) {
            self.workers[lane as usize].job = Some(job);
        }
    }

    pub(super) fn zombie(&mut self, index: usize, most: usize, end: Option<End>) {
        if self.zombies.is_empty() {
            return;
        }
        let index = index % self.zombies.len();
        let mut job = self.zombies.remove(index);
        let turn = match end {
            Some(end) => self.end_transaction(&mut job, end),
            None => job.attempt(&mut self.sql, most, false),
        };
        self.seen.zombies_fenced += u64::from(matches!(turn, Turn::Fenced));
        if let Some(job) = self.settle_turn(job, turn) {
            self.zombies.insert(index, job);
        }
    }

    pub(super) fn end_transaction(&mut self, job: &mut Job, end: End) -> Turn {
        let Some(transaction) = job.transaction.take() else { return Turn::GoesOn };
        match end {
            End::Answered => {
                self.commit(&transaction);
                job.committed(&transaction.part, transaction.came_to)
            }
            End::NotReached => {
                self.sql.roll_back(&transaction);
                job.unanswered(&transaction)
            }
            End::NotAnswered => {
                self.commit(&transaction);
                job.unanswered(&transaction)
            }
            End::InLimbo => {
                let turn = job.unanswered(&transaction);
                self.orphans.push(transaction);
                turn
            }
        }
    }

    pub(super) fn orphan(&mut self, index: usize, commits: bool) {
        if self.orphans.is_empty() {
            return;
        }
        let transaction = self.orphans.remove(index % self.orphans.len());
        if commits {
            self.commit(&transaction);
        } else {
            self.sql.roll_back(&transaction);
        }
    }

    pub(super) fn commit(&mut self, transaction: &Transaction) {
        self.sql.commit(transaction);
        self.seen.commit(transaction);
        assert_numbers(&self.sql);
        assert_nothing_passed_over(&self.sql, transaction, &self.log.records());
    }

    /// The job, if it goes on; else its reply is under way.
    pub(super) fn settle_turn(&mut self, job: Job, turn: Turn) -> Option<Job> {
        let (router, lane, epoch) = (job.router, job.batch.lane, job.batch.epoch);
        let reply = match turn {
            Turn::GoesOn => return Some(job),
            Turn::Done => Reply::Done(job.outcome()),
            Turn::Fenced => Reply::Fenced,
        };
        self.seen.reply(matches!(reply, Reply::Fenced));
        self.news.push(News::Reply(router, lane, epoch, reply));
        None
    }

    pub(super) fn replace_worker(&mut self, lane: Lane, zombie: bool) {
        let old = std::mem::take(&mut self.workers[lane as usize]);
        self.workers[lane as usize].orders.push_back(Order::Open);
        let waiting = old.orders.into_iter().filter_map(|order| match order {
            Order::Process(job) => Some(job),
            Order::Open => None,
        });
        for mut job in old.job.into_iter().chain(waiting) {
            if zombie {
                job.lagging.clone_from(&old.lagging);
                self.zombies.push(job);
            } else {
                let (router, epoch) = (job.router, job.batch.epoch);
                self.news.push(News::Reply(router, lane, epoch, Reply::Lost));
                self.orphans.extend(job.transaction);
            }
        }
    }
}
