//! The delivery's database work: loads, outcomes of posts, the lease, and sweeps.
//!
//! A failing database only costs time: outcomes are kept and written again, loads are repeated, and all work pauses
//! together. A connection that accepts a statement and does not answer is replaced.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use chrono::Utc;

use super::super::report::{kind_of, whole_milliseconds};
use super::DeliveryActor;
use crate::delivery::queue::LoadOrder;
use crate::delivery::redaction::redacted;
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox_work::{Destination, FlowDestination, Outcome, WaitingFlow};
use crate::domain::retry::Backoff;
use crate::store::outbox::{LEASE, Lease, Outbox};
use crate::store::{
    Database, ErrorClass, Recovery, StoreError, Waiting, answer_timeout, forget_keys, with_timeout,
};

/// One load, one write and one maintenance task may run at a time.
const CONNECTIONS: u32 = 3;

/// Delay after the first outcome before outcomes are written. A full batch is written at once.
const FLUSH_DELAY: Duration = Duration::from_millis(50);
const FLUSH_AT: usize = 512;

/// Interval between two renewals. Three renewals may fail before the lease expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// Interval between two sweeps for unannounced and abandoned rows.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Delay after a database error.
const PAUSE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(10) };

/// Pending and running database work.
#[derive(Debug, Default)]
pub(super) struct TableWork {
    /// `None` until the database was reached.
    outbox: Option<Outbox>,
    /// A sweep has determined the rows that existed at startup.
    ready: bool,
    /// Outcomes of posts that are not written yet.
    outcomes: Vec<Outcome>,
    flush: FlushState,
    tasks: BTreeSet<MaintenanceTask>,
    /// A maintenance task is running.
    maintaining: bool,
    /// Consecutive failures.
    failures: u32,
    /// No work starts until the delay after a failure has passed.
    paused: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FlushState {
    #[default]
    Idle,
    /// The timer is running.
    Soon,
    Due,
    Running,
}

/// Result of a sweep.
struct Swept {
    /// Rows taken over from other processes.
    claimed: u64,
    waiting: Vec<WaitingFlow>,
    destinations: Vec<FlowDestination>,
}

/// Work besides loads and writes. One task runs at a time, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MaintenanceTask {
    /// Renew the lease.
    Renewal,
    /// Count the rows of the table and load every flow that has some.
    ThoroughSweep,
    /// Count the rows of the table; most of them should be in memory.
    RoutineSweep,
    /// Delete expired keys of messages. It runs here because it shares connection, schedule and retries with the other
    /// tasks.
    Forgetting,
}

impl TableWork {
    /// Whether messages may be posted from memory.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the last database access failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Requests a maintenance task.
    pub(super) fn want(&mut self, task: MaintenanceTask) {
        self.tasks.insert(task);
    }

    /// Adds the outcome of a post to the next write.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    fn next_task(&mut self) -> Option<MaintenanceTask> {
        if self.maintaining {
            return None;
        }
        let task = self.tasks.pop_first()?;
        if task == MaintenanceTask::ThoroughSweep {
            self.tasks.remove(&MaintenanceTask::RoutineSweep);
        }
        self.maintaining = true;
        Some(task)
    }
}

impl DeliveryActor {
    /// Connects, retrying until it succeeds, and then starts the periodic work.
    pub(super) fn open_table(&mut self, context: &mut Context<Self>) {
        let settings = self.parts.database.clone();
        let connecting = async move { Database::connect(&settings, CONNECTIONS).await };
        context.spawn(connecting.into_actor(self).map(|connected, delivery, context| match connected {
            Ok(database) => delivery.opened(context, database),
            Err(error) => {
                let pause = delivery.failed_on_table("connecting", &error);
                context.run_later(pause, Self::open_table);
            }
        }));
    }

    fn opened(&mut self, context: &mut Context<Self>, database: Database) {
        self.table.outbox = Some(Outbox::new(database, self.parts.inbox_id.clone()));
        self.table.want(MaintenanceTask::Renewal);
        self.table.want(MaintenanceTask::ThoroughSweep);
        self.table.want(MaintenanceTask::Forgetting);
        let regular = [
            (RENEW_INTERVAL, MaintenanceTask::Renewal),
            (SWEEP_INTERVAL, MaintenanceTask::RoutineSweep),
            (SWEEP_INTERVAL, MaintenanceTask::Forgetting),
        ];
        for (every, task) in regular {
            context.run_interval(every, move |delivery, context| {
                delivery.table.want(task);
                delivery.pump(context);
            });
        }
        self.pump(context);
    }

    /// Starts all work that is due and not running.
    pub(super) fn work_on_table(&mut self, context: &mut Context<Self>) {
        if let Some(outbox) = self.table.outbox.as_mut().filter(|outbox| outbox.database().is_superseded()) {
            *outbox = outbox.anew();
        }
        let Some(outbox) = self.table.outbox.clone().filter(|_| !self.table.paused) else {
            return;
        };
        self.flush_outcomes(context, &outbox);
        if self.table.ready {
            self.load(context, &outbox);
        }
        match self.table.next_task() {
            Some(MaintenanceTask::Renewal) => self.renew(context, outbox),
            Some(MaintenanceTask::Forgetting) => self.forget_keys(context, outbox.database().clone()),
            Some(sweep) => self.sweep(context, outbox, sweep),
            None => {}
        }
    }

    fn flush_outcomes(&mut self, context: &mut Context<Self>, outbox: &Outbox) {
        if self.table.flush == FlushState::Running || self.table.outcomes.is_empty() {
            return;
        }
        let at_once = self.table.flush == FlushState::Due
            || self.draining
            || self.queue.flush_is_urgent()
            || self.table.outcomes.len() >= FLUSH_AT;
        if at_once {
            self.flush_now(context, outbox.clone());
        } else if self.table.flush == FlushState::Idle {
            self.table.flush = FlushState::Soon;
            context.run_later(FLUSH_DELAY, |delivery, context| {
                if delivery.table.flush == FlushState::Soon {
                    delivery.table.flush = FlushState::Due;
                    delivery.pump(context);
                }
            });
        }
    }

    fn flush_now(&mut self, context: &mut Context<Self>, outbox: Outbox) {
        self.table.flush = FlushState::Running;
        let outcomes = std::mem::take(&mut self.table.outcomes);
        let writing =
            async move { (with_timeout(answer_timeout(), outbox.write_outcomes(&outcomes)).await, outcomes) };
        context.spawn(writing.into_actor(self).map(|(written, outcomes), delivery, context| {
            delivery.table.flush = FlushState::Idle;
            match written {
                Ok(()) => delivery.apply_flushed(&outcomes),
                Err(error) => {
                    let later = std::mem::replace(&mut delivery.table.outcomes, outcomes);
                    delivery.table.outcomes.extend(later);
                    delivery.pause(context, "writing what was delivered", error);
                }
            }
            delivery.pump(context);
        }));
    }

    fn apply_flushed(&mut self, outcomes: &[Outcome]) {
        self.record_success();
        for outcome in outcomes.iter().filter(|outcome| outcome.removes_row()) {
            let flow = outcome.key().flow_id;
            self.parts.gauge.subtract(flow, 1);
            if let Some(at_us) = self.queue.oldest_at_us(flow) {
                self.parts.gauge.set_oldest(flow, at_us);
            }
        }
        for outcome in outcomes {
            if let Outcome::GivenUp { reason, .. } = outcome {
                self.parts.observed.metrics.dead_letters.count(*reason);
            }
        }
        self.queue.flushed(outcomes, self.now());
    }

    fn load(&mut self, context: &mut Context<Self>, outbox: &Outbox) {
        let Some(order) = self.queue.next_load(self.now()) else {
            return;
        };
        let outbox = outbox.clone();
        let loading = async move {
            let LoadOrder { flow, after, max_messages, max_bytes } = order;
            with_timeout(answer_timeout(), outbox.load(flow, after, max_messages, max_bytes)).await
        };
        context.spawn(loading.into_actor(self).map(move |loaded, delivery, context| {
            let now = delivery.now();
            match loaded {
                Ok(loaded) => {
                    delivery.record_success();
                    delivery.queue.loaded(order.flow, loaded, now);
                }
                Err(error) => {
                    delivery.queue.load_failed(order.flow, now);
                    delivery.pause(context, "loading messages", error);
                }
            }
            delivery.pump(context);
        }));
    }

    fn renew(&mut self, context: &mut Context<Self>, outbox: Outbox) {
        let renewing = async move { with_timeout(answer_timeout(), outbox.renew_lease()).await };
        context.spawn(renewing.into_actor(self).map(|renewed, delivery, context| {
            delivery.table.maintaining = false;
            match renewed {
                Ok(Lease::Held) => delivery.record_success(),
                Ok(Lease::Acquired) => delivery.begin_lease(),
                Err(error) => {
                    delivery.table.want(MaintenanceTask::Renewal);
                    delivery.pause(context, "renewing the lease on the outbox", error);
                }
            }
            delivery.pump(context);
        }));
    }

    fn begin_lease(&mut self) {
        self.record_success();
        if self.table.ready {
            log::warn!("The outbox lease expired: another process may post some messages again");
            self.queue.reload_all(self.now());
            self.table.want(MaintenanceTask::ThoroughSweep);
        }
    }

    fn sweep(&mut self, context: &mut Context<Self>, outbox: Outbox, sweep: MaintenanceTask) {
        let sweeping = async move {
            let claimed = outbox.claim_abandoned().await?;
            let waiting = outbox.waiting().await?;
            let flows: Vec<FlowId> = waiting.iter().map(|found| found.flow).collect();
            let destinations = outbox.destinations(&flows).await?;
            Ok::<_, StoreError>(Swept { claimed, waiting, destinations })
        };
        context.spawn(with_timeout(answer_timeout(), sweeping).into_actor(self).map(
            move |swept, delivery, context| {
                delivery.table.maintaining = false;
                match swept {
                    Ok(swept) => delivery.swept(sweep, swept),
                    Err(error) => {
                        delivery.table.want(sweep);
                        delivery.pause(context, "counting the outbox", error);
                    }
                }
                delivery.pump(context);
            },
        ));
    }

    fn swept(&mut self, sweep: MaintenanceTask, swept: Swept) {
        let Swept { claimed, waiting, destinations } = swept;
        self.record_success();
        let now_us = Utc::now().timestamp_micros();
        let oldest_at_us = |age: Duration| now_us.saturating_sub_unsigned(whole_micros(age));
        let counted = waiting.iter().map(|found| {
            (found.flow, Waiting { rows: found.rows, oldest_at_us: oldest_at_us(found.oldest_age) })
        });
        self.parts.gauge.replace(counted.collect());
        let now = self.now();
        if claimed > 0 {
            log::info!(messages = claimed; "Took over {claimed} messages of a process that no longer posts");
        }
        for changed in self.queue.follow(destinations, now) {
            let rows = waiting.iter().find(|found| found.flow == changed.flow).map_or(0, |found| found.rows);
            log_destination(&changed, rows);
        }
        if sweep == MaintenanceTask::ThoroughSweep || claimed > 0 {
            self.queue.spill(waiting.iter().map(|found| found.flow), now);
        } else {
            self.queue.swept(&waiting, now);
        }
        if !std::mem::replace(&mut self.table.ready, true) {
            let rows: u64 = waiting.iter().map(|found| found.rows).sum();
            log::info!(messages = rows, flows = waiting.len(); "Delivery is ready, {rows} messages wait in the outbox");
            self.tick();
        }
    }

    /// Deletes expired keys in small portions, so that no other maintenance task waits for long.
    ///
    /// A key is kept for twice its validity, because a repetition may wait in an inbox for the validity before its key
    /// is checked.
    fn forget_keys(&mut self, context: &mut Context<Self>, database: Database) {
        let age = self.parts.keys_known_for.saturating_mul(2);
        let forgetting = async move { with_timeout(answer_timeout(), forget_keys(&database, age)).await };
        context.spawn(forgetting.into_actor(self).map(|forgotten, delivery, context| {
            delivery.table.maintaining = false;
            match forgotten {
                Ok(more) => {
                    delivery.record_success();
                    if more {
                        delivery.table.want(MaintenanceTask::Forgetting);
                    }
                }
                // The next run retries.
                Err(error) => delivery.pause(context, "forgetting keys of messages", error),
            }
            delivery.pump(context);
        }));
    }

    fn record_success(&mut self) {
        self.parts.observed.metrics.database.mark_up();
        if std::mem::take(&mut self.table.failures) > 0 {
            log::info!("The delivery can access its tables again");
        }
    }

    /// Pauses the work. Waits for new connections instead, if they may help.
    ///
    /// A write that succeeded on the old connections can be repeated safely.
    fn pause(&mut self, context: &mut Context<Self>, doing: &str, error: StoreError) {
        let pause = self.failed_on_table(doing, &error);
        if std::mem::replace(&mut self.table.paused, true) {
            return;
        }
        let outbox = self.table.outbox.clone();
        context.spawn(recover(outbox, error).into_actor(self).map(
            move |(outbox, recovered), delivery, context| {
                delivery.table.outbox = outbox;
                let pause = match recovered {
                    Ok(Recovery::Mended) => Duration::ZERO,
                    Ok(Recovery::Unchanged | Recovery::Renewed) => pause,
                    Err(error) => {
                        log::warn!("Outbox: {error}");
                        pause
                    }
                };
                context.run_later(pause, |delivery, context| {
                    delivery.table.paused = false;
                    delivery.pump(context);
                });
            },
        ));
    }

    fn failed_on_table(&mut self, doing: &str, error: &StoreError) -> Duration {
        self.table.failures = self.table.failures.saturating_add(1);
        self.parts.observed.metrics.database.failed(kind_of(error));
        let pause = PAUSE.delay(self.table.failures, rand::random());
        let retry_in_ms = whole_milliseconds(pause);
        if error.class() == ErrorClass::Deadlock {
            log::debug!(retry_in_ms; "Outbox: {doing} gave way to another transaction: {error}");
        } else {
            log::warn!(retry_in_ms; "Outbox: {doing} failed, nothing is lost, trying again: {error}");
        }
        self.tick();
        pause
    }
}

/// Logs a changed destination, once per change.
fn log_destination(changed: &FlowDestination, messages: u64) {
    let FlowDestination { flow: flow_id, code, destination } = changed;
    let (flow_id, flow) = (*flow_id, code.as_str());
    match destination {
        Destination::Url(url) => {
            let endpoint = redacted(url);
            let endpoint = endpoint.as_str();
            log::info!(
                flow_id, flow, endpoint, messages;
                "The {messages} waiting posts of flow {flow} go to endpoint {endpoint} from now on"
            );
        }
        Destination::OnHold(reason) => log::warn!(
            flow_id, flow, messages;
            "The {messages} waiting posts of flow {flow} stay in the outbox: {reason}"
        ),
        Destination::Deleted => log::error!(
            flow_id, messages;
            "The flow with the id {flow_id} was deleted: its {messages} waiting posts become dead letters ({})",
            DeadLetterReason::FlowDeleted
        ),
    }
}

/// The outbox after the database tried to recover from `error`.
async fn recover(
    mut outbox: Option<Outbox>,
    error: StoreError,
) -> (Option<Outbox>, Result<Recovery, StoreError>) {
    let recovered = match outbox.as_mut() {
        Some(outbox) => outbox.recover(&error).await,
        None => Ok(Recovery::Unchanged),
    };
    (outbox, recovered)
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
