//! The router: tables, batches, replies and releases, as in `actors/router.rs`.

use std::sync::Arc;

use mqtt_gateway::domain::batch::Scope;
use mqtt_gateway::domain::flow::Flow;
use mqtt_gateway::domain::lanes::{BatchContext, IdleLane};
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::domain::payload::PayloadLimits;
use mqtt_gateway::domain::routing::RoutingTable;

use super::{MOST_LAGGING, News, Reply, World};
use crate::oracle::LANES;
use crate::worker::{Job, Order};

impl World {
    pub(super) fn reload(&mut self) {
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

    pub(super) fn pump(&mut self, tick: bool, scan_limit: usize) {
        if tick {
            self.lanes.tick();
        }
        if !self.tables.is_current() {
            return;
        }
        for lane in 0..LANES {
            let batch_context = BatchContext {
                tables: &self.tables,
                binding_of: &|_| None,
                lanes: LANES,
                payload: &PayloadLimits::default(),
                max_pairs: 3,
                max_bytes: usize::MAX,
                scan_limit,
                max_lagging: MOST_LAGGING,
            };
            let idle = if tick || self.draining { IdleLane::StoreOffset } else { IdleLane::Skip };
            let next = self.lanes.next_batch(lane, &batch_context, idle);
            let Ok(Some((batch, _))) = next else { continue };
            assert!(batch.from < batch.next || matches!(batch.scope, Scope::Lagging { .. }));
            let job = Job::new(batch, self.router, self.history.clone());
            self.workers[lane as usize].orders.push_back(Order::Process(job));
        }
        self.release();
        if self.draining && self.lanes.are_drained(self.log.next_offset()) {
            self.stop();
        }
    }

    pub(super) fn release(&mut self) {
        let Some(released) = self.lanes.released() else { return };
        self.progress = released.committed.to_vec();
        self.tables.forget_below(released.rescan_offset.min(self.log.first_offset()));
        self.log.release(released.watermark);
    }

    /// All is in SQL, as far as the lanes know: the process ends in order.
    pub(super) fn stop(&mut self) {
        // Where the database went back unnoticed, the next start notices.
        if self.set_back.is_empty() {
            for lane in &self.sql.lanes {
                assert!(lane.next_offset >= self.log.next_offset(), "DRAINED: {lane:?}");
            }
        }
        self.seen.drained += 1;
        self.log.sync();
        self.restart_process(false, true);
    }

    pub(super) fn deliver(&mut self, index: usize) {
        if self.news.is_empty() {
            return;
        }
        match self.news.remove(index % self.news.len()) {
            News::Opened(lane, opened, restores) => self.opened(lane, &opened, restores),
            News::Reply(router, ..) if router != self.router => {}
            News::Reply(_, lane, epoch, Reply::Done(outcome)) => {
                let replayed = self.lanes.apply_outcome(lane, epoch, &outcome);
                self.seen.replayed += u64::from(replayed.is_some());
            }
            News::Reply(_, lane, epoch, Reply::Fenced | Reply::Lost) => {
                if self.lanes.close(lane, epoch) {
                    self.workers[lane as usize].orders.push_back(Order::Open);
                }
            }
        }
    }
}
