//! Whether subscription identifiers are used at a broker, by what it has done with them so far.
//!
//! A broker that leaves identifiers out of what it kept (rumqttd 0.20 forgets them with the connection) sends a copy for
//! each overlapping filter, and nothing tells the copies apart. Joined filters avoid that, but only a new session is
//! subscribed that way. In the old one it could lose messages: a copy that went to the flows of one filter alone is
//! acknowledged, and rumqttd drops the copies of the others when these are unsubscribed.
//!
//! ```text
//!   Used ──message without one──▶ Unreliable ──new session──▶ Abandoned
//!    ▲                                └──────subscribed without them──────▲
//!    └──all subscribed with them
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known of identifiers in our session at a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IdUse {
    /// The broker has confirmed all subscriptions with their identifiers.
    Used,
    /// It has then sent messages without them. The session still has subscriptions with identifiers.
    Unreliable,
    /// The session has subscriptions without identifiers, and so will later ones.
    Abandoned,
}

/// The same by broker (`host:port`); nothing of those where no identifier was confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdUses(BTreeMap<String, IdUse>);

impl IdUses {
    /// Whether every message from this broker should name a subscription.
    #[must_use]
    pub fn are_expected(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Used)
    }

    /// Whether the broker is known to leave identifiers out in the present session.
    #[must_use]
    pub fn are_unreliable(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Unreliable)
    }

    /// Whether subscriptions at this broker do without identifiers.
    #[must_use]
    pub fn are_abandoned(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Abandoned)
    }

    /// The broker holds a new session for us.
    pub fn begin_session(&mut self, broker: &str) {
        if self.are_unreliable(broker) {
            self.set(broker, IdUse::Abandoned);
        }
    }

    /// Filters are about to be subscribed without identifiers.
    pub fn subscribe_without(&mut self, broker: &str) {
        if self.are_expected(broker) {
            self.0.remove(broker);
        }
        self.begin_session(broker);
    }

    /// The broker has confirmed all filters with identifiers.
    pub fn confirm(&mut self, broker: &str) {
        if !self.0.contains_key(broker) {
            self.set(broker, IdUse::Used);
        }
    }

    /// A message came without the identifier that it should have.
    pub fn note_missing(&mut self, broker: &str) {
        if self.are_expected(broker) {
            self.set(broker, IdUse::Unreliable);
        }
    }

    fn set(&mut self, broker: &str, id_use: IdUse) {
        self.0.insert(broker.to_owned(), id_use);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: &str = "broker:1883";

    fn uses(steps: &[fn(&mut IdUses, &str)]) -> Option<IdUse> {
        let mut uses = IdUses::default();
        for step in steps {
            step(&mut uses, BROKER);
        }
        assert!(!uses.are_expected("another:1883") && !uses.are_abandoned("another:1883"));
        uses.0.get(BROKER).copied()
    }

    #[test]
    fn only_a_new_session_abandons_identifiers() {
        let unreliable: [fn(&mut IdUses, &str); 3] = [IdUses::confirm, IdUses::note_missing, IdUses::confirm];
        assert_eq!(uses(&unreliable), Some(IdUse::Unreliable));
        let steps =
            [&unreliable[..], &[IdUses::begin_session, IdUses::confirm, IdUses::begin_session]].concat();
        assert_eq!(uses(&steps), Some(IdUse::Abandoned));
    }

    #[test]
    fn nothing_is_missing_where_no_identifier_was_confirmed() {
        assert_eq!(uses(&[IdUses::note_missing, IdUses::begin_session]), None);
        assert_eq!(uses(&[IdUses::confirm, IdUses::subscribe_without, IdUses::note_missing]), None);
    }

    #[test]
    fn a_session_subscribed_without_identifiers_stays_without_them() {
        let steps = [IdUses::confirm, IdUses::note_missing, IdUses::subscribe_without, IdUses::confirm];
        assert_eq!(uses(&steps), Some(IdUse::Abandoned));
    }
}
