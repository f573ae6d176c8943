//! The delivery's work on the table: loads, what became of posts, the lease, the sweep.
//!
//! A failing database costs nothing but time: what is to be written is kept and written again, a
//! load is made again, and meanwhile there is a pause for all of them together. One that takes a
//! statement and says nothing more is left for new connections.

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

/// A load, a write and a sweep may be under way at a time.
const CONNECTIONS: u32 = 3;

/// What became of posts is written so long after the first of them, or when there are so many.
const SETTLE_AFTER: Duration = Duration::from_millis(50);
const SETTLE_AT: usize = 512;

/// Three renewals may fail before a lease runs out.
const RENEW_EVERY: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// How often the table is looked through for rows nobody told of, and for abandoned ones.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Pause after a failure of the database.
const PAUSE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(10) };

/// What is to be done on the table, and what is under way.
#[derive(Debug, Default)]
pub(super) struct TableWork {
    /// None until the database was reached.
    outbox: Option<Outbox>,
    /// A sweep has told what the table held at the start.
    ready: bool,
    /// What became of posts, to be written.
    outcomes: Vec<Outcome>,
    settling: Settling,
    chores: BTreeSet<Chore>,
    /// A chore is under way.
    keeping_house: bool,
    /// Failures in a row.
    failures: u32,
    /// After a failure nothing begins for a while.
    paused: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Settling {
    #[default]
    Idle,
    /// A timer runs.
    Soon,
    Due,
    UnderWay,
}

/// What a sweep has found in the tables.
struct Swept {
    /// Rows that were taken over from others.
    claimed: u64,
    waiting: Vec<WaitingFlow>,
    destinations: Vec<FlowDestination>,
}

/// What is done besides loads and writes, one at a time, the first of them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chore {
    /// Renew the lease.
    Renewal,
    /// See what the table holds, and load every flow that has rows.
    ThoroughSweep,
    /// See what the table holds; memory should know most of it.
    RoutineSweep,
    /// Delete old keys of messages. It is no part of the delivery, which only happens to have the
    /// connection, the rhythm and the patience that it takes.
    Forgetting,
}

impl TableWork {
    /// From now on messages may be posted from memory.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The database refuses.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Asks for a chore to be done.
    pub(super) fn want(&mut self, chore: Chore) {
        self.chores.insert(chore);
    }

    /// Keeps what became of a post, to be written.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    fn next_chore(&mut self) -> Option<Chore> {
        if self.keeping_house {
            return None;
        }
        let chore = self.chores.pop_first()?;
        if chore == Chore::ThoroughSweep {
            self.chores.remove(&Chore::RoutineSweep);
        }
        self.keeping_house = true;
        Some(chore)
    }
}

impl DeliveryActor {
    /// Connects, however long it takes, and then begins the regular work.
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
        self.table.want(Chore::Renewal);
        self.table.want(Chore::ThoroughSweep);
        self.table.want(Chore::Forgetting);
        let regular = [
            (RENEW_EVERY, Chore::Renewal),
            (SWEEP_EVERY, Chore::RoutineSweep),
            (SWEEP_EVERY, Chore::Forgetting),
        ];
        for (every, chore) in regular {
            context.run_interval(every, move |delivery, context| {
                delivery.table.want(chore);
                delivery.pump(context);
            });
        }
        self.pump(context);
    }

    /// Begins what is due and not yet under way.
    pub(super) fn work_on_table(&mut self, context: &mut Context<Self>) {
        if let Some(outbox) = self.table.outbox.as_mut().filter(|outbox| outbox.database().is_superseded()) {
            *outbox = outbox.anew();
        }
        let Some(outbox) = self.table.outbox.clone().filter(|_| !self.table.paused) else {
            return;
        };
        self.settle(context, &outbox);
        if self.table.ready {
            self.load(context, &outbox);
        }
        match self.table.next_chore() {
            Some(Chore::Renewal) => self.renew(context, outbox),
            Some(Chore::Forgetting) => self.forget_keys(context, outbox.database().clone()),
            Some(sweep) => self.sweep(context, outbox, sweep),
            None => {}
        }
    }

    fn settle(&mut self, context: &mut Context<Self>, outbox: &Outbox) {
        if self.table.settling == Settling::UnderWay || self.table.outcomes.is_empty() {
            return;
        }
        let at_once = self.table.settling == Settling::Due
            || self.draining
            || self.queue.settling_is_urgent()
            || self.table.outcomes.len() >= SETTLE_AT;
        if at_once {
            self.settle_now(context, outbox.clone());
        } else if self.table.settling == Settling::Idle {
            self.table.settling = Settling::Soon;
            context.run_later(SETTLE_AFTER, |delivery, context| {
                if delivery.table.settling == Settling::Soon {
                    delivery.table.settling = Settling::Due;
                    delivery.pump(context);
                }
            });
        }
    }

    fn settle_now(&mut self, context: &mut Context<Self>, outbox: Outbox) {
        self.table.settling = Settling::UnderWay;
        let outcomes = std::mem::take(&mut self.table.outcomes);
        let writing =
            async move { (with_timeout(answer_timeout(), outbox.settle(&outcomes)).await, outcomes) };
        context.spawn(writing.into_actor(self).map(|(written, outcomes), delivery, context| {
            delivery.table.settling = Settling::Idle;
            match written {
                Ok(()) => delivery.settled(&outcomes),
                Err(error) => {
                    let later = std::mem::replace(&mut delivery.table.outcomes, outcomes);
                    delivery.table.outcomes.extend(later);
                    delivery.pause(context, "writing what was delivered", error);
                }
            }
            delivery.pump(context);
        }));
    }

    fn settled(&mut self, outcomes: &[Outcome]) {
        self.works_again();
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
        self.queue.settled(outcomes, self.now());
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
                    delivery.works_again();
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
            delivery.table.keeping_house = false;
            match renewed {
                Ok(Lease::Held) => delivery.works_again(),
                Ok(Lease::Begun) => delivery.begin_lease(),
                Err(error) => {
                    delivery.table.want(Chore::Renewal);
                    delivery.pause(context, "renewing the lease on the outbox", error);
                }
            }
            delivery.pump(context);
        }));
    }

    fn begin_lease(&mut self) {
        self.works_again();
        if self.table.ready {
            log::warn!("The lease on the outbox had run out: others may post some messages a second time");
            self.queue.reload_all(self.now());
            self.table.want(Chore::ThoroughSweep);
        }
    }

    fn sweep(&mut self, context: &mut Context<Self>, outbox: Outbox, sweep: Chore) {
        let sweeping = async move {
            let claimed = outbox.claim_abandoned().await?;
            let waiting = outbox.waiting().await?;
            let flows: Vec<FlowId> = waiting.iter().map(|found| found.flow).collect();
            let destinations = outbox.destinations(&flows).await?;
            Ok::<_, StoreError>(Swept { claimed, waiting, destinations })
        };
        context.spawn(with_timeout(answer_timeout(), sweeping).into_actor(self).map(
            move |swept, delivery, context| {
                delivery.table.keeping_house = false;
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

    fn swept(&mut self, sweep: Chore, swept: Swept) {
        let Swept { claimed, waiting, destinations } = swept;
        self.works_again();
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
        if sweep == Chore::ThoroughSweep || claimed > 0 {
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

    /// A bit at a time, so that no other chore waits for long.
    ///
    /// A key is kept for twice the time for which it is known: a repetition may wait in an inbox as
    /// long as that before it is looked for.
    fn forget_keys(&mut self, context: &mut Context<Self>, database: Database) {
        let age = self.parts.keys_known_for.saturating_mul(2);
        let forgetting = async move { with_timeout(answer_timeout(), forget_keys(&database, age)).await };
        context.spawn(forgetting.into_actor(self).map(|forgotten, delivery, context| {
            delivery.table.keeping_house = false;
            match forgotten {
                Ok(more) => {
                    delivery.works_again();
                    if more {
                        delivery.table.want(Chore::Forgetting);
                    }
                }
                // The next time is soon enough.
                Err(error) => delivery.pause(context, "forgetting keys of messages", error),
            }
            delivery.pump(context);
        }));
    }

    fn works_again(&mut self) {
        self.parts.observed.metrics.database.mark_up();
        if std::mem::take(&mut self.table.failures) > 0 {
            log::info!("The tables of the delivery can be read and written again");
        }
    }

    /// Stops the work for a while, or until its connections are replaced, where that may help.
    ///
    /// A write that went through on the old connections may be repeated without harm.
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
                    Ok(Recovery::Kept | Recovery::Renewed) => pause,
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

/// Said once, when it is found out.
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
        None => Ok(Recovery::Kept),
    };
    (outbox, recovered)
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
