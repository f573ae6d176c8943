//! Assembles all parts on an inbox, to run the gateway or to retire a replica.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr};

use super::StartError;
use super::admin::{InboxPart, Parts, note_connection};
use super::drift::record_drift;
use super::end_mark::EndMark;
use super::key_expiry::forget_expired_keys;
use super::missing_ids::MissingIds;
use super::retention::delete_old_rows;
use super::row_waits::explain_row_waits;
use super::startup::{Prepared, open_inbox, tables_of_before};
use crate::actors::delivery::DeliveryParts;
use crate::actors::mqtt::{LinkSession, MqttParts};
use crate::actors::registry::{Records, RegistryParts};
use crate::actors::router::RouterParts;
use crate::actors::supervisor::{EXIT_FAILED, Factories, SessionEnd, SupervisorActor, SupervisorOptions};
use crate::actors::worker::WorkerParts;
use crate::actors::{Directory, InboxSignal, Mailbox, Slot};
use crate::domain::broker::Broker;
use crate::domain::processing::ProcessingRules;
use crate::domain::redelivery::InFlight;
use crate::domain::replicas::Replica;
use crate::domain::replicas::Role;
use crate::inbox::{Inbox, Intake, KeptTables, RetainedMemory, SubscriptionIdStore};
use crate::mqtt::{BrokerOptions, Incoming, MqttEvent, MqttLink};
use crate::observe::health::StartupStep;
use crate::observe::{FieldRecorder, Telemetry, logging};
use crate::settings::Settings;
use crate::store::{BatchRules, LaneWaits, OutboxGauge};

/// Permits of actors whose protocol bounds their messages to a few.
const CONTROL_PERMITS: usize = 64;

/// Permits of the delivery: messages handed over and not yet in its queues.
const DELIVERY_PERMITS: usize = 8_192;

/// Drain deadline of a retirement: longer than any drain, because the whole inbox must reach the database.
const NO_DEADLINE: Duration = Duration::from_hours(24 * 365);

/// The purpose of the assembled parts.
pub(super) enum Mode {
    /// Run the gateway.
    Run,
    /// Retire a replica permanently.
    Retire {
        /// Release the flows although no other gateway has them.
        is_last_replica: bool,
        /// Reports when the broker has sent all queued messages.
        mark: Arc<EndMark>,
    },
}

/// The parts that all other parts need.
pub(super) struct Stage<'a> {
    settings: &'a Settings,
    pub(super) inbox: Inbox,
    directory: Directory,
    gauge: Arc<OutboxGauge>,
    /// The rows that each lane waits for.
    waits: Vec<Arc<LaneWaits>>,
    fields: Arc<FieldRecorder>,
    pub(super) observed: Arc<Telemetry>,
}

/// All running parts.
pub(super) struct Assembled {
    pub(super) supervisor: Addr<SupervisorActor>,
    pub(super) directory: Directory,
    pub(super) link: MqttLink,
    pub(super) fields: Arc<FieldRecorder>,
}

impl<'a> Stage<'a> {
    /// Opens the inbox and publishes its state.
    pub(super) fn open(settings: &'a Settings, observed: Arc<Telemetry>) -> Result<Stage<'a>, StartError> {
        let inbox = open_inbox(settings)?;
        observed.health.mark_done(StartupStep::Inbox);
        let directory = directory(settings, inbox.lanes());
        let gauge = Arc::new(OutboxGauge::default());
        let waits: Vec<Arc<LaneWaits>> = (0..inbox.lanes()).map(|_| Arc::default()).collect();
        observed.set_snapshot(Box::new(Parts {
            directory: directory.clone(),
            inbox: InboxPart(inbox.clone()),
            outbox: Arc::clone(&gauge),
            outbox_max_age: settings.outbox.max_age,
            waits: waits.clone(),
        }));
        let fields = Arc::new(FieldRecorder::new(inbox.lanes()));
        Ok(Stage { settings, inbox, directory, gauge, waits, fields, observed })
    }

    /// Starts all parts.
    pub(super) fn assemble(self, prepared: Prepared, mode: &Mode) -> Result<Assembled, StartError> {
        let factories = self.factories(prepared, mode)?;
        let (drain_deadline, session_end) = match mode {
            Mode::Run => (self.settings.drain_deadline, SessionEnd::KeepSession),
            Mode::Retire { .. } => (NO_DEADLINE, SessionEnd::ForgetSession),
        };
        let options = SupervisorOptions {
            report_interval: self.settings.mailbox_report_interval,
            max_restarts: self.settings.restarts.max,
            restart_window: self.settings.restarts.window,
            drain_deadline,
            session_end,
        };
        let link = factories.mqtt.link.clone();
        let Settings { database, keys_known_for, retention, .. } = self.settings;
        actix::spawn(forget_expired_keys(database.clone(), *keys_known_for, Arc::clone(&self.observed)));
        actix::spawn(explain_row_waits(database.clone(), Arc::clone(&self.observed)));
        actix::spawn(delete_old_rows(database.clone(), *retention, Arc::clone(&self.observed)));
        let fields = Arc::clone(&self.fields);
        actix::spawn(record_drift(database.clone(), Arc::clone(&fields), Arc::clone(&self.observed)));
        let directory = self.directory;
        let supervisor = SupervisorActor::new(directory.clone(), factories, options, self.observed).start();
        Ok(Assembled { supervisor, directory, link, fields })
    }

    fn factories(&self, prepared: Prepared, mode: &Mode) -> Result<Factories, StartError> {
        let Prepared { limits, servers, .. } = prepared;
        let Stage { settings, inbox, directory, gauge, waits, fields, observed } = self;
        let inbox_id: Arc<str> = inbox.id().to_string().into();
        let processing = ProcessingRules::new(
            Arc::clone(&inbox_id),
            settings.value_style,
            settings.limits,
            limits,
            settings.outbox.max_rows_per_flow,
            settings.keys_known_for,
        );
        let rules = Arc::new(BatchRules { processing, gauge: Arc::clone(gauge) });
        let subscription_ids = Arc::new(Mutex::new(SubscriptionIdStore::open(&settings.inbox.dir)?));
        let kept_tables = KeptTables::new(&settings.inbox.dir);
        let tables = Arc::new(Mutex::new(tables_of_before(&kept_tables)?));
        let signal = InboxSignal::new(directory.router.clone());
        let session = LinkSession::default();
        let (is_last_replica, mark) = match mode {
            Mode::Run => (false, None),
            Mode::Retire { is_last_replica, mark } => (*is_last_replica, Some(Arc::clone(mark))),
        };
        let link = self.link(servers, &signal, mark, &session, &subscription_ids)?;
        let worker = |(lane, waits): (_, &Arc<LaneWaits>)| WorkerParts {
            lane,
            waits: Arc::clone(waits),
            database: settings.database.clone(),
            rules: Arc::clone(&rules),
            flow_lock_wait: settings.flow_lock_wait,
            directory: directory.clone(),
            observed: Arc::clone(observed),
            fields: Arc::clone(fields),
        };
        Ok(Factories {
            mqtt: MqttParts {
                link,
                session,
                client_id: settings.mqtt.client_id.clone(),
                qos: settings.mqtt.qos,
                subscription_ids: Arc::clone(&subscription_ids),
                directory: directory.clone(),
            },
            registry: RegistryParts {
                database: settings.database.clone(),
                reload_interval: settings.flows_reload_interval,
                dead_letters_warn_rows: settings.dead_letters_warn_rows,
                directory: directory.clone(),
                replica: Replica {
                    role: settings.role.clone(),
                    group: settings.group.clone(),
                    inbox_id: Arc::clone(&inbox_id),
                    client_id: settings.mqtt.client_id.clone(),
                    is_last_replica,
                },
                records: Records {
                    tables: Arc::clone(&tables),
                    subscription_ids: Arc::clone(&subscription_ids),
                },
                observed: Arc::clone(observed),
            },
            router: RouterParts {
                inbox: inbox.clone(),
                signal,
                tables: Arc::clone(&tables),
                kept_tables,
                subscription_ids,
                directory: directory.clone(),
                payload: rules.processing.payload,
                batch_max_messages: settings.batch_max_messages,
                batch_max_bytes: settings.batch_max_bytes,
                max_linger: settings.max_linger,
                observed: Arc::clone(observed),
            },
            workers: (0..).zip(waits).map(worker).collect(),
            delivery: DeliveryParts {
                database: settings.database.clone(),
                inbox_id,
                gauge: Arc::clone(gauge),
                http_timeout: settings.http_timeout,
                http_route: settings.http_route.clone(),
                max_age: settings.outbox.max_age,
                waits_for_others: !matches!(settings.role, Role::InGroup(_)),
                observed: Arc::clone(observed),
            },
        })
    }

    fn link(
        &self,
        servers: Vec<Broker>,
        signal: &InboxSignal,
        mark: Option<Arc<EndMark>>,
        session: &LinkSession,
        subscription_ids: &Arc<Mutex<SubscriptionIdStore>>,
    ) -> Result<MqttLink, StartError> {
        let settings = &self.settings;
        let options = BrokerOptions {
            servers,
            client_id: settings.mqtt.client_id.clone(),
            keepalive: settings.mqtt.keepalive,
            session_expiry_seconds: settings.mqtt.session_expiry_seconds,
            qos: settings.mqtt.qos,
            max_payload_bytes: settings.limits.max_payload_bytes,
            credentials: settings.mqtt.credentials.clone(),
        };
        let wanted = settings.mqtt.skip_repeated_retained;
        let retained = wanted.then(|| RetainedMemory::open(&settings.inbox.dir)).transpose()?;
        let intake = Arc::new(Intake::new(self.inbox.clone(), &options.client_id, retained));
        let (receiving, signal) = (Arc::clone(&intake), signal.clone());
        let receive = move |incoming: Incoming<'_>| match incoming {
            Incoming::ConnectionBegins { server, in_flight_bounded } => {
                let in_flight = if in_flight_bounded { InFlight::Bounded } else { InFlight::Unbounded };
                receiving.begin_connection(server, in_flight);
            }
            Incoming::Message(publication) => receiving.on_message(publication, || signal.raise()),
        };
        // The members of a group must subscribe the same filters, independently of their own history.
        let ids = settings.group.is_none().then(|| Arc::new(MissingIds::new(Arc::clone(subscription_ids))));
        let observing = ids.clone();
        let on_incoming = move |incoming: Incoming<'_>| {
            if let Some(ids) = &observing {
                ids.observe(incoming);
            }
            match (&mark, incoming) {
                (Some(mark), Incoming::Message(publication)) => {
                    if !mark.begin(publication.topic) {
                        receive(incoming);
                        mark.done();
                    }
                }
                _ => receive(incoming),
            }
        };
        let (session, mqtt) = (session.clone(), self.directory.mqtt.clone());
        let observed = Arc::clone(&self.observed);
        let on_event = move |mut event: MqttEvent| {
            if let Some(ids) = &ids {
                ids.amend(&mut event);
            }
            if let MqttEvent::Stuck { reason } = &event {
                end_without_mqtt(reason);
            }
            intake.note_session(event.session_evidence());
            note_connection(&observed, &event);
            session.hear(event, &mqtt);
        };
        Ok(MqttLink::start(options, Box::new(on_incoming), Box::new(on_event))?)
    }
}

fn directory(settings: &Settings, lanes: u32) -> Directory {
    // One batch in progress and one that waits.
    let worker_permits = settings.batch_max_messages.saturating_mul(2);
    Directory {
        supervisor: Mailbox::new("supervisor", CONTROL_PERMITS),
        mqtt: Slot::new("mqtt", CONTROL_PERMITS),
        registry: Slot::new("flow-registry", CONTROL_PERMITS),
        router: Slot::new("router", CONTROL_PERMITS),
        workers: (0..lanes).map(|lane| Slot::new(format!("flow-worker-{lane}"), worker_permits)).collect(),
        delivery: Slot::new("delivery", DELIVERY_PERMITS),
    }
}

/// Exits the process, because the client library cannot be restarted within it. Nothing is lost: acknowledged messages
/// are in the inbox and the broker keeps the rest. An orderly shutdown would wait for the library.
fn end_without_mqtt(reason: &str) -> ! {
    log::error!("The MQTT client does not come back: {reason}. Exiting, to be started again");
    logging::end_process(EXIT_FAILED)
}
