//! Encoder for all metrics in the `OpenMetrics` text format.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::endpoints::{AttemptCounts, AttemptOutcome};
use super::families::{Families, Labels, amount, flag, seconds};
use crate::domain::posting::breaker::BreakerState;
use crate::observe::log_queue;
use crate::observe::snapshot::{ActorReading, InboxReading, OutboxReading, Snapshot};
use crate::observe::telemetry::Telemetry;

/// Name prefix of every metric that is specific to the gateway.
const PREFIX: &str = "mqtt_gateway";

/// Value of the header `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encoder for all metrics.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Creates an encoder that reads from `telemetry`.
    #[must_use]
    pub fn new(telemetry: &Arc<Telemetry>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector(Arc::clone(telemetry))));
        registry
            .sub_registry_with_prefix(PREFIX)
            .register_collector(Box::new(GatewayCollector(Arc::clone(telemetry))));
        Self(registry)
    }

    /// Encodes the current values.
    ///
    /// # Errors
    /// None in practice, because the text is written to memory.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// Standard process metrics, which have no prefix.
#[derive(Debug)]
struct ProcessCollector(Arc<Telemetry>);

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = self.0.started_at().duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "Start time of the process, in seconds since 1970";
        Families(encoder).gauge("process_start_time_seconds", help, seconds(started))
    }
}

#[derive(Debug)]
struct GatewayCollector(Arc<Telemetry>);

impl Collector for GatewayCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.process(&mut families)?;
        self.flows(&mut families)?;
        self.actors(&mut families)?;
        self.inbox(&mut families)?;
        self.database(&mut families)?;
        self.broker(&mut families)?;
        self.endpoints(&mut families)?;
        self.outbox(&mut families)
    }
}

impl GatewayCollector {
    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        families.gauges("build_info", "Version of the program", [(version, 1.0)])?;
        let help = "Whether the gateway accepts messages, as in /health/ready";
        families.gauge("ready", help, flag(self.0.unready_reasons().is_empty()))?;
        let help = "Log lines dropped because the log writer fell behind";
        families.counter("log_lines_dropped", help, log_queue::dropped())
    }

    fn flows(&self, families: &mut Families<'_>) -> fmt::Result {
        let readings = self.0.metrics.flows.read();
        let flows = || readings.iter().map(|flow| (vec![("flow", &*flow.flow)], flow));
        let help = "Messages read from the inbox for the flow, with any outcome";
        families.counters("flow_received", help, flows().map(|(labels, flow)| (labels, flow.received)))?;
        let help = "Messages stored";
        families.counters("flow_stored", help, flows().map(|(labels, flow)| (labels, flow.stored)))?;
        let help = "Posts accepted by the endpoint";
        families.counters("flow_posted", help, flows().map(|(labels, flow)| (labels, flow.posted)))?;
        let attempts = flows().flat_map(|(labels, flow)| by_outcome(labels, &flow.attempts));
        families.counters("flow_post_attempts", "Attempts to post, by outcome", attempts)?;
        let help = "Messages that became dead letters instead of being stored or posted";
        families.counters("flow_invalid", help, flows().map(|(labels, flow)| (labels, flow.invalid)))?;
        let help = "Last sequence number assigned by this process";
        let last = flows().filter_map(|(labels, flow)| Some((labels, flow.last_message_id?)));
        families.numbers("flow_last_message_id", help, last)
    }

    fn actors(&self, families: &mut Families<'_>) -> fmt::Result {
        let readings = self.0.snapshot().map(Snapshot::actors).unwrap_or_default();
        let actors = || readings.iter().map(|actor| (vec![("actor", actor.actor.as_str())], actor));
        let gauges =
            |value: fn(&ActorReading) -> f64| actors().map(move |(labels, actor)| (labels, value(actor)));
        let counters =
            |value: fn(&ActorReading) -> u64| actors().map(move |(labels, actor)| (labels, value(actor)));
        let help = "Messages waiting or being handled";
        families.gauges("actor_mailbox_depth", help, gauges(|actor| amount(actor.depth as u64)))?;
        let help = "Maximum messages waiting or being handled";
        families.gauges("actor_mailbox_capacity", help, gauges(|actor| amount(actor.capacity as u64)))?;
        let help = "Age of the oldest message being handled";
        families.gauges("actor_message_age_seconds", help, gauges(|actor| seconds(actor.age)))?;
        families.gauges("actor_state", "1 for the current state of the actor", states(&readings))?;
        let help = "Messages sent to the actor";
        families.counters("actor_received", help, counters(|actor| actor.received))?;
        families.counters("actor_handled", "Messages handled", counters(|actor| actor.handled))?;
        families.counters("actor_failed", "Handled messages that failed", counters(|actor| actor.failed))?;
        families.counters("actor_restarts", "Restarts of the actor", restarts(&readings))?;
        let help = "Time between sending and handling";
        let waits = actors().map(|(labels, actor)| (labels, actor.waits.clone()));
        families.histograms("actor_wait_seconds", help, waits)?;
        let help = "Time for handling a message";
        let handles = actors().map(|(labels, actor)| (labels, actor.handles.clone()));
        families.histograms("actor_handle_seconds", help, handles)
    }

    fn inbox(&self, families: &mut Families<'_>) -> fmt::Result {
        let inbox = self.0.inbox();
        let gauge =
            |value: fn(&InboxReading) -> f64| inbox.iter().map(move |inbox| (Labels::new(), value(inbox)));
        families.gauges(
            "inbox_bytes",
            "Bytes of the inbox on disk, without finished segments",
            gauge(|inbox| amount(inbox.bytes)),
        )?;
        let help = "Bytes of finished segments, kept in case the database is set back";
        families.gauges("inbox_kept_bytes", help, gauge(|inbox| amount(inbox.kept_bytes)))?;
        let help = "Maximum bytes of the inbox on disk";
        families.gauges("inbox_max_bytes", help, gauge(|inbox| amount(inbox.max_bytes)))?;
        let help = "Messages in the inbox that are not yet in the database";
        families.gauges(
            "inbox_uncommitted_records",
            help,
            gauge(|inbox| amount(inbox.uncommitted_records)),
        )?;
        let help = "Age of the oldest message that is not yet in the database";
        families.gauges("inbox_oldest_uncommitted_age_seconds", help, gauge(age_of_the_oldest))?;
        let help = "Whether the inbox accepted the last message";
        families.gauges("inbox_writable", help, gauge(|inbox| flag(inbox.refusal.is_none())))?;
        let appended = inbox.as_ref().map(|inbox| inbox.appended).unwrap_or_default();
        families.counter("inbox_appended", "Messages appended to the inbox", appended)
    }

    fn database(&self, families: &mut Families<'_>) -> fmt::Result {
        let database = &self.0.metrics.database;
        let help = "Whether the last database operation succeeded";
        families.gauges("database_up", help, database.is_up().map(|is_up| (Labels::new(), flag(is_up))))?;
        let errors = database.errors();
        let errors = errors.iter().map(|(kind, count)| (vec![("kind", *kind)], *count));
        families.counters("database_errors", "Failures of the database", errors)?;
        let (set_backs, replayed) = database.replays();
        let help = "Lanes found below their committed offset because the database was set back";
        families.counter("lane_set_backs", help, set_backs)?;
        let help = "Messages processed again because the database was set back";
        families.counter("messages_replayed", help, replayed)?;
        let numbers = database.numbers_used();
        let help = "Used fraction of the value range of a column";
        let numbers = numbers.iter().map(|(column, used)| (vec![("column", *column)], *used));
        families.gauges("numbers_used_ratio", help, numbers)?;
        let transactions = database.transactions();
        let alone = Labels::new;
        let help = "Time of a worker's transaction, from the batch to the answer to COMMIT";
        families.histograms("database_commit_seconds", help, [(alone(), transactions.seconds)])?;
        let help = "Messages in a worker's transaction, counted once for each flow";
        families.histograms("batch_messages", help, [(alone(), transactions.messages)])?;
        let help = "Bytes of payload in a worker's transaction";
        families.histograms("batch_bytes", help, [(alone(), transactions.bytes)])
    }

    fn broker(&self, families: &mut Families<'_>) -> fmt::Result {
        let broker = &self.0.metrics.broker;
        let [connections, lost, failed] = broker.counts();
        let help = "Whether the gateway is connected to the broker";
        let connected = broker.is_connected().map(|connected| (Labels::new(), flag(connected)));
        families.gauges("broker_connected", help, connected)?;
        families.counter("broker_connections", "Connections accepted by the broker", connections)?;
        families.counter("broker_connections_lost", "Connections lost", lost)?;
        families.counter("broker_connections_failed", "Failed connection attempts", failed)
    }

    fn endpoints(&self, families: &mut Families<'_>) -> fmt::Result {
        let readings = self.0.metrics.endpoints.read();
        let endpoints = || readings.iter().map(|(origin, reading)| (vec![("origin", &**origin)], reading));
        let counted = || endpoints().filter(|(_, reading)| reading.seconds.count() > 0);
        let attempts = counted().flat_map(|(labels, reading)| by_outcome(labels, &reading.attempts));
        families.counters("endpoint_attempts", "Attempts to post, by outcome", attempts)?;
        let took = counted().map(|(labels, reading)| (labels, reading.seconds.clone()));
        families.histograms("endpoint_post_seconds", "Duration of an attempt to post", took)?;
        let breakers = || endpoints().filter_map(|(labels, reading)| Some((labels, reading.breaker?)));
        let states = breakers().flat_map(|(labels, (state, _))| {
            BreakerState::ALL.map(|known| (with(&labels, "state", known.as_str()), flag(known == state)))
        });
        families.gauges(
            "endpoint_breaker_state",
            "1 for the current state of the circuit breaker",
            states,
        )?;
        let changed = breakers().map(|(labels, (_, since))| {
            (labels, seconds(since.duration_since(UNIX_EPOCH).unwrap_or_default()))
        });
        let help = "Time of the last change of the circuit breaker, in seconds since 1970";
        families.gauges("endpoint_breaker_change_timestamp_seconds", help, changed)
    }

    fn outbox(&self, families: &mut Families<'_>) -> fmt::Result {
        let outbox = self.0.snapshot().and_then(Snapshot::outbox);
        let gauge = |value: fn(&OutboxReading) -> f64| {
            outbox.iter().map(move |outbox| (Labels::new(), value(outbox)))
        };
        let help = "Messages waiting to be posted";
        families.gauges("outbox_depth", help, gauge(|outbox| amount(outbox.depth)))?;
        let help = "Age of the oldest message waiting to be posted";
        families.gauges("outbox_oldest_age_seconds", help, gauge(|outbox| seconds(outbox.oldest_age)))?;
        let help = "Age at which a message waiting to be posted becomes a dead letter";
        families.gauges("outbox_max_age_seconds", help, gauge(|outbox| seconds(outbox.max_age)))?;
        self.outbox_flows(families, outbox.as_ref())?;
        let letters = self.0.metrics.dead_letters.read();
        let letters = letters.iter().map(|(reason, count)| (vec![("reason", *reason)], *count));
        families.counters("dead_letters", "Messages that could not be processed or posted", letters)?;
        let rows = self.0.metrics.dead_letters.rows();
        let help = "Upper bound of the rows in dead_letters, as of the last reload of the flows";
        families.gauges("dead_letters_rows", help, rows.map(|rows| (Labels::new(), amount(rows))))
    }
}

impl GatewayCollector {
    /// A flow has samples while messages wait, and from its first attempt on.
    fn outbox_flows(&self, families: &mut Families<'_>, outbox: Option<&OutboxReading>) -> fmt::Result {
        let flows = &self.0.metrics.flows;
        let mut waiting: BTreeMap<Arc<str>, (u64, Duration)> = BTreeMap::new();
        if outbox.is_some() {
            let posting =
                flows.read().into_iter().filter(|flow| flow.attempts.iter().any(|count| *count > 0));
            waiting.extend(posting.map(|flow| (flow.flow, (0, Duration::ZERO))));
        }
        for found in outbox.iter().flat_map(|outbox| &outbox.flows) {
            let (depth, oldest_age) = waiting.entry(flows.label(found.flow)).or_default();
            *depth += found.depth;
            *oldest_age = (*oldest_age).max(found.oldest_age);
        }
        let by_flow = || waiting.iter().map(|(flow, waiting)| (vec![("flow", &**flow)], *waiting));
        let help = "Messages of the flow waiting to be posted";
        let depths = by_flow().map(|(labels, (depth, _))| (labels, amount(depth)));
        families.gauges("flow_outbox_depth", help, depths)?;
        let help = "Age of the oldest message of the flow waiting to be posted";
        let ages = by_flow().map(|(labels, (_, age))| (labels, seconds(age)));
        families.gauges("flow_outbox_oldest_age_seconds", help, ages)
    }
}

/// One sample for each outcome.
fn by_outcome<'l>(labels: Labels<'l>, counts: &AttemptCounts) -> impl Iterator<Item = (Labels<'l>, u64)> {
    AttemptOutcome::ALL
        .into_iter()
        .zip(*counts)
        .map(move |(outcome, count)| (with(&labels, "outcome", outcome.as_str()), count))
}

fn with<'l>(labels: &Labels<'l>, name: &'static str, value: &'l str) -> Labels<'l> {
    [&labels[..], &[(name, value)]].concat()
}

fn age_of_the_oldest(inbox: &InboxReading) -> f64 {
    let age = inbox.oldest_uncommitted.and_then(|at| SystemTime::now().duration_since(at).ok());
    seconds(age.unwrap_or_default())
}

fn states(actors: &[ActorReading]) -> impl Iterator<Item = (Labels<'_>, f64)> {
    actors.iter().flat_map(|actor| {
        actor.states.iter().map(|state| {
            (vec![("actor", actor.actor.as_str()), ("state", *state)], flag(*state == actor.state))
        })
    })
}

fn restarts(actors: &[ActorReading]) -> impl Iterator<Item = (Labels<'_>, u64)> {
    actors.iter().flat_map(|actor| {
        actor
            .restarts
            .iter()
            .map(|(reason, count)| (vec![("actor", actor.actor.as_str()), ("reason", *reason)], *count))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
