//! The lanes as the router drives them, between a model of the inbox and a model of the database.

use std::sync::Arc;

use mqtt_gateway::domain::batch::{BatchOutcome, Lane, OpenedLane, Scope, lane_of};
use mqtt_gateway::domain::flow::Flow;
use mqtt_gateway::domain::lanes::{Gathering, Lanes};
use mqtt_gateway::domain::message::{FlowId, Offset, Record};
use mqtt_gateway::domain::payload::PayloadLimits;
use mqtt_gateway::domain::routing::RoutingTable;
use mqtt_gateway::domain::routing_history::RoutingHistory;

use crate::log::{ModelLog, ModelReader};
use crate::oracle::{
    History, LANES, UNREADABLE, assert_behind, assert_nothing_passed_over, assert_numbers, assert_watermark,
};
use crate::seen::Seen;
use crate::sql::{FlowRow, Sql, Transaction};
use crate::steps::{End, Step, TOPICS};
use crate::worker::{Job, Order, Turn, Worker};

const FIRST_FLOWS: [&str; 6] = ["t0", "t0", "t1", "t1", "#", "t2"];
const MOST_LAGGING: usize = 2;

/// What is under way to the router.
enum News {
    Opened(Lane, OpenedLane),
    /// To the life of the router that waits for it.
    Reply(u32, Lane, i64, Reply),
}

enum Reply {
    Done(BatchOutcome),
    Fenced,
    /// The worker is gone and took the batch with it.
    Lost,
}

pub(crate) struct World {
    log: ModelLog,
    sql: Sql,
    lanes: Lanes<ModelReader>,
    tables: RoutingHistory,
    history: History,
    /// Lives of the router so far.
    router: u32,
    draining: bool,
    workers: Vec<Worker>,
    /// Batches in the hands of workers that were replaced and do not know it.
    zombies: Vec<Job>,
    /// Transactions whose connections are gone, and that the server has not ended yet.
    orphans: Vec<Transaction>,
    news: Vec<News>,
    /// Every message, with the flows it was for when it was appended.
    published: Vec<(Arc<Record>, Vec<FlowId>)>,
    /// A record may since be for other flows than when it was appended.
    process_restarted: bool,
    /// The numbers of deleted flows are not given again.
    next_flow: FlowId,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new() -> Self {
        let log = ModelLog::new();
        let mut sql = Sql::new(LANES);
        for (flow, topic) in (1..).zip(FIRST_FLOWS) {
            sql.flows.insert(flow, FlowRow { topic, enabled: true, last_id: 0, locked_elsewhere: false });
        }
        let mut world = Self {
            lanes: Lanes::new(LANES, &log.reader()),
            log,
            sql,
            tables: RoutingHistory::default(),
            history: History::default(),
            router: 0,
            draining: false,
            workers: Vec::new(),
            zombies: Vec::new(),
            orphans: Vec::new(),
            news: Vec::new(),
            published: Vec::new(),
            process_restarted: false,
            next_flow: 7,
            seen: Seen::default(),
        };
        world.start_process();
        world
    }

    pub(crate) fn perform(&mut self, step: Step) {
        match step {
            Step::Append { topic, readable, gap } => self.append(topic, readable, gap),
            Step::Sync => self.log.sync(),
            Step::Pump { tick, look_ahead } => self.pump(tick, look_ahead),
            Step::Work { lane, most, patient } => self.work(lane, most, patient),
            Step::End { lane, end } => self.end(lane, end),
            Step::Zombie { index, most, end } => self.zombie(index, most, end),
            Step::Orphan { index, commits } => self.orphan(index, commits),
            Step::Deliver { index } => self.deliver(index),
            Step::ReplaceWorker { lane, zombie } => self.replace_worker(lane, zombie),
            Step::RestartRouter => self.restart_router(),
            Step::RestartProcess { power_was_lost, commits } => self.restart_process(power_was_lost, commits),
            Step::Drain => self.draining = true,
            Step::Lock { flow, locked } => self.edit(flow, |row| row.locked_elsewhere = locked),
            Step::Enable { flow, enabled } => self.edit(flow, |row| row.enabled = enabled),
            Step::Retopic { flow, topic } => self.edit(flow, |row| row.topic = TOPICS[topic]),
            Step::Delete { flow } => self.delete(flow),
            Step::Create { topic } => self.create(topic),
            Step::Reload => self.reload(),
            Step::FailReads { count } => self.log.fail_reads(count),
        }
        assert_behind(&self.sql);
        assert_watermark(&self.sql, &self.history, self.lanes.watermark(), &self.log.records());
    }

    // ---- the broker and the operator -------------------------------------------------------------

    fn append(&mut self, topic: usize, readable: bool, gap: u64) {
        // The connection to the broker is closed before the inbox is drained.
        if self.draining {
            return;
        }
        self.log.append(TOPICS[topic], if readable { "{}" } else { UNREADABLE }, &[], gap);
        let record = self.log.records().pop().expect("it was appended just now");
        let due = (0..LANES).flat_map(|lane| self.history.due(&record, lane)).collect();
        self.published.push((record, due));
    }

    fn edit(&mut self, flow: usize, change: impl FnOnce(&mut FlowRow)) {
        let flow = self.sql.flows.keys().copied().nth(flow % self.sql.flows.len().max(1));
        if let Some(row) = flow.and_then(|flow| self.sql.row(flow)) {
            change(row);
        }
    }

    fn delete(&mut self, flow: usize) {
        let flow = self.sql.flows.keys().copied().nth(flow % self.sql.flows.len().max(1));
        let Some(flow) = flow else { return };
        if self.sql.row(flow).is_some_and(|row| !row.locked_elsewhere) {
            self.sql.flows.remove(&flow);
        }
    }

    fn create(&mut self, topic: usize) {
        let row = FlowRow { topic: TOPICS[topic], enabled: true, last_id: 0, locked_elsewhere: false };
        self.sql.flows.insert(self.next_flow, row);
        self.next_flow += 1;
    }

    // ---- the router -----------------------------------------------------------------------------

    fn reload(&mut self) {
        let running = self.sql.flows.iter().filter(|(_, row)| row.enabled);
        let running: Vec<_> = running.map(|(flow, row)| (*flow, row.topic)).collect();
        let flow = |(id, topic): &(FlowId, &str)| Flow {
            id: *id,
            code: format!("F{id}"),
            topic: (*topic).to_owned(),
            action: "STORE_DB".to_owned(),
            endpoint_url: None,
        };
        let table = RoutingTable::new(running.iter().map(flow).collect()).0;
        self.tables.push(self.log.next_offset(), Arc::new(table));
        self.history.push(self.log.next_offset(), running);
    }

    fn pump(&mut self, tick: bool, look_ahead: usize) {
        if tick {
            self.lanes.tick();
        }
        if self.tables.is_empty() {
            return;
        }
        for lane in 0..LANES {
            let gathering = Gathering {
                tables: &self.tables,
                filter_of: &|_| None,
                lanes: LANES,
                payload: &PayloadLimits::default(),
                max_pairs: 3,
                max_bytes: usize::MAX,
                look_ahead,
                most_lagging: MOST_LAGGING,
            };
            let cursor = self.lanes.get_mut(lane).expect("there is such a lane");
            let Ok((Some(batch), _)) = cursor.next_batch(&gathering, tick || self.draining) else { continue };
            assert!(batch.from < batch.next || matches!(batch.scope, Scope::Lagging { .. }));
            let job = Job::new(batch, self.router, self.history.clone());
            self.workers[lane as usize].orders.push_back(Order::Process(job));
        }
        self.release();
        if self.draining && self.lanes.are_drained(self.log.next_offset()) {
            self.stop();
        }
    }

    fn release(&mut self) {
        let watermark = self.lanes.watermark();
        self.tables.forget_below(watermark);
        let before = self.log.records().len();
        self.log.release(watermark);
        self.seen.released += u64::from(self.log.records().len() < before);
    }

    /// All is in SQL, as far as the lanes know: the process ends in order.
    fn stop(&mut self) {
        for record in self.log.records() {
            for lane in 0..LANES {
                for flow in self.history.due(&record, lane) {
                    let lags = self.sql.lagging.get(&flow).is_some_and(|at| *at <= record.offset);
                    assert!(
                        lags || self.sql.is_settled(flow, &record),
                        "DRAINED: flow {flow} never got {record:?}"
                    );
                }
            }
        }
        self.seen.drained += 1;
        self.log.sync();
        self.restart_process(false, true);
    }

    fn deliver(&mut self, index: usize) {
        if self.news.is_empty() {
            return;
        }
        match self.news.remove(index % self.news.len()) {
            News::Opened(lane, opened) => self.lanes.open(lane, &opened),
            News::Reply(router, ..) if router != self.router => {}
            News::Reply(_, lane, epoch, Reply::Done(outcome)) => self.lanes.answered(lane, epoch, &outcome),
            News::Reply(_, lane, epoch, Reply::Fenced) => {
                if self.lanes.close(lane, epoch) {
                    self.workers[lane as usize].orders.push_back(Order::Open);
                }
            }
            News::Reply(_, lane, epoch, Reply::Lost) => drop(self.lanes.close(lane, epoch)),
        }
    }

    // ---- the workers ----------------------------------------------------------------------------

    fn work(&mut self, lane: Lane, most: usize, patient: bool) {
        let worker = &mut self.workers[lane as usize];
        if worker.job.is_none() {
            match worker.orders.pop_front() {
                None => return,
                Some(Order::Process(job)) => worker.job = Some(job),
                Some(Order::Open) => {
                    match self.sql.take_over(lane, |flow| lane_of(flow, LANES) == lane) {
                        Some(opened) => self.news.push(News::Opened(lane, opened)),
                        None => worker.orders.push_front(Order::Open),
                    }
                    return;
                }
            }
        }
        if let Some(mut job) = worker.job.take() {
            let turn = job.attempt(&mut self.sql, most, patient);
            if let Some(job) = self.settle_turn(job, turn) {
                self.workers[lane as usize].job = Some(job);
            }
        }
    }

    fn end(&mut self, lane: Lane, end: End) {
        let Some(mut job) = self.workers[lane as usize].job.take() else { return };
        let turn = self.end_transaction(&mut job, end);
        if let Some(job) = self.settle_turn(job, turn) {
            self.workers[lane as usize].job = Some(job);
        }
    }

    fn zombie(&mut self, index: usize, most: usize, end: Option<End>) {
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
            self.zombies.push(job);
        }
    }

    fn end_transaction(&mut self, job: &mut Job, end: End) -> Turn {
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

    fn orphan(&mut self, index: usize, commits: bool) {
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

    fn commit(&mut self, transaction: &Transaction) {
        self.sql.commit(transaction);
        self.seen.commit(transaction);
        assert_numbers(&self.sql);
        assert_nothing_passed_over(&self.sql, transaction, &self.log.records());
    }

    /// The job, if it goes on; else its reply is under way.
    fn settle_turn(&mut self, job: Job, turn: Turn) -> Option<Job> {
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

    fn replace_worker(&mut self, lane: Lane, zombie: bool) {
        let old = std::mem::take(&mut self.workers[lane as usize]);
        self.workers[lane as usize].orders.push_back(Order::Open);
        let waiting = old.orders.into_iter().filter_map(|order| match order {
            Order::Process(job) => Some(job),
            Order::Open => None,
        });
        for job in old.job.into_iter().chain(waiting) {
            if zombie {
                self.zombies.push(job);
            } else {
                let (router, epoch) = (job.router, job.batch.epoch);
                self.news.push(News::Reply(router, lane, epoch, Reply::Lost));
                self.orphans.extend(job.transaction);
            }
        }
    }

    // ---- restarts -------------------------------------------------------------------------------

    fn restart_router(&mut self) {
        self.router += 1;
        self.lanes = Lanes::new(LANES, &self.log.reader());
        for worker in &mut self.workers {
            worker.orders.push_back(Order::Open);
        }
    }

    /// Everything in memory is gone; what was under way at the server ends now or later.
    fn restart_process(&mut self, power_was_lost: bool, commits: bool) {
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

    fn start_process(&mut self) {
        self.tables = RoutingHistory::default();
        self.history = History::default();
        self.draining = false;
        self.news.clear();
        self.workers = (0..LANES).map(|_| Worker::default()).collect();
        self.restart_router();
    }

    // ---- the end --------------------------------------------------------------------------------

    /// Nothing fails any more and nobody holds a lock: all must come to rest, with all in SQL.
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
            self.perform(Step::Pump { tick: true, look_ahead: 9 });
            if self.is_at_rest() {
                self.assert_complete();
                return;
            }
        }
        panic!("STUCK: {} flows lag, lanes stand at {:?}", self.sql.lagging.len(), self.sql.lanes);
    }

    fn is_at_rest(&self) -> bool {
        self.zombies.is_empty()
            && self.sql.lagging.is_empty()
            && self.lanes.are_drained(self.log.next_offset())
            && self.lanes.watermark() >= self.log.next_offset()
    }

    /// Each message is there once for each of its flows; where the process was restarted, which
    /// flows those were may have changed with the table, and what was said step by step has to do.
    fn assert_complete(&self) {
        for lane in &self.sql.lanes {
            assert!(lane.next_offset >= self.log.next_offset(), "the lanes are at the end");
        }
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
