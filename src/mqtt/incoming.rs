//! Converts messages from paho's receiving thread into [`Publication`]s.

use paho_mqtt::{Message, Properties, PropertyCode};

use super::delivery_flags::delivery_flags;
use super::relay::{Rejected, Token};
use crate::domain::message::{DeliveryFacts, Publication, SubscriptionId};

/// Events of a connection, in order.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// A connection starts. All later messages came over it.
    ConnectionBegins {
        /// `host:port` of the broker.
        server: &'a str,
        /// Whether the broker limits unacknowledged messages to our receive maximum.
        in_flight_bounded: bool,
    },
    /// Message, acknowledged when the callback returns.
    Message(&'a Publication<'a>),
}

/// Calls `take` with the message. The topic equals `token` if the relay has rejected the message.
pub(super) fn convert_message(message: &Message, token: &Token, take: &dyn Fn(Incoming<'_>)) {
    // With unreadable flags no message counts as a redelivery: a duplicate is better than a loss.
    let (duplicate, packet_id) = delivery_flags(message).unwrap_or_default();
    let delivery = DeliveryFacts {
        qos: message.qos() as u8,
        packet_id,
        duplicate,
        retained: message.retained(),
        subscription_ids: subscription_ids(message.properties()),
        user_properties: user_properties(message.properties()),
    };
    let rejected = (message.topic() == token.as_str()).then(|| Rejected::decode(message.payload())).flatten();
    let (topic, payload) = match &rejected {
        Some(rejected) => (rejected.topic.as_str(), rejected.head.as_slice()),
        None => (message.topic(), message.payload()),
    };
    let unfit = rejected.as_ref().map(|rejected| rejected.unfit);
    take(Incoming::Message(&Publication { topic, payload, delivery: &delivery, unfit }));
}

/// Reads all subscription identifiers. A broker may send one copy for several matching subscriptions.
fn subscription_ids(properties: &Properties) -> Vec<SubscriptionId> {
    if properties.is_empty() {
        return Vec::new();
    }
    (0..)
        .map_while(|index| properties.get_int_at(PropertyCode::SubscriptionIdentifier, index))
        .filter_map(|id| SubscriptionId::try_from(id).ok())
        .collect()
}

/// Maximum number of user properties. The library counts from the first at each access; the inbox bounds their bytes.
const MAX_USER_PROPERTIES: usize = 64;

/// Reads by index, because the iterator of the library stops at the first unreadable property.
fn user_properties(properties: &Properties) -> Vec<(String, String)> {
    let most = properties.len().min(MAX_USER_PROPERTIES);
    (0..most).filter_map(|index| properties.get_string_pair_at(PropertyCode::UserProperty, index)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;

    use paho_mqtt::MessageBuilder;

    use super::*;

    #[test]
    fn identifiers_and_user_properties_keep_their_order() {
        let mut properties = Properties::new();
        for id in [7, 268_435_455, 1] {
            properties.push_int(PropertyCode::SubscriptionIdentifier, id).unwrap();
            properties.push_string_pair(PropertyCode::UserProperty, "unit", "°C").unwrap();
        }
        let message = MessageBuilder::new()
            .topic("plant/1")
            .payload("x")
            .qos(1)
            .retained(true)
            .properties(properties)
            .finalize();

        let taken = RefCell::new(None);
        convert_message(&message, &Token::new(), &|incoming| {
            let Incoming::Message(publication) = incoming else { panic!("{incoming:?}") };
            assert_eq!((publication.topic, publication.payload), ("plant/1", b"x".as_slice()));
            *taken.borrow_mut() = Some(publication.delivery.clone());
        });
        let expected = DeliveryFacts {
            qos: 1,
            retained: true,
            subscription_ids: vec![7, 268_435_455, 1],
            user_properties: vec![("unit".to_owned(), "°C".to_owned()); 3],
            ..DeliveryFacts::default()
        };
        assert_eq!(taken.into_inner(), Some(expected));
    }

    #[test]
    fn excess_user_properties_are_dropped() {
        let mut properties = Properties::new();
        for number in 0..1_000 {
            let value = if number % 2 == 0 { String::new() } else { number.to_string() };
            properties.push_string_pair(PropertyCode::UserProperty, "", &value).unwrap();
        }
        let read = user_properties(&properties);
        assert_eq!(read.len(), MAX_USER_PROPERTIES);
        assert_eq!(read[..2], [(String::new(), String::new()), (String::new(), "1".to_owned())]);
        assert!(user_properties(&Properties::new()).is_empty());
    }
}
