//! The lanes as the router drives them, between a model of the inbox and a model of the database.

mod rest;
mod restarts;
mod restore;
mod router;
mod workers;

use std::collections::BTreeSet;
use std::sync::Arc;

use mqtt_gateway::domain::batch::{BatchOutcome, Lane, OpenedLane};
use mqtt_gateway::domain::lanes::Lanes;
use mqtt_gateway::domain::message::{FlowId, Offset, Record};
use mqtt_gateway::domain::routing_history::RoutingHistory;

use crate::log::{ModelLog, ModelReader};
use crate::oracle::{History, LANES, UNREADABLE, assert_behind, assert_watermark};
use crate::seen::Seen;
use crate::sql::{FlowRow, Sql, Transaction};
use crate::steps::{Step, TOPICS};
use crate::worker::{Job, Worker};

const FIRST_FLOWS: [&str; 6] = ["t0", "t0", "t1", "t1", "#", "t2"];
const MOST_LAGGING: usize = 2;

/// Messages to the router.
enum News {
    /// With the number of restores until then.
    Opened(Lane, OpenedLane, u64),
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
    /// The persistent state of the lanes.
    progress: Vec<Offset>,
    backup: Option<Sql>,
    /// Lanes that the database has set back, until the router has heard where they stand.
    set_back: BTreeSet<Lane>,
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
            lanes: Lanes::new(LANES, &log.reader(), Vec::new()),
            progress: Vec::new(),
            backup: None,
            set_back: BTreeSet::new(),
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
            Step::Pump { tick, scan_limit } => self.pump(tick, scan_limit),
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
            Step::Backup => self.backup = Some(self.sql.backup()),
            Step::Restore => self.restore(),
            Step::Heartbeat => self.heartbeat(),
            Step::Expire => self.expire(),
        }
        assert_behind(&self.sql);
        self.forget_what_is_over();
        if self.set_back.is_empty() {
            assert_watermark(&self.sql, &self.history, self.lanes.watermark(), &self.log.records());
        }
    }

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
}
