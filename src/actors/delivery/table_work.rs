//! Performs the delivery's database work: loads, outcomes of posts, the lease, and sweeps.
//!
//! A connection that accepts a statement and does not answer is replaced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use chrono::Utc;

use super::super::report::kind_of;
use super::DeliveryActor;
use crate::delivery::redaction::redacted;
use crate::delivery::table_work::MaintenanceTask;
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox_work::{Destination, FlowDestination, LoadOrder, Outcome, WaitingFlow};
use crate::domain::posting::age_warnings::AgeStage;
use crate::observe::{timestamp, whole_milliseconds};
use crate::store::outbox::{Lease, Outbox};
use crate::store::{Database, ErrorClass, Recovery, StoreError, Waiting, answer_timeout, with_timeout};

/// One load, one write and one maintenance task may run at a time.
const CONNECTIONS: u32 = 3;

/// Result of a sweep.
struct Swept {
    /// Rows taken over from other processes.
    claimed: u64,
    waiting: Vec<WaitingFlow>,
    destinations: Vec<FlowDestination>,
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
        self.outbox = Some(Outbox::new(database, self.parts.inbox_id.clone()));
        self.work.connected(self.now());
        self.pump(context);
    }

    /// Starts all work that is due and not running.
    pub(super) fn work_on_table(&mut self, context: &mut Context<Self>) {
        if let Some(outbox) = self.outbox.as_mut().filter(|outbox| outbox.database().is_superseded()) {
            *outbox = outbox.anew();
        }
        let now = self.now();
        if !self.work.begin(now) {
            return;
        }
        let Some(outbox) = self.outbox.clone() else { return };
        if let Some(outcomes) = self.work.next_flush(&self.queue, self.draining, now) {
            self.flush(context, outbox.clone(), outcomes);
        }
        if let Some(order) = self.work.next_load(&mut self.queue, now) {
            self.load(context, outbox.clone(), order);
        }
        match self.work.next_task(now) {
            Some(MaintenanceTask::Renewal) => self.renew(context, outbox),
            Some(MaintenanceTask::FollowRows) => self.follow_rows(context, outbox),
            Some(sweep) => self.sweep(context, outbox, sweep),
            None => {}
        }
    }

    fn flush(&mut self, context: &mut Context<Self>, outbox: Outbox, outcomes: Vec<Outcome>) {
        let writing =
            async move { (with_timeout(answer_timeout(), outbox.write_outcomes(&outcomes)).await, outcomes) };
        context.spawn(writing.into_actor(self).map(|(written, outcomes), delivery, context| {
            match written {
                Ok(()) => delivery.apply_flushed(&outcomes),
                Err(error) => {
                    delivery.work.flush_failed(outcomes);
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
            if let Outcome::GivenUp { key, reason, .. } = outcome {
                self.parts.observed.metrics.dead_letters.count(*reason);
                if let Some(event) = self.unwritten_dead.remove(key) {
                    self.parts.observed.events.emit(event);
                }
            }
        }
        self.work.flushed();
        self.queue.flushed(outcomes, self.now());
    }

    fn load(&mut self, context: &mut Context<Self>, outbox: Outbox, order: LoadOrder) {
        let loading = async move { with_timeout(answer_timeout(), outbox.load(&order)).await };
        context.spawn(loading.into_actor(self).map(move |loaded, delivery, context| {
            let now = delivery.now();
            match loaded {
                Ok(loaded) => {
                    delivery.record_success();
                    if delivery.queue.loaded(order.flow, loaded, now) {
                        log_behind(order.flow);
                    }
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
        let renewing = async move {
            let lease = outbox.renew_lease().await?;
            Ok::<_, StoreError>((lease, outbox.has_abandoned().await?))
        };
        context.spawn(with_timeout(answer_timeout(), renewing).into_actor(self).map(
            |renewed, delivery, context| {
                delivery.work.task_ended();
                match renewed {
                    Ok((lease, has_abandoned)) => {
                        match lease {
                            Lease::Held if delivery.work.holds_lease(delivery.now()) => delivery.keep_lease(),
                            lease => delivery.begin_lease(lease),
                        }
                        if has_abandoned {
                            // A sweep claims them.
                            delivery.work.want(MaintenanceTask::RoutineSweep);
                        }
                    }
                    Err(error) => {
                        delivery.work.want(MaintenanceTask::Renewal);
                        delivery.pause(context, "renewing the lease on the outbox", error);
                    }
                }
                delivery.pump(context);
            },
        ));
    }

    fn keep_lease(&mut self) {
        self.record_success();
        self.work.lease_renewed();
    }

    fn begin_lease(&mut self, lease: Lease) {
        self.record_success();
        if self.work.lease_begun(&mut self.queue, self.born.elapsed()) {
            log::warn!("The outbox lease may have expired: another process may post some messages again");
        }
        if lease == Lease::Acquired {
            // Outcomes that were not written may be dropped with it.
            self.unwritten_dead.clear();
        }
    }

    fn sweep(&mut self, context: &mut Context<Self>, outbox: Outbox, sweep: MaintenanceTask) {
        let gauge = Arc::clone(&self.parts.gauge);
        let sweeping = async move {
            let claimed = outbox.claim_abandoned().await?;
            let waiting = outbox.waiting().await?;
            // At once: workers add to the numbers, and writes subtract from them.
            gauge.replace(counted(&waiting));
            let flows: Vec<FlowId> = waiting.iter().map(|found| found.flow).collect();
            let destinations = outbox.destinations(&flows).await?;
            outbox.record_pauses(&destinations).await?;
            Ok::<_, StoreError>(Swept { claimed, waiting, destinations })
        };
        context.spawn(with_timeout(answer_timeout(), sweeping).into_actor(self).map(
            move |swept, delivery, context| {
                delivery.work.task_ended();
                match swept {
                    Ok(swept) => delivery.swept(sweep, swept),
                    Err(error) => {
                        // It may have claimed rows before it failed.
                        delivery.work.want(MaintenanceTask::ThoroughSweep);
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
        let now = self.now();
        if claimed > 0 {
            log::info!(messages = claimed; "Took over {claimed} messages of a process that no longer posts");
        }
        let addressed = addressed(&destinations);
        self.follow(destinations);
        self.warn_of_age(&waiting, &addressed);
        if self.work.swept(sweep, claimed, &waiting, &mut self.queue, now) {
            let rows: u64 = waiting.iter().map(|found| found.rows).sum();
            log::info!(messages = rows, flows = waiting.len(); "Delivery is ready, {rows} messages wait in the outbox");
            self.tick();
        }
    }

    /// Reads the rows of the flows with waiting messages.
    fn follow_rows(&mut self, context: &mut Context<Self>, outbox: Outbox) {
        let flows = self.queue.waiting_flows();
        let reading = async move {
            let read = async {
                let destinations = outbox.destinations(&flows).await?;
                let pauses = if flows.is_empty() { HashMap::new() } else { outbox.pauses(None).await? };
                Ok::<_, StoreError>((destinations, pauses))
            };
            with_timeout(answer_timeout(), read).await
        };
        context.spawn(reading.into_actor(self).map(|read, delivery, context| {
            delivery.work.task_ended();
            match read {
                Ok((destinations, pauses)) => {
                    delivery.record_success();
                    delivery.follow(destinations);
                    delivery.queue.resume(&pauses, delivery.now());
                }
                Err(error) => delivery.pause(context, "reading the flows of posts", error),
            }
            delivery.pump(context);
        }));
    }

    fn follow(&mut self, destinations: Vec<FlowDestination>) {
        for changed in self.queue.follow(destinations, self.now()) {
            let rows = self.parts.gauge.waiting(changed.flow);
            log_destination(&changed, rows);
            // It records the beginning or the end of a pause.
            self.work.want(MaintenanceTask::RoutineSweep);
        }
    }

    /// Warns about flows whose oldest message is about to be given up.
    fn warn_of_age(&mut self, waiting: &[WaitingFlow], addressed: &BTreeMap<FlowId, String>) {
        let max_age = self.parts.max_age;
        let posted = waiting.iter().filter(|found| addressed.contains_key(&found.flow));
        for (stage, found) in self.age_warnings.update(posted, max_age) {
            let grace = self.queue.none_expires_before(found.flow).saturating_sub(self.now());
            let expires_in = max_age.saturating_sub(found.oldest_age).max(grace);
            let code = addressed.get(&found.flow).map_or("", String::as_str);
            log_age(stage, &found, code, expires_in);
        }
    }

    fn record_success(&mut self) {
        self.parts.observed.metrics.database.mark_up();
        if self.work.succeeded() {
            log::info!("The delivery can access its tables again");
        }
    }

    /// Pauses the work. Waits for new connections instead, if they may help.
    ///
    /// A write that succeeded on the old connections can be repeated safely.
    fn pause(&mut self, context: &mut Context<Self>, doing: &str, error: StoreError) {
        let pause = self.failed_on_table(doing, &error);
        if !self.work.pause() {
            return;
        }
        let outbox = self.outbox.clone();
        context.spawn(recover(outbox, error).into_actor(self).map(
            move |(outbox, recovered), delivery, context| {
                delivery.outbox = outbox;
                let pause = match recovered {
                    Ok(Recovery::Mended) => Duration::ZERO,
                    Ok(Recovery::Unchanged | Recovery::Renewed) => pause,
                    Err(error) => {
                        log::warn!("Outbox: {error}");
                        pause
                    }
                };
                delivery.work.resume_at(delivery.now() + pause);
                delivery.pump(context);
            },
        ));
    }

    fn failed_on_table(&mut self, doing: &str, error: &StoreError) -> Duration {
        self.parts.observed.metrics.database.failed(kind_of(error));
        let pause = self.work.failed(rand::random());
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

/// The numbers of waiting messages by flow.
fn counted(waiting: &[WaitingFlow]) -> HashMap<FlowId, Waiting> {
    let now_us = Utc::now().timestamp_micros();
    let oldest_at_us = |age: Duration| now_us.saturating_sub_unsigned(whole_micros(age));
    let counted = waiting.iter().map(|found| {
        (found.flow, Waiting { rows: found.rows, oldest_at_us: oldest_at_us(found.oldest_age) })
    });
    counted.collect()
}

/// The flows that have a URL, with their codes.
fn addressed(destinations: &[FlowDestination]) -> BTreeMap<FlowId, String> {
    let with_url = destinations.iter().filter(|found| matches!(found.destination, Destination::Url(_)));
    with_url.map(|found| (found.flow, found.code.clone())).collect()
}

fn log_age(stage: AgeStage, found: &WaitingFlow, flow: &str, expires_in: Duration) {
    let WaitingFlow { flow: flow_id, rows: messages, oldest_age, .. } = *found;
    let (used, oldest_seconds) = (stage.as_str(), oldest_age.as_secs());
    let expires_at = timestamp(SystemTime::now() + expires_in);
    let expires_at = expires_at.as_str();
    log::warn!(
        flow_id, flow, messages, oldest_seconds, expires_at;
        "The oldest of {messages} waiting posts of flow {flow} has waited for {oldest_seconds} s, {used} of \
         OUTBOX_MAX_AGE_SECONDS. After {expires_at} a failed attempt makes it a dead letter"
    );
}

/// Logs that a flow waits for another process.
fn log_behind(flow_id: FlowId) {
    log::info!(
        flow_id;
        "The posts of the flow with the id {flow_id} wait until another gateway has posted its earlier messages"
    );
}

/// Logs a changed destination, once per change.
fn log_destination(changed: &FlowDestination, messages: u64) {
    let FlowDestination { flow: flow_id, code, destination } = changed;
    let (flow_id, flow) = (*flow_id, code.as_str());
    match destination {
        Destination::Url(to) => {
            let endpoint = redacted(&to.url);
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
