//! Serves health and metrics, and collects their data.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{GivenParts, StartError};
use crate::actors::{Directory, Mailbox, Slot};
use crate::control::LazyControl;
use crate::http::AdminServer;
use crate::inbox::Inbox;
use crate::mqtt::MqttEvent;
use crate::observe::{
    ActorReading, FlowOutboxReading, InboxReading, InboxRefusal, OutboxReading, RowWaitReading, Snapshot,
    Telemetry,
};
use crate::settings::{AdminSettings, Settings};
use crate::store::{LaneWaits, OutboxGauge};

/// Serves health, metrics, the API and the console from before the start until after the shutdown of all other parts.
///
/// A configured address must be available. The default address may be unavailable: a gateway from before this port
/// existed must still run after an upgrade if another program uses the port.
pub(super) fn serve(settings: &Settings, given: &mut GivenParts) -> Result<Option<AdminServer>, StartError> {
    let Some(AdminSettings { address, is_default }) = settings.admin else { return Ok(None) };
    match listen(settings, address, given) {
        Ok(server) => {
            let address = server.address();
            log::info!(address = address.to_string().as_str(); "Health and metrics are at http://{address}");
            Ok(Some(server))
        }
        Err(source) if is_default => {
            log::warn!(
                "No health and no metrics: cannot listen at {address}, the default of ADMIN_BIND: {source}. \
                 Set ADMIN_BIND to a free address, or to off"
            );
            Ok(None)
        }
        Err(source) => Err(StartError::Admin { address, source }),
    }
}

fn listen(settings: &Settings, address: SocketAddr, given: &mut GivenParts) -> io::Result<AdminServer> {
    let control = Arc::new(LazyControl::new(settings.clone()));
    let is_shown = given.demo.is_none();
    let listener = given.listener.take().map_or_else(|| TcpListener::bind(address), Ok)?;
    let server = AdminServer::start(listener, Arc::clone(&given.telemetry), control, given.demo.take())?;
    if is_shown {
        show_link(&server);
    }
    Ok(server)
}

/// Shows the link to the console on a terminal. Logs are kept and sent elsewhere, so it must not get there.
fn show_link(server: &AdminServer) {
    let mut terminal = io::stderr();
    if terminal.is_terminal() {
        // The console can also be opened by a token.
        let _ = writeln!(terminal, "Console (this link is valid once): {}", server.console_link());
    }
}

/// The parts whose data is collected on request.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) directory: Directory,
    pub(super) inbox: InboxPart,
    pub(super) outbox: Arc<OutboxGauge>,
    pub(super) outbox_max_age: Duration,
    /// The rows that each lane waits for.
    pub(super) waits: Vec<Arc<LaneWaits>>,
}

/// The inbox, with a `Debug` that omits its content.
pub(super) struct InboxPart(pub(super) Inbox);

impl std::fmt::Debug for InboxPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InboxPart").field(&self.0.id()).finish()
    }
}

impl Parts {
    /// The mailboxes of all supervised actors.
    fn mailboxes(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        let Directory { supervisor: _, mqtt, registry, router, workers, delivery } = &self.directory;
        let workers = workers.iter().map(Slot::mailbox);
        [mqtt.mailbox(), registry.mailbox(), router.mailbox()]
            .into_iter()
            .chain(workers)
            .chain([delivery.mailbox()])
    }
}

impl Snapshot for Parts {
    fn actors(&self) -> Vec<ActorReading> {
        [&self.directory.supervisor]
            .into_iter()
            .chain(self.mailboxes())
            .map(|mailbox| mailbox.reading())
            .collect()
    }

    fn silences(&self) -> Vec<(String, Duration)> {
        self.mailboxes().map(|mailbox| (mailbox.name().to_owned(), mailbox.silence())).collect()
    }

    fn inbox(&self) -> InboxReading {
        let inbox = &self.inbox.0;
        let unreleased = inbox.unreleased();
        InboxReading {
            bytes: inbox.bytes(),
            kept_bytes: inbox.kept_bytes(),
            max_bytes: inbox.max_bytes(),
            uncommitted_records: unreleased.records,
            oldest_uncommitted: unreleased.oldest,
            appended: inbox.appended(),
            refusal: inbox
                .refusal()
                .map(|refusal| InboxRefusal { is_full: refusal.is_full, since: refusal.since }),
        }
    }

    fn row_waits(&self) -> Vec<RowWaitReading> {
        let lanes = self.directory.workers.iter().zip(&self.waits);
        let waits = lanes.flat_map(|(worker, waits)| {
            let reading = |wait| RowWaitReading { actor: worker.mailbox().name().to_owned(), wait };
            waits.read().into_iter().map(reading)
        });
        waits.collect()
    }

    fn outbox(&self) -> Option<OutboxReading> {
        if !self.outbox.was_counted() {
            return None;
        }
        let now = SystemTime::now();
        let flows = self.outbox.by_flow().into_iter().map(|(flow, waiting)| {
            let oldest = UNIX_EPOCH + Duration::from_micros(u64::try_from(waiting.oldest_at_us).unwrap_or(0));
            let oldest_age = now.duration_since(oldest).unwrap_or_default();
            FlowOutboxReading { flow, depth: waiting.rows, oldest_age }
        });
        let flows: Vec<FlowOutboxReading> = flows.collect();
        Some(OutboxReading {
            depth: flows.iter().map(|flow| flow.depth).sum(),
            oldest_age: flows.iter().map(|flow| flow.oldest_age).max().unwrap_or_default(),
            max_age: self.outbox_max_age,
            flows,
        })
    }
}

/// Records a connection event, on the thread of the event.
pub(super) fn note_connection(observed: &Telemetry, event: &MqttEvent) {
    observed.health.set_subscribed(false);
    match event {
        MqttEvent::Connected(connection) => observed.metrics.broker.connected(&connection.server),
        MqttEvent::Lost { .. } => observed.metrics.broker.lost(),
        MqttEvent::Left { .. } => observed.metrics.broker.mark_disconnected(),
        MqttEvent::Stuck { .. } => {}
        MqttEvent::Unanswered { .. } | MqttEvent::Failed { .. } => observed.metrics.broker.failed(),
    }
}
