//! List of brokers, with the state of each.

use std::sync::Arc;

use super::failure::FailureKind;
use crate::domain::broker::{Broker, MqttVersion};

/// Brokers in the order of attempts, with the state of each.
#[derive(Debug)]
pub(super) struct ServerList(Vec<ServerEntry>);

#[derive(Debug)]
struct ServerEntry {
    server: Arc<Broker>,
    versions: VersionChoice,
    /// Number of quick losses in a row.
    quick_losses: u32,
}

/// Choice of the MQTT version for a broker.
///
/// Without a required version, attempts start with MQTT 5. A refusal is immediate, and an upgraded broker is recognised
/// without a restart. After a timeout with MQTT 5 the broker gets 3.1.1 until that fails, because each timeout takes
/// ten seconds.
///
/// A broker whose last connection used MQTT 5 is more likely restarting, behind a proxy that accepts connections, or
/// hung. A connection with 3.1.1 would last although it has no subscription identifiers. So such a broker is rarely
/// tried with 3.1.1.
#[derive(Debug, Default)]
pub(super) struct VersionChoice {
    prescribed: Option<MqttVersion>,
    /// Number of attempts with MQTT 5 in a row without a valid answer.
    unanswered: u32,
    /// Version of the last connection.
    last: Option<MqttVersion>,
    /// Whether an attempt with MQTT 5 has timed out, and none with 3.1.1 has failed since.
    timed_out_on_v5: bool,
}

impl ServerList {
    pub(super) fn new(servers: Vec<Broker>) -> ServerList {
        ServerList(servers.into_iter().map(ServerEntry::new).collect())
    }

    /// Replaces the list and keeps the state of unchanged servers. Returns false if the list is the same.
    pub(super) fn replace(&mut self, servers: Vec<Broker>) -> bool {
        if self.0.iter().map(|entry| &*entry.server).eq(&servers) {
            return false;
        }
        let mut before = std::mem::take(&mut self.0);
        self.0 = servers
            .into_iter()
            .map(|server| match before.iter().position(|entry| *entry.server == server) {
                Some(at) => before.swap_remove(at),
                None => ServerEntry::new(server),
            })
            .collect();
        true
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<Broker>> {
        self.0.get(index).map(|entry| Arc::clone(&entry.server))
    }

    pub(super) fn position(&self, server: &Broker) -> Option<usize> {
        self.0.iter().position(|entry| *entry.server == *server)
    }

    /// Returns the servers that precede this one.
    pub(super) fn before(&self, server: &Broker) -> Vec<Arc<Broker>> {
        let before = self.position(server).unwrap_or(0);
        self.0.iter().take(before).map(|entry| Arc::clone(&entry.server)).collect()
    }

    /// Returns the next server of the list.
    pub(super) fn next_after(&self, server: &Broker) -> Option<Arc<Broker>> {
        self.get(self.position(server)? + 1)
    }

    /// Returns the number of quick losses in a row at this server.
    pub(super) fn quick_losses(&mut self, server: &Broker) -> Option<&mut u32> {
        self.entry(server).map(|entry| &mut entry.quick_losses)
    }

    pub(super) fn versions(&mut self, server: &Broker) -> Option<&mut VersionChoice> {
        self.entry(server).map(|entry| &mut entry.versions)
    }

    fn entry(&mut self, server: &Broker) -> Option<&mut ServerEntry> {
        self.0.iter_mut().find(|entry| *entry.server == *server)
    }

    /// Lists the addresses in order, for log lines.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<String> = self.0.iter().map(|entry| entry.server.address()).collect();
        addresses.join(", ")
    }
}

impl ServerEntry {
    fn new(server: Broker) -> ServerEntry {
        let versions = VersionChoice { prescribed: server.version, ..VersionChoice::default() };
        ServerEntry { server: Arc::new(server), versions, quick_losses: 0 }
    }
}

/// Number of unanswered attempts before the fallback. A broker during start or stop ignores one CONNECT, an old one
/// all.
const UNANSWERED_BEFORE_FALLBACK: u32 = 2;

/// Number of unanswered attempts before each fallback at a broker whose last connection used MQTT 5. With one broker,
/// they take five to ten minutes.
const UNANSWERED_BEFORE_DOWNGRADE: u32 = 20;

impl VersionChoice {
    pub(super) fn first(&self) -> MqttVersion {
        let is_known_to_be_old = self.last == Some(MqttVersion::V311) && self.timed_out_on_v5;
        match self.prescribed {
            Some(MqttVersion::V311) => MqttVersion::V311,
            None if is_known_to_be_old => MqttVersion::V311,
            Some(MqttVersion::V5) | None => MqttVersion::V5,
        }
    }

    pub(super) fn record_connected(&mut self, version: MqttVersion) {
        self.unanswered = 0;
        self.last = Some(version);
    }

    /// Records a failed attempt. Returns whether to retry at once with MQTT 3.1.1.
    pub(super) fn fall_back(&mut self, version: MqttVersion, kind: FailureKind) -> bool {
        if version == MqttVersion::V311 {
            self.timed_out_on_v5 = false;
        }
        version == MqttVersion::V5 && self.prescribed.is_none() && self.suggests_v311(kind)
    }

    /// Whether the version may explain a failed attempt without a fallback. The next attempt decides.
    pub(super) fn may_be_version(&self, version: MqttVersion, kind: FailureKind) -> bool {
        version == MqttVersion::V5
            && self.prescribed.is_none()
            && self.last != Some(MqttVersion::V5)
            && kind == FailureKind::NotUnderstood
    }

    fn suggests_v311(&mut self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::VersionRefused => true,
            FailureKind::NotUnderstood | FailureKind::Silent => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.is_fallback_due(kind)
            }
            FailureKind::Refused | FailureKind::Unreachable => {
                self.unanswered = 0;
                false
            }
        }
    }

    fn is_fallback_due(&mut self, kind: FailureKind) -> bool {
        if self.last == Some(MqttVersion::V5) {
            return self.unanswered.is_multiple_of(UNANSWERED_BEFORE_DOWNGRADE);
        }
        self.timed_out_on_v5 |= kind == FailureKind::Silent;
        kind == FailureKind::Silent
            || self.last == Some(MqttVersion::V311)
            || self.unanswered >= UNANSWERED_BEFORE_FALLBACK
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::credential::Credential;

    fn server(id: i64) -> Broker {
        Broker { id, host: format!("h{id}"), port: 1883, credentials: None, tls: None, version: None }
    }

    #[test]
    fn unchanged_servers_keep_their_state() {
        let mut list = ServerList::new(vec![server(1), server(2)]);
        list.versions(&server(2)).unwrap().record_connected(MqttVersion::V311);
        assert!(!list.replace(vec![server(1), server(2)]));
        assert!(list.replace(vec![server(2), server(3)]));
        assert!(list.versions(&server(2)).unwrap().fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
        assert!(!list.versions(&server(3)).unwrap().fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
        assert_eq!((list.position(&server(1)), list.position(&server(3))), (None, Some(1)));
        assert_eq!(list.addresses(), "h2:1883, h3:1883");
    }

    #[test]
    fn changed_password_is_another_server() {
        let with = |password: &str| Broker {
            credentials: Some((Credential::new("u"), Credential::new(password))),
            ..server(1)
        };
        let mut list = ServerList::new(vec![with("a")]);
        assert!(list.replace(vec![with("b")]));
    }

    #[test]
    fn preferred_servers_precede_in_the_list() {
        let list = ServerList::new(vec![server(1), server(2), server(3)]);
        let before: Vec<_> = list.before(&server(3)).iter().map(|server| server.id).collect();
        assert_eq!(before, [1, 2]);
        assert!(list.before(&server(1)).is_empty() && list.before(&server(9)).is_empty());
    }

    #[test]
    fn version_refusal_falls_back_at_once() {
        let mut versions = VersionChoice::default();
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::VersionRefused));
        assert!(!versions.fall_back(MqttVersion::V311, FailureKind::VersionRefused));
    }

    #[test]
    fn second_unanswered_attempt_falls_back() {
        let mut versions = VersionChoice::default();
        assert!(!versions.fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn v311_is_kept_until_it_fails() {
        let mut versions = VersionChoice::default();
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::Silent));
        assert_eq!(versions.first(), MqttVersion::V5, "the older one has not worked yet");
        versions.record_connected(MqttVersion::V311);
        assert_eq!(versions.first(), MqttVersion::V311);
        assert!(!versions.fall_back(MqttVersion::V311, FailureKind::Unreachable));
        assert_eq!(versions.first(), MqttVersion::V5);
    }

    #[test]
    fn hung_v5_brokers_do_not_fall_back() {
        let mut versions = VersionChoice::default();
        versions.record_connected(MqttVersion::V5);
        assert!(!versions.fall_back(MqttVersion::V5, FailureKind::Silent));
        assert_eq!(versions.first(), MqttVersion::V5);
    }

    #[test]
    fn restarting_v5_brokers_rarely_fall_back() {
        for kind in [FailureKind::NotUnderstood, FailureKind::Silent] {
            let mut versions = VersionChoice::default();
            versions.record_connected(MqttVersion::V5);
            assert!(!versions.may_be_version(MqttVersion::V5, kind));
            let fallbacks: Vec<u32> =
                (1..=45).filter(|_| versions.fall_back(MqttVersion::V5, kind)).collect();
            assert_eq!(fallbacks, [20, 40]);
            assert_eq!(versions.first(), MqttVersion::V5);
        }
    }

    #[test]
    fn downgraded_brokers_fall_back_at_once() {
        let mut versions = VersionChoice::default();
        versions.record_connected(MqttVersion::V5);
        versions.record_connected(MqttVersion::V311);
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::Silent));
        assert_eq!(versions.first(), MqttVersion::V311);
    }

    #[test]
    fn first_unclear_answer_is_undecided() {
        let mut versions = VersionChoice::default();
        assert!(versions.may_be_version(MqttVersion::V5, FailureKind::NotUnderstood));
        assert!(!versions.may_be_version(MqttVersion::V311, FailureKind::NotUnderstood));
        assert!(!versions.may_be_version(MqttVersion::V5, FailureKind::Unreachable));
        versions.prescribed = Some(MqttVersion::V5);
        assert!(!versions.may_be_version(MqttVersion::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn known_v311_brokers_fall_back_at_once() {
        let mut versions = VersionChoice::default();
        versions.record_connected(MqttVersion::V311);
        assert!(versions.fall_back(MqttVersion::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn other_failures_never_fall_back() {
        let mut versions = VersionChoice::default();
        versions.record_connected(MqttVersion::V311);
        for kind in [FailureKind::Unreachable, FailureKind::Refused] {
            assert!((0..20).all(|_| !versions.fall_back(MqttVersion::V5, kind)));
        }
    }

    #[test]
    fn required_version_is_the_only_one() {
        let prescribed = |version| VersionChoice { prescribed: Some(version), ..VersionChoice::default() };
        assert_eq!(prescribed(MqttVersion::V311).first(), MqttVersion::V311);
        assert_eq!(prescribed(MqttVersion::V5).first(), MqttVersion::V5);
        assert!(!prescribed(MqttVersion::V5).fall_back(MqttVersion::V5, FailureKind::VersionRefused));
    }
}
