//! A broker of the list, and how it is reached.

use std::sync::Arc;

use super::credential::Credential;
use super::failure::FailureKind;
use super::tls_files::TlsFiles;
use super::version::Version;

/// One of the brokers to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerServer {
    /// Its key in the table, for whoever reads an error.
    pub id: i64,
    /// Name or address, without scheme and port.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password, when the broker wants them.
    pub credentials: Option<(Credential, Credential)>,
    /// The files of an encrypted connection; `None`: it is not encrypted.
    pub tls: Option<TlsFiles>,
    /// The one version of MQTT to speak; `None`: 5, and 3.1.1 where the broker does not know it.
    pub version: Option<MqttVersion>,
}

/// A version of MQTT that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

impl BrokerServer {
    /// `host:port`, by which log lines and the inbox name it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The brokers in the order in which they are tried, and what is known of each.
#[derive(Debug)]
pub(super) struct ServerList(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    server: Arc<BrokerServer>,
    versions: Versions,
    /// Connections in a row that were lost quickly.
    quick_losses: u32,
}

/// Which version a broker is spoken to in.
///
/// Unless one is prescribed, attempts start with MQTT 5: a broker that refuses it does so at once, and one that has been
/// upgraded, or was only starting when it seemed to refuse, is found again without a restart. A broker that lets an
/// attempt with MQTT 5 time out is spoken to in 3.1.1 until that fails, for each such attempt takes ten seconds.
#[derive(Debug, Default)]
pub(super) struct Versions {
    prescribed: Option<MqttVersion>,
    unanswered: u32,
    v5_worked: bool,
    v311_worked: bool,
    /// An attempt with MQTT 5 timed out, and none with 3.1.1 has failed since.
    silent_to_v5: bool,
}

impl ServerList {
    pub(super) fn new(servers: Vec<BrokerServer>) -> ServerList {
        ServerList(servers.into_iter().map(Entry::new).collect())
    }

    /// Makes the list another one; what is known of servers that stay is kept. False if it is the same.
    pub(super) fn replace(&mut self, servers: Vec<BrokerServer>) -> bool {
        if self.0.iter().map(|entry| &*entry.server).eq(&servers) {
            return false;
        }
        let mut before = std::mem::take(&mut self.0);
        self.0 = servers
            .into_iter()
            .map(|server| match before.iter().position(|entry| *entry.server == server) {
                Some(at) => before.swap_remove(at),
                None => Entry::new(server),
            })
            .collect();
        true
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<BrokerServer>> {
        self.0.get(index).map(|entry| Arc::clone(&entry.server))
    }

    pub(super) fn position(&self, server: &BrokerServer) -> Option<usize> {
        self.0.iter().position(|entry| *entry.server == *server)
    }

    /// Those that are tried before this one.
    pub(super) fn before(&self, server: &BrokerServer) -> Vec<Arc<BrokerServer>> {
        let before = self.position(server).unwrap_or(0);
        self.0.iter().take(before).map(|entry| Arc::clone(&entry.server)).collect()
    }

    /// The one that is tried after this one.
    pub(super) fn behind(&self, server: &BrokerServer) -> Option<Arc<BrokerServer>> {
        self.get(self.position(server)? + 1)
    }

    /// Connections in a row that this one has lost quickly.
    pub(super) fn quick_losses(&mut self, server: &BrokerServer) -> Option<&mut u32> {
        self.entry(server).map(|entry| &mut entry.quick_losses)
    }

    pub(super) fn versions(&mut self, server: &BrokerServer) -> Option<&mut Versions> {
        self.entry(server).map(|entry| &mut entry.versions)
    }

    fn entry(&mut self, server: &BrokerServer) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| *entry.server == *server)
    }

    /// For people: the addresses in order.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<String> = self.0.iter().map(|entry| entry.server.address()).collect();
        addresses.join(", ")
    }
}

impl Entry {
    fn new(server: BrokerServer) -> Entry {
        let versions = Versions { prescribed: server.version, ..Versions::default() };
        Entry { server: Arc::new(server), versions, quick_losses: 0 }
    }
}

/// A broker that is starting or stopping leaves a CONNECT unanswered once, an old one always.
const UNANSWERED_BEFORE_FALLBACK: u32 = 2;

impl Versions {
    pub(super) fn first(&self) -> Version {
        let is_known_to_be_old = self.v311_worked && self.silent_to_v5;
        match self.prescribed {
            Some(MqttVersion::V311) => Version::V311,
            None if is_known_to_be_old => Version::V311,
            Some(MqttVersion::V5) | None => Version::V5,
        }
    }

    pub(super) fn connected(&mut self, version: Version) {
        self.unanswered = 0;
        self.v311_worked = version == Version::V311;
        self.v5_worked |= version == Version::V5;
    }

    /// Whether a failed attempt in this version should be followed at once by one with MQTT 3.1.1.
    pub(super) fn fall_back(&mut self, version: Version, kind: FailureKind) -> bool {
        if version == Version::V311 {
            self.silent_to_v5 = false;
        }
        version == Version::V5 && self.prescribed.is_none() && self.points_to_an_old_broker(kind)
    }

    /// Whether a failed attempt that is not followed by one with MQTT 3.1.1 may yet be explained by the version: the next
    /// one tells.
    pub(super) fn leaves_open(&self, version: Version, kind: FailureKind) -> bool {
        version == Version::V5 && self.prescribed.is_none() && kind == FailureKind::NotUnderstood
    }

    fn points_to_an_old_broker(&mut self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::VersionRefused => true,
            FailureKind::NotUnderstood => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.v311_worked || self.unanswered >= UNANSWERED_BEFORE_FALLBACK
            }
            // One that has known MQTT 5 does not forget it: it stands still.
            FailureKind::Silent => {
                self.silent_to_v5 = !self.v5_worked;
                self.silent_to_v5
            }
            FailureKind::Refused | FailureKind::Unreachable => {
                self.unanswered = 0;
                false
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn server(id: i64) -> BrokerServer {
        BrokerServer { id, host: format!("h{id}"), port: 1883, credentials: None, tls: None, version: None }
    }

    #[test]
    fn a_list_that_is_replaced_keeps_what_is_known_of_the_servers_that_stay() {
        let mut list = ServerList::new(vec![server(1), server(2)]);
        list.versions(&server(2)).unwrap().connected(Version::V311);
        assert!(!list.replace(vec![server(1), server(2)]));
        assert!(list.replace(vec![server(2), server(3)]));
        assert!(list.versions(&server(2)).unwrap().fall_back(Version::V5, FailureKind::NotUnderstood));
        assert!(!list.versions(&server(3)).unwrap().fall_back(Version::V5, FailureKind::NotUnderstood));
        assert_eq!((list.position(&server(1)), list.position(&server(3))), (None, Some(1)));
        assert_eq!(list.addresses(), "h2:1883, h3:1883");
    }

    #[test]
    fn another_password_makes_it_another_server() {
        let with = |password: &str| BrokerServer {
            credentials: Some((Credential::new("u"), Credential::new(password))),
            ..server(1)
        };
        let mut list = ServerList::new(vec![with("a")]);
        assert!(list.replace(vec![with("b")]));
    }

    #[test]
    fn the_servers_before_one_are_those_that_would_be_rather_had() {
        let list = ServerList::new(vec![server(1), server(2), server(3)]);
        let before: Vec<_> = list.before(&server(3)).iter().map(|server| server.id).collect();
        assert_eq!(before, [1, 2]);
        assert!(list.before(&server(1)).is_empty() && list.before(&server(9)).is_empty());
    }

    #[test]
    fn a_broker_that_names_the_version_as_the_reason_is_asked_in_the_older_one_at_once() {
        let mut versions = Versions::default();
        assert!(versions.fall_back(Version::V5, FailureKind::VersionRefused));
        assert!(!versions.fall_back(Version::V311, FailureKind::VersionRefused));
    }

    #[test]
    fn one_unanswered_attempt_is_forgiven_and_two_point_to_an_old_broker() {
        let mut versions = Versions::default();
        assert!(!versions.fall_back(Version::V5, FailureKind::NotUnderstood));
        assert!(versions.fall_back(Version::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn a_broker_that_is_silent_to_the_newer_version_is_spoken_to_in_the_older_one_until_that_fails() {
        let mut versions = Versions::default();
        assert!(versions.fall_back(Version::V5, FailureKind::Silent));
        assert_eq!(versions.first(), Version::V5, "the older one has not worked yet");
        versions.connected(Version::V311);
        assert_eq!(versions.first(), Version::V311);
        assert!(!versions.fall_back(Version::V311, FailureKind::Unreachable));
        assert_eq!(versions.first(), Version::V5);
    }

    #[test]
    fn a_broker_that_has_known_the_newer_version_and_is_silent_stands_still() {
        let mut versions = Versions::default();
        versions.connected(Version::V5);
        assert!(!versions.fall_back(Version::V5, FailureKind::Silent));
        assert_eq!(versions.first(), Version::V5);
    }

    #[test]
    fn an_attempt_that_is_not_understood_once_says_nothing_yet() {
        let mut versions = Versions::default();
        assert!(versions.leaves_open(Version::V5, FailureKind::NotUnderstood));
        assert!(!versions.leaves_open(Version::V311, FailureKind::NotUnderstood));
        assert!(!versions.leaves_open(Version::V5, FailureKind::Unreachable));
        versions.prescribed = Some(MqttVersion::V5);
        assert!(!versions.leaves_open(Version::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn a_broker_known_to_be_old_is_not_made_to_refuse_twice() {
        let mut versions = Versions::default();
        versions.connected(Version::V311);
        assert!(versions.fall_back(Version::V5, FailureKind::NotUnderstood));
    }

    #[test]
    fn a_broker_that_is_away_or_refuses_us_is_asked_once_per_attempt() {
        let mut versions = Versions::default();
        versions.connected(Version::V311);
        for kind in [FailureKind::Unreachable, FailureKind::Refused] {
            assert!((0..20).all(|_| !versions.fall_back(Version::V5, kind)));
        }
    }

    #[test]
    fn a_prescribed_version_is_the_only_one_tried() {
        let prescribed = |version| Versions { prescribed: Some(version), ..Versions::default() };
        assert_eq!(prescribed(MqttVersion::V311).first(), Version::V311);
        assert_eq!(prescribed(MqttVersion::V5).first(), Version::V5);
        assert!(!prescribed(MqttVersion::V5).fall_back(Version::V5, FailureKind::VersionRefused));
    }
}
