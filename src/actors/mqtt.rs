//! Holds the broker connection: subscribes, unsubscribes, and announces connects and disconnects.
//!
//! The paho client runs on its own thread for the lifetime of the process. A restart of this actor does not affect the
//! connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Context, Handler, Message, ResponseFuture};

use super::actor_guard::ActorGuard;
use super::directory::{Directory, Slot};
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, ConnectionLost, Disconnect, ResyncSubscriptions, Subscribe, SubscribeError,
    SubscribeOutcome, Unsubscribe, UseServers,
};
use crate::domain::broker::BrokerConnection;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::SubscriptionIdStore;
use crate::mqtt::{MqttError, MqttEvent, MqttLink, RefusedCode, Subscription};
use crate::observe::whole_milliseconds;

/// Holds the broker connection.
#[derive(Debug)]
pub struct MqttActor {
    guard: ActorGuard,
    parts: MqttParts,
    /// Reasons for skipped rows of `mqtt_servers`; avoids logging them at every reload.
    skipped: Vec<String>,
}

/// Dependencies of the actor; the factory keeps them for a restart.
#[derive(Debug, Clone)]
pub struct MqttParts {
    /// The connection.
    pub link: MqttLink,
    /// The connection state as last reported by the link's thread.
    pub session: LinkSession,
    /// The MQTT client id.
    pub client_id: String,
    /// The requested `QoS`.
    pub qos: u8,
    /// Filters that the session holds, with their identifiers.
    pub subscription_ids: Arc<Mutex<SubscriptionIdStore>>,
    /// Addresses of the other actors.
    pub directory: Directory,
}

/// State of the connection.
///
/// The link's thread maintains it and keeps running while the actor restarts. Events sent meanwhile do not reach the
/// actor, so the actor reads this state when it starts.
#[derive(Debug, Clone, Default)]
pub struct LinkSession(Arc<Mutex<SessionState>>);

#[derive(Debug, Default)]
struct SessionState {
    connection: Option<BrokerConnection>,
    /// Whether the session is new with this connection and has no subscriptions.
    is_blank: bool,
}

impl LinkSession {
    /// Records a connection event and forwards it to the actor, if that is running.
    pub fn hear(&self, event: MqttEvent, actor: &Slot<MqttActor>) {
        let connection = match &event {
            MqttEvent::Connected(connection) => Some(connection.clone()),
            MqttEvent::Lost { .. }
            | MqttEvent::Left { .. }
            | MqttEvent::Unanswered { .. }
            | MqttEvent::Failed { .. }
            | MqttEvent::Stuck { .. } => None,
        };
        let is_blank = connection.as_ref().is_some_and(|connection| !connection.session_kept);
        *lock(&self.0) = SessionState { connection, is_blank };
        actor.tell(LinkEvent(event));
    }

    fn connection(&self) -> Option<BrokerConnection> {
        lock(&self.0).connection.clone()
    }

    /// Whether the session has no subscriptions. Returns `true` once; the caller is expected to subscribe.
    fn take_blank(&self) -> bool {
        std::mem::take(&mut lock(&self.0).is_blank)
    }
}

/// Sent by the link's thread.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct LinkEvent(MqttEvent);

impl MqttActor {
    /// Creates an actor for this connection.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: MqttParts) -> Self {
        Self { guard, parts, skipped: Vec::new() }
    }

    /// Requests a resubscription of all enabled flows from the registry, after a connect or on request.
    pub fn on_connect(&self) {
        match self.parts.session.connection() {
            Some(connection) => {
                self.guard.mailbox().set_state(ActorState::Running);
                self.parts.directory.registry.tell(connection);
            }
            None => self.guard.mailbox().set_state(ActorState::Disconnected),
        }
    }

    /// Renews the identifiers of a kept session whose broker has lost them. Until the renewal, every message goes to
    /// all matching flows; waiting for the flows to load would prolong that.
    fn renew_identifiers(&self) {
        let Some(BrokerConnection {
            names_subscriptions: with_ids @ true, session_kept: true, server, ..
        }) = self.parts.session.connection()
        else {
            return;
        };
        let held = lock(&self.parts.subscription_ids).held_unreliably_at(&server).into_iter();
        let held = held.filter_map(|(filter, flows)| Some((TopicFilter::parse(&filter).ok()?, flows)));
        let filters: Subscriptions = held.filter(|(_, flows)| !flows.is_empty()).collect();
        if filters.is_empty() {
            return;
        }
        let parts = self.parts.clone();
        actix::spawn(async move {
            if let Err(error) = subscribe(&parts, &filters, with_ids).await {
                log::debug!("The subscriptions at {server} were not renewed: {error}");
            }
        });
    }

    /// Handles a lost connection. A replaced actor may process the event after a newer connection was established; its
    /// successor has announced that connection already.
    fn connection_ended(&self) {
        if self.show_disconnected() {
            self.parts.directory.registry.tell(ConnectionLost);
        }
    }

    /// Publishes the loss of the connection and returns `true`, unless a connection exists.
    fn show_disconnected(&self) -> bool {
        let is_disconnected = self.parts.session.connection().is_none();
        if is_disconnected {
            self.guard.mailbox().set_state(ActorState::Disconnected);
        }
        is_disconnected
    }
}

impl Actor for MqttActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        self.on_connect();
        self.parts.link.connect();
    }
}

impl Handler<Envelope<LinkEvent>> for MqttActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<LinkEvent>, _: &mut Self::Context) {
        let (LinkEvent(event), mut handling) = envelope.open();
        crash_point!("mqtt-event");
        match event {
            MqttEvent::Connected(BrokerConnection {
                server,
                version,
                names_subscriptions,
                session_kept,
                ..
            }) => {
                let (server, version) = (&*server, version.as_str());
                let client_id = self.parts.client_id.as_str();
                log::info!(
                    server, version, client_id, names_subscriptions, session_kept;
                    "Connected to the broker"
                );
                self.renew_identifiers();
                self.on_connect();
            }
            MqttEvent::Lost { server, reason, retry_in } => {
                let (server, retry_in_ms) = (server.as_str(), whole_milliseconds(retry_in));
                log::warn!(
                    server, retry_in_ms;
                    "Connection to the broker lost: {reason}; trying again in {:.1} s", retry_in.as_secs_f64()
                );
                self.connection_ended();
            }
            MqttEvent::Left { server, reason } => {
                let server = server.as_str();
                log::info!(server; "Leaving the broker at {server} for another one: {reason}");
                self.connection_ended();
            }
            MqttEvent::Unanswered { server, reason, retry_in } => {
                let (server, retry_in_ms) = (server.as_str(), whole_milliseconds(retry_in));
                log::info!(
                    server, retry_in_ms;
                    "The broker at {server} does not answer in MQTT 5 ({reason}): it may support 3.1.1 only, the next attempt uses that"
                );
                self.show_disconnected();
            }
            MqttEvent::Failed { server, reason_code, reason, retry_in } => {
                handling.fail(1);
                let (server, retry_in_ms) = (server.as_str(), whole_milliseconds(retry_in));
                log::error!(
                    server, retry_in_ms;
                    "MQTT connection failed with reason code: {reason_code} ({server}: {reason})"
                );
                self.show_disconnected();
            }
            // The process is about to exit because of it.
            MqttEvent::Stuck { .. } => _ = self.show_disconnected(),
        }
    }
}

impl Handler<Envelope<AnnounceConnection>> for MqttActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<AnnounceConnection>, _: &mut Self::Context) {
        let (AnnounceConnection, _handling) = envelope.open();
        self.on_connect();
    }
}

impl Handler<Envelope<UseServers>> for MqttActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<UseServers>, _: &mut Self::Context) {
        let (UseServers { servers, skipped }, _handling) = envelope.open();
        if self.guard.is_superseded() {
            return;
        }
        self.parts.link.use_servers(servers);
        if skipped != self.skipped {
            for reason in &skipped {
                log::error!("A broker is passed over: {reason}");
            }
            self.skipped = skipped;
        }
    }
}

impl Handler<Envelope<Subscribe>> for MqttActor {
    type Result = ResponseFuture<Result<Vec<SubscribeOutcome>, SubscribeError>>;

    fn handle(&mut self, envelope: Envelope<Subscribe>, _: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let (Subscribe { filters, with_ids }, _handling) = envelope.open();
            subscribe(&parts, &filters, with_ids).await
        })
    }
}

impl Handler<Envelope<Unsubscribe>> for MqttActor {
    type Result = ResponseFuture<Result<(), SubscribeError>>;

    fn handle(&mut self, envelope: Envelope<Unsubscribe>, _: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let (Unsubscribe { filters }, _handling) = envelope.open();
            unsubscribe(&parts, filters.iter().map(ToString::to_string).collect()).await
        })
    }
}

impl Handler<Envelope<ResyncSubscriptions>> for MqttActor {
    type Result = ResponseFuture<Result<Vec<SubscribeOutcome>, SubscribeError>>;

    fn handle(&mut self, envelope: Envelope<ResyncSubscriptions>, _: &mut Self::Context) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move {
            let (ResyncSubscriptions { server, filters, with_ids, retires }, _handling) = envelope.open();
            if parts.session.connection().is_none_or(|connection| connection.server != server) {
                return Err(MqttError::NotConnected.into());
            }
            lock(&parts.subscription_ids).switch_broker(&server)?;
            if !with_ids {
                lock(&parts.subscription_ids).change_id_uses(|uses| uses.subscribe_without(&server))?;
            }
            let wanted: BTreeSet<&str> = filters.keys().map(TopicFilter::as_str).collect();
            let unwanted = || {
                let held = lock(&parts.subscription_ids).held().into_keys();
                held.filter(|filter| !wanted.contains(filter.as_str())).collect::<Vec<_>>()
            };
            if parts.session.take_blank() {
                // These ended with the old session. Some brokers do not answer an UNSUBSCRIBE for an unknown filter.
                let gone = unwanted();
                lock(&parts.subscription_ids).forget(gone.iter().map(String::as_str))?;
            }
            let outcomes = subscribe(&parts, &filters, with_ids).await?;
            // Subscriptions that the kept session still holds from an earlier run.
            let unwanted = unwanted();
            let unsubscribed = unsubscribe(&parts, unwanted).await;
            if retires {
                unsubscribed?;
            } else {
                accept_silence(&parts, unsubscribed)?;
            }
            if with_ids {
                lock(&parts.subscription_ids).change_id_uses(|uses| uses.confirm(&server))?;
            }
            Ok(outcomes)
        })
    }
}

impl Handler<Envelope<Disconnect>> for MqttActor {
    type Result = ResponseFuture<Result<(), MqttError>>;

    fn handle(&mut self, envelope: Envelope<Disconnect>, _: &mut Self::Context) -> Self::Result {
        let (Disconnect { session_end }, handling) = envelope.open();
        self.guard.mailbox().set_state(ActorState::Draining);
        let link = self.parts.link.clone();
        Box::pin(async move {
            let _handling = handling;
            link.disconnect_with(session_end).await
        })
    }
}

/// Subscribes filters. An identifier is on disk before the broker receives it.
async fn subscribe(
    parts: &MqttParts,
    filters: &Subscriptions,
    with_ids: bool,
) -> Result<Vec<SubscribeOutcome>, SubscribeError> {
    // The request was computed for an earlier connection.
    if parts.session.connection().is_none_or(|connection| connection.names_subscriptions != with_ids) {
        return Err(MqttError::NotConnected.into());
    }
    let for_flows = filters.iter().map(|(filter, flows)| (filter.as_str(), flows.as_slice()));
    let ids = lock(&parts.subscription_ids).ids_for(for_flows)?;
    let subscriptions = filters
        .keys()
        .zip(ids)
        .map(|(filter, id)| Subscription { filter: filter.as_str().to_owned(), id: with_ids.then_some(id) });
    let answers = parts.link.subscribe(subscriptions.collect()).await?;
    let granted = answers.iter().filter(|(_, answer)| answer.is_ok());
    let avoided = answers.iter().filter(|(_, answer)| *answer == Err(RefusedCode::CLOSES_CONNECTION));
    lock(&parts.subscription_ids)
        .note_answers(granted.map(|(filter, _)| &**filter), avoided.map(|(filter, _)| &**filter))?;
    let outcomes = answers.into_iter().map(|(filter, answer)| SubscribeOutcome {
        filter,
        lowered_to: answer.ok().filter(|granted| *granted < parts.qos),
        refusal: answer.err().map(|code| code.to_string()),
    });
    Ok(outcomes.collect())
}

/// Unsubscribes filters. A refused filter is logged and stays on record, so that the next connect retries it. A filter
/// over which the broker closes the connection is not retried.
async fn unsubscribe(parts: &MqttParts, mut filters: Vec<String>) -> Result<(), SubscribeError> {
    if filters.is_empty() {
        return Ok(());
    }
    let refusals = parts.link.unsubscribe(filters.clone()).await?;
    for (refused, code) in &refusals {
        log::warn!("The broker refuses to unsubscribe {refused:?} ({code}): it sends on what that matches");
        filters.retain(|filter| filter != refused);
    }
    let mut subscription_ids = lock(&parts.subscription_ids);
    // A retry, even after a restart, would cost the connection again.
    let avoided = refusals.iter().filter(|(_, code)| *code == RefusedCode::CLOSES_CONNECTION);
    subscription_ids.note_answers(std::iter::empty(), avoided.map(|(filter, _)| filter.as_str()))?;
    subscription_ids.forget(filters.iter().map(String::as_str))?;
    Ok(())
}

/// Accepts an UNSUBSCRIBE without an answer on a connection that receives. Some brokers (rumqttd) do not answer for a
/// filter that the session does not hold. While a message blocks the connection, the answer may wait behind it.
fn accept_silence(parts: &MqttParts, unsubscribed: Result<(), SubscribeError>) -> Result<(), SubscribeError> {
    match unsubscribed {
        Err(SubscribeError::Link(error @ MqttError::NoAnswer(_))) if !parts.link.is_receiving_blocked() => {
            log::warn!(
                "The broker does not answer an UNSUBSCRIBE of filters that no flow needs, retrying after the next connect: {error}"
            );
            Ok(())
        }
        other => other,
    }
}

/// Locks shared state, which is consistent even after a panic.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn restarted_actor_knows_the_connection() {
        let (session, down) = (LinkSession::default(), Slot::new("mqtt", 1));
        let server = || "broker:1883".to_owned();
        let connected = || {
            MqttEvent::Connected(BrokerConnection {
                names_subscriptions: true,
                session_kept: true,
                ..BrokerConnection::default()
            })
        };
        session.hear(connected(), &down);
        assert!(session.connection().is_some_and(|session| session.names_subscriptions));
        let lost =
            MqttEvent::Lost { server: server(), reason: String::new(), retry_in: Duration::from_secs(1) };
        session.hear(lost, &down);
        assert!(session.connection().is_none());
        session.hear(connected(), &down);
        session.hear(MqttEvent::Left { server: server(), reason: String::new() }, &down);
        assert!(session.connection().is_none());
        session.hear(connected(), &down);
        assert!(session.connection().is_some());
    }
}
