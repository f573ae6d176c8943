//! Tracks whether subscription identifiers work at each broker.
//!
//! A broker may drop the identifiers of stored subscriptions (rumqttd 0.20 does so with the connection). It then sends
//! indistinguishable copies for overlapping filters. Joined filters avoid that, but only a new session can use them. In
//! the old session they could lose messages. A copy for one filter is acknowledged, and rumqttd drops the copies for
//! the others when they are unsubscribed.
//!
//! ```text
//!   Used ──message without one──▶ Unreliable ──new session──▶ Abandoned
//!    ▲                                └──────subscribed without them──────▲
//!    └──all subscribed with them
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// State of identifiers in our session at a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IdUse {
    /// The broker has confirmed all subscriptions with their identifiers.
    Used,
    /// The broker has then sent messages without identifiers. Subscriptions with identifiers remain.
    Unreliable,
    /// This session and later ones subscribe without identifiers.
    Abandoned,
}

/// State per broker (`host:port`). Brokers without a confirmed identifier have no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdUses(BTreeMap<String, IdUse>);

impl IdUses {
    /// Whether every message of this broker should have an identifier.
    #[must_use]
    pub fn are_expected(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Used)
    }

    /// Whether the broker drops identifiers in the current session.
    #[must_use]
    pub fn are_unreliable(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Unreliable)
    }

    /// Whether subscriptions at this broker have no identifiers.
    #[must_use]
    pub fn are_abandoned(&self, broker: &str) -> bool {
        self.0.get(broker) == Some(&IdUse::Abandoned)
    }

    /// Records a new session at the broker.
    pub fn begin_session(&mut self, broker: &str) {
        if self.are_unreliable(broker) {
            self.set(broker, IdUse::Abandoned);
        }
    }

    /// Records that filters are about to be subscribed without identifiers.
    pub fn subscribe_without(&mut self, broker: &str) {
        if self.are_expected(broker) {
            self.0.remove(broker);
        }
        self.begin_session(broker);
    }

    /// Records that the broker has confirmed all filters with identifiers.
    pub fn confirm(&mut self, broker: &str) {
        if !self.0.contains_key(broker) {
            self.set(broker, IdUse::Used);
        }
    }

    /// Records a message without the expected identifier.
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
    fn only_new_sessions_abandon_identifiers() {
        let unreliable: [fn(&mut IdUses, &str); 3] = [IdUses::confirm, IdUses::note_missing, IdUses::confirm];
        assert_eq!(uses(&unreliable), Some(IdUse::Unreliable));
        let steps =
            [&unreliable[..], &[IdUses::begin_session, IdUses::confirm, IdUses::begin_session]].concat();
        assert_eq!(uses(&steps), Some(IdUse::Abandoned));
    }

    #[test]
    fn unconfirmed_identifiers_are_never_missing() {
        assert_eq!(uses(&[IdUses::note_missing, IdUses::begin_session]), None);
        assert_eq!(uses(&[IdUses::confirm, IdUses::subscribe_without, IdUses::note_missing]), None);
    }

    #[test]
    fn sessions_without_identifiers_stay_so() {
        let steps = [IdUses::confirm, IdUses::note_missing, IdUses::subscribe_without, IdUses::confirm];
        assert_eq!(uses(&steps), Some(IdUse::Abandoned));
    }
}
