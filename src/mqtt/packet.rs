//! SUBSCRIBE and UNSUBSCRIBE packets, and the interpretation of their acknowledgements.

use paho_mqtt::{
    AsyncClient, Error, Properties, PropertyCode, QoS, RetainHandling, ServerResponse, SubscribeOptions,
    Token,
};

use super::options::{MqttError, RefusedCode, Subscription};
use crate::domain::broker::MqttVersion;
use crate::domain::message::SubscriptionId;

/// Maximum number of filters in a packet: the lowest limit of a known service (AWS `IoT` Core).
const FILTERS_PER_PACKET: usize = 8;

/// Filter that is never subscribed. Unsubscribing it changes nothing and makes the broker answer.
pub(super) const PROBE_FILTER: &str = "mqtt-gateway/sign-of-life";

/// Outcome of each filter: the granted code or the refusal.
pub(super) type Answers = Vec<(String, Result<u8, RefusedCode>)>;

/// Subscription options of the current connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) version: MqttVersion,
    pub(super) names_subscriptions: bool,
    pub(super) qos: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    filters: Vec<String>,
    kind: PacketKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PacketKind {
    Subscribe(Option<SubscriptionId>),
    Unsubscribe,
}

impl Packet {
    /// Creates the packets that subscribe all of `subscriptions`.
    pub(super) fn subscribing(subscriptions: Vec<Subscription>, terms: Terms) -> Vec<Packet> {
        match terms.version {
            // An identifier applies to a whole packet, so each filter needs its own.
            MqttVersion::V5 => subscriptions
                .into_iter()
                .map(|Subscription { filter, id }| Packet {
                    filters: vec![filter],
                    kind: PacketKind::Subscribe(id.filter(|_| terms.names_subscriptions)),
                })
                .collect(),
            MqttVersion::V311 => {
                let filters: Vec<_> = subscriptions.into_iter().map(|s| s.filter).collect();
                Packet::chunks(&filters, PacketKind::Subscribe(None))
            }
        }
    }

    /// Creates the packets that unsubscribe all of `filters`.
    pub(super) fn unsubscribing(filters: &[String]) -> Vec<Packet> {
        Packet::chunks(filters, PacketKind::Unsubscribe)
    }

    /// Creates a probe request, which changes nothing and makes the broker answer.
    pub(super) fn probe() -> Packet {
        Packet { filters: vec![PROBE_FILTER.to_owned()], kind: PacketKind::Unsubscribe }
    }

    pub(super) fn filters(&self) -> &[String] {
        &self.filters
    }

    fn chunks(filters: &[String], kind: PacketKind) -> Vec<Packet> {
        let packet = |filters: &[String]| Packet { filters: filters.to_vec(), kind };
        filters.chunks(FILTERS_PER_PACKET).map(packet).collect()
    }

    /// Hands the packet to paho, which sends it when possible.
    pub(super) fn send(&self, client: &AsyncClient, terms: Terms) -> Token {
        let qos = QoS::from(i32::from(terms.qos));
        match (self.kind, terms.version) {
            (PacketKind::Subscribe(id), MqttVersion::V5) => {
                // Retained messages arrive once per new subscription, not again at each reconnect.
                let options = SubscribeOptions::with_retain_handling(RetainHandling::SendRetainedOnNew);
                let filter = self.filters.first().map_or("", String::as_str);
                client.subscribe_with_options(filter, qos, options, identifier(id))
            }
            (PacketKind::Subscribe(_), MqttVersion::V311) => {
                client.subscribe_many(&self.filters, &vec![qos; self.filters.len()])
            }
            (PacketKind::Unsubscribe, _) => client.unsubscribe_many(&self.filters),
        }
    }

    /// Reads the outcome of each filter.
    pub(super) fn answers(&self, outcome: Result<ServerResponse, Error>) -> Result<Answers, MqttError> {
        let codes = match outcome {
            Ok(response) => self.codes(&response),
            // For a single filter, paho reports a refusal as an error.
            Err(Error::ReasonCode(code, _)) => vec![code as u8],
            Err(Error::Failure) if self.filters.len() == 1 => vec![RefusedCode::UNSPECIFIED.0],
            Err(Error::Disconnected | Error::OperationIncomplete | Error::Failure) => {
                return Err(MqttError::NotConnected);
            }
            Err(other) => return Err(MqttError::Client(other.to_string())),
        };
        // A filter without a code was not granted.
        let codes = codes.into_iter().chain(std::iter::repeat(RefusedCode::UNSPECIFIED.0));
        Ok(self.filters.iter().cloned().zip(codes.map(granted)).collect())
    }

    fn codes(&self, response: &ServerResponse) -> Vec<u8> {
        let many = response.subscribe_many_response().or_else(|| response.unsubscribe_many_response());
        match (many, response.subscribe_response()) {
            (Some(codes), _) => codes.into_iter().map(code).collect(),
            (None, Some(single)) => vec![code(single)],
            // UNSUBACK of MQTT 3.1.1 has no codes.
            (None, None) => vec![0; self.filters.len()],
        }
    }
}

fn code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(RefusedCode::UNSPECIFIED.0)
}

fn granted(code: u8) -> Result<u8, RefusedCode> {
    if code < RefusedCode::UNSPECIFIED.0 { Ok(code) } else { Err(RefusedCode(code)) }
}

fn identifier(id: Option<SubscriptionId>) -> Properties {
    let mut properties = Properties::new();
    if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
        // Fails only when out of memory. Without an identifier a message is routed by its topic.
        let _ = properties.push_int(PropertyCode::SubscriptionIdentifier, id);
    }
    properties
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use paho_mqtt::ReasonCode;

    use super::*;

    const V5: Terms = Terms { version: MqttVersion::V5, names_subscriptions: true, qos: 1 };
    const V311: Terms = Terms { version: MqttVersion::V311, names_subscriptions: false, qos: 1 };

    fn subscriptions(count: u32) -> Vec<Subscription> {
        let subscription = |n| Subscription { filter: format!("t/{n}"), id: Some(n) };
        (1..=count).map(subscription).collect()
    }

    fn packet(filters: &[&str]) -> Packet {
        Packet { filters: filters.iter().map(|&f| f.to_owned()).collect(), kind: PacketKind::Subscribe(None) }
    }

    #[test]
    fn every_identifier_has_its_own_packet() {
        let packets = Packet::subscribing(subscriptions(3), V5);
        let kinds: Vec<_> = packets.iter().map(|p| p.kind).collect();
        assert_eq!(kinds, [1, 2, 3].map(|id| PacketKind::Subscribe(Some(id))));
    }

    #[test]
    fn identifiers_are_omitted_without_support() {
        let terms = Terms { names_subscriptions: false, ..V5 };
        assert_eq!(Packet::subscribing(subscriptions(1), terms), [packet(&["t/1"])]);
    }

    #[test]
    fn v311_packets_share_all_filters() {
        let packets = Packet::subscribing(subscriptions(19), V311);
        let sizes: Vec<_> = packets.iter().map(|p| p.filters.len()).collect();
        assert_eq!(sizes, [8, 8, 3]);
    }

    #[test]
    fn refusals_belong_to_their_filter() {
        let error = Error::ReasonCode(ReasonCode::NotAuthorized, Properties::new());
        let answers = packet(&["a"]).answers(Err(error)).unwrap();
        assert_eq!(answers, [("a".to_owned(), Err(RefusedCode(135)))]);
    }

    #[test]
    fn acknowledgements_without_codes_grant_all() {
        let answers = packet(&["a", "b"]).answers(Ok(ServerResponse::new())).unwrap();
        assert_eq!(answers, [("a".to_owned(), Ok(0)), ("b".to_owned(), Ok(0))]);
    }

    #[test]
    fn interrupted_packets_can_be_retried() {
        let answers = packet(&["a", "b"]).answers(Err(Error::OperationIncomplete));
        assert!(matches!(answers, Err(MqttError::NotConnected)));
    }
}
