//! What paho's receiving thread hands over, messages turned into [`Publication`]s.

use paho_mqtt::{Message, Properties, PropertyCode};

use super::delivery_flags::delivery_flags;
use super::relay::{Rejected, Token};
use crate::domain::message::{DeliveryFacts, Publication, SubscriptionId};

/// What a connection brings, in order.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// A connection is there; all that follows came over it.
    ConnectionBegins {
        /// `host:port` of the broker.
        server: &'a str,
        /// The broker sends no more messages ahead of our acknowledgements than we allow.
        in_flight_bounded: bool,
    },
    /// A message, acknowledged when the callback returns.
    Message(&'a Publication<'a>),
}

/// Calls `take` with what was published. The topic is `token` for what the relay has rejected.
pub(super) fn hand_over(message: &Message, token: &Token, take: &dyn Fn(Incoming<'_>)) {
    // Where the flags cannot be read nothing is taken for a redelivery: a duplicate is better than a loss.
    let (duplicate, packet_id) = delivery_flags(message).unwrap_or_default();
    let delivery = DeliveryFacts {
        qos: message.qos() as u8,
        packet_id,
        duplicate,
        retained: message.retained(),
        subscription_ids: subscription_ids(message.properties()),
        user_properties: user_properties(message.properties()),
    };
    let rejected = (message.topic() == token.as_str()).then(|| Rejected::read(message.payload())).flatten();
    let (topic, payload) = match &rejected {
        Some(rejected) => (rejected.topic.as_str(), rejected.head.as_slice()),
        None => (message.topic(), message.payload()),
    };
    let unfit = rejected.as_ref().map(|rejected| rejected.unfit);
    take(Incoming::Message(&Publication { topic, payload, delivery: &delivery, unfit }));
}

/// The property may come several times: a broker may send one copy for all the subscriptions that matched.
fn subscription_ids(properties: &Properties) -> Vec<SubscriptionId> {
    if properties.is_empty() {
        return Vec::new();
    }
    (0..)
        .map_while(|index| properties.get_int_at(PropertyCode::SubscriptionIdentifier, index))
        .filter_map(|id| SubscriptionId::try_from(id).ok())
        .collect()
}

/// So many are looked at: the library counts from the first one at each, and the inbox bounds their bytes.
const MOST_USER_PROPERTIES: usize = 64;

/// By number and not by the library's iterator, which ends at one that it cannot read.
fn user_properties(properties: &Properties) -> Vec<(String, String)> {
    let most = properties.len().min(MOST_USER_PROPERTIES);
    (0..most).filter_map(|index| properties.get_string_pair_at(PropertyCode::UserProperty, index)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;

    use paho_mqtt::MessageBuilder;

    use super::*;

    #[test]
    fn every_subscription_identifier_and_user_property_is_handed_over_in_order() {
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
        hand_over(&message, &Token::new(), &|incoming| {
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
    fn of_very_many_user_properties_the_first_are_handed_over_empty_ones_included() {
        let mut properties = Properties::new();
        for number in 0..1_000 {
            let value = if number % 2 == 0 { String::new() } else { number.to_string() };
            properties.push_string_pair(PropertyCode::UserProperty, "", &value).unwrap();
        }
        let read = user_properties(&properties);
        assert_eq!(read.len(), MOST_USER_PROPERTIES);
        assert_eq!(read[..2], [(String::new(), String::new()), (String::new(), "1".to_owned())]);
        assert!(user_properties(&Properties::new()).is_empty());
    }
}
