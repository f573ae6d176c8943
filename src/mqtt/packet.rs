//! One SUBSCRIBE or UNSUBSCRIBE packet: what goes into it, and what its acknowledgement says.

use paho_mqtt::{
    AsyncClient, Error, Properties, PropertyCode, QoS, RetainHandling, ServerResponse, SubscribeOptions,
    Token,
};

use super::options::{MqttError, RefusedCode, Subscription};
use super::version::Version;
use crate::domain::message::SubscriptionId;

/// Filters in a packet that may hold several. The least that a known service bounds it by (AWS `IoT` Core).
const FILTERS_PER_PACKET: usize = 8;

/// A filter that nobody subscribes: to end it changes nothing, and a broker that lives answers.
pub(super) const NOBODYS_FILTER: &str = "mqtt-gateway/sign-of-life";

/// What became of each filter: the code granted, or the refusal.
pub(super) type Answers = Vec<(String, Result<u8, RefusedCode>)>;

/// How subscriptions are made on the present connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) version: Version,
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
    /// Packets that together subscribe all of `subscriptions`.
    pub(super) fn subscribing(subscriptions: Vec<Subscription>, terms: Terms) -> Vec<Packet> {
        match terms.version {
            // An identifier belongs to a packet, not to a filter: a packet for each.
            Version::V5 => subscriptions
                .into_iter()
                .map(|Subscription { filter, id }| Packet {
                    filters: vec![filter],
                    kind: PacketKind::Subscribe(id.filter(|_| terms.names_subscriptions)),
                })
                .collect(),
            Version::V311 => {
                let filters: Vec<_> = subscriptions.into_iter().map(|s| s.filter).collect();
                Packet::chunks(&filters, PacketKind::Subscribe(None))
            }
        }
    }

    /// Packets that together unsubscribe all of `filters`.
    pub(super) fn unsubscribing(filters: &[String]) -> Vec<Packet> {
        Packet::chunks(filters, PacketKind::Unsubscribe)
    }

    /// Changes nothing, and a broker that lives answers.
    pub(super) fn question() -> Packet {
        Packet { filters: vec![NOBODYS_FILTER.to_owned()], kind: PacketKind::Unsubscribe }
    }

    pub(super) fn filters(&self) -> &[String] {
        &self.filters
    }

    fn chunks(filters: &[String], kind: PacketKind) -> Vec<Packet> {
        let packet = |filters: &[String]| Packet { filters: filters.to_vec(), kind };
        filters.chunks(FILTERS_PER_PACKET).map(packet).collect()
    }

    /// Hands the packet to paho, which sends it when it can.
    pub(super) fn send(&self, client: &AsyncClient, terms: Terms) -> Token {
        let qos = QoS::from(i32::from(terms.qos));
        match (self.kind, terms.version) {
            (PacketKind::Subscribe(id), Version::V5) => {
                // Retained messages come once for a subscription, not again at each connect.
                let options = SubscribeOptions::with_retain_handling(RetainHandling::SendRetainedOnNew);
                let filter = self.filters.first().map_or("", String::as_str);
                client.subscribe_with_options(filter, qos, options, identifier(id))
            }
            (PacketKind::Subscribe(_), Version::V311) => {
                client.subscribe_many(&self.filters, &vec![qos; self.filters.len()])
            }
            (PacketKind::Unsubscribe, _) => client.unsubscribe_many(&self.filters),
        }
    }

    /// Reads the outcome, filter by filter.
    pub(super) fn answers(&self, outcome: Result<ServerResponse, Error>) -> Result<Answers, MqttError> {
        let codes = match outcome {
            Ok(response) => self.codes(&response),
            // Of a single filter, paho gives a refusal as an error.
            Err(Error::ReasonCode(code, _)) => vec![code as u8],
            Err(Error::Failure) if self.filters.len() == 1 => vec![RefusedCode::UNSPECIFIED.0],
            Err(Error::Disconnected | Error::OperationIncomplete | Error::Failure) => {
                return Err(MqttError::NotConnected);
            }
            Err(other) => return Err(MqttError::Client(other.to_string())),
        };
        // A filter that the broker left out was not granted.
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
        // Fails only when memory is out. Without its identifier a message is routed by its topic.
        let _ = properties.push_int(PropertyCode::SubscriptionIdentifier, id);
    }
    properties
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use paho_mqtt::ReasonCode;

    use super::*;

    const V5: Terms = Terms { version: Version::V5, names_subscriptions: true, qos: 1 };
    const V311: Terms = Terms { version: Version::V311, names_subscriptions: false, qos: 1 };

    fn subscriptions(count: u32) -> Vec<Subscription> {
        let subscription = |n| Subscription { filter: format!("t/{n}"), id: Some(n) };
        (1..=count).map(subscription).collect()
    }

    fn packet(filters: &[&str]) -> Packet {
        Packet { filters: filters.iter().map(|&f| f.to_owned()).collect(), kind: PacketKind::Subscribe(None) }
    }

    #[test]
    fn every_identifier_has_a_packet_of_its_own() {
        let packets = Packet::subscribing(subscriptions(3), V5);
        let kinds: Vec<_> = packets.iter().map(|p| p.kind).collect();
        assert_eq!(kinds, [1, 2, 3].map(|id| PacketKind::Subscribe(Some(id))));
    }

    #[test]
    fn a_broker_that_names_no_subscriptions_gets_no_identifier() {
        let terms = Terms { names_subscriptions: false, ..V5 };
        assert_eq!(Packet::subscribing(subscriptions(1), terms), [packet(&["t/1"])]);
    }

    #[test]
    fn in_the_older_version_filters_share_packets_and_none_is_left_out() {
        let packets = Packet::subscribing(subscriptions(19), V311);
        let sizes: Vec<_> = packets.iter().map(|p| p.filters.len()).collect();
        assert_eq!(sizes, [8, 8, 3]);
    }

    #[test]
    fn a_refusal_is_given_for_its_filter() {
        let error = Error::ReasonCode(ReasonCode::NotAuthorized, Properties::new());
        let answers = packet(&["a"]).answers(Err(error)).unwrap();
        assert_eq!(answers, [("a".to_owned(), Err(RefusedCode(135)))]);
    }

    #[test]
    fn an_acknowledgement_without_codes_grants_all() {
        let answers = packet(&["a", "b"]).answers(Ok(ServerResponse::new())).unwrap();
        assert_eq!(answers, [("a".to_owned(), Ok(0)), ("b".to_owned(), Ok(0))]);
    }

    #[test]
    fn a_packet_cut_off_by_the_end_of_the_connection_may_be_asked_again() {
        let answers = packet(&["a", "b"]).answers(Err(Error::OperationIncomplete));
        assert!(matches!(answers, Err(MqttError::NotConnected)));
    }
}
