//! Detects brokers that omit subscription identifiers, and disables identifiers in their next session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::broker::BrokerConnection;
use crate::domain::message::Publication;
use crate::domain::topic::TopicFilter;
use crate::domain::trie::FilterTrie;
use crate::inbox::{InboxError, SubscriptionIdStore};
use crate::mqtt::{Incoming, MqttEvent};

/// Shared by the receiving and the connecting thread.
pub(super) struct MissingIds {
    subscription_ids: Arc<Mutex<SubscriptionIdStore>>,
    watched: Mutex<Option<Watched>>,
}

/// Connection on which every message should have an identifier.
struct Watched {
    broker: String,
    /// Filters of the session, built at the first message without an identifier.
    held: Option<FilterTrie<()>>,
}

impl MissingIds {
    pub(super) fn new(subscription_ids: Arc<Mutex<SubscriptionIdStore>>) -> MissingIds {
        MissingIds { subscription_ids, watched: Mutex::default() }
    }

    /// Inspects messages before they are stored.
    pub(super) fn observe(&self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::ConnectionBegins { server, in_flight_bounded: is_v5 } => {
                let is_watched = is_v5 && lock(&self.subscription_ids).id_uses().are_expected(server);
                *lock(&self.watched) = is_watched.then(|| Watched { broker: server.to_owned(), held: None });
            }
            Incoming::Message(publication) => {
                // The relay passes rejected messages without their properties.
                if publication.delivery.subscription_ids.is_empty() && publication.unfit.is_none() {
                    self.check_unidentified(publication);
                }
            }
        }
    }

    /// Records a missing identifier only if several filters match; otherwise the flow is certain. The broker may also
    /// send messages for its own subscriptions, which have no identifiers and prove nothing.
    fn check_unidentified(&self, publication: &Publication<'_>) {
        let mut watched = lock(&self.watched);
        let Some(Watched { broker, held }) = watched.as_mut() else { return };
        let held = held.get_or_insert_with(|| self.held());
        let mut matching = 0;
        held.visit(publication.topic, |()| matching += 1);
        if matching > 1 {
            let noted = lock(&self.subscription_ids).change_id_uses(|uses| uses.note_missing(broker));
            warn(broker);
            log_if_unsaved(noted);
            *watched = None;
        }
    }

    fn held(&self) -> FilterTrie<()> {
        let mut trie = FilterTrie::default();
        for filter in
            lock(&self.subscription_ids).held().keys().filter_map(|filter| TopicFilter::parse(filter).ok())
        {
            trie.insert(&filter, ());
        }
        trie
    }

    /// Disables identifiers on a connection whose session goes without them.
    pub(super) fn amend(&self, event: &mut MqttEvent) {
        let MqttEvent::Connected(BrokerConnection { server, names_subscriptions, session_kept, .. }) = event
        else {
            return;
        };
        let mut subscription_ids = lock(&self.subscription_ids);
        if !*session_kept && subscription_ids.id_uses().are_unreliable(server) {
            // If the change cannot be stored, the session keeps identifiers.
            let begun = subscription_ids.change_id_uses(|uses| uses.begin_session(server));
            if begun.is_ok() {
                log::info!(
                    "New session at {server} uses no subscription identifiers: overlapping topics are subscribed as one"
                );
            }
            log_if_unsaved(begun);
        }
        *names_subscriptions &= !subscription_ids.id_uses().are_abandoned(server);
    }
}

fn warn(broker: &str) {
    log::warn!(
        "Broker {broker} has omitted subscription identifiers from messages. Copies for overlapping topics cannot be told \
         apart, so every copy goes to all matching flows, more than once. This may recur at each reconnect until the \
         broker starts a new session, which will not use identifiers. A flow with a message_key stores each message \
         once"
    );
}

fn log_if_unsaved(kept: Result<(), InboxError>) {
    if let Err(error) = kept {
        log::error!("Cannot save that the broker omits subscription identifiers: {error}");
    }
}

/// Locks shared state, which stays consistent after a panic.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
