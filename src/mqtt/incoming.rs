//! What paho's receiving thread hands over, messages turned into [`Publication`]s.

use paho_mqtt::{Message, Properties, PropertyCode};

use super::delivery_flags::delivery_flags;
use crate::domain::message::{DeliveryFacts, Publication, SubscriptionId};

/// What a connection brings, in order.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// A connection is there; all that follows came over it.
    ConnectionBegins {
        /// The broker sends no more messages ahead of our acknowledgements than we allow.
        in_flight_bounded: bool,
    },
    /// A message, acknowledged when the callback returns.
    Message(&'a Publication<'a>),
}

/// Calls `take` with what was published.
pub(super) fn hand_over(message: &Message, take: &dyn Fn(Incoming<'_>)) {
    // Where the flags cannot be read nothing is taken for a redelivery: a duplicate is better than a loss.
    let (duplicate, packet_id) = delivery_flags(message).unwrap_or_default();
    let delivery = DeliveryFacts {
        qos: message.qos() as u8,
        packet_id,
        duplicate,
        retained: message.retained(),
        subscription_ids: subscription_ids(message.properties()),
    };
    let publication = Publication { topic: message.topic(), payload: message.payload(), delivery: &delivery };
    take(Incoming::Message(&publication));
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;

    use paho_mqtt::MessageBuilder;

    use super::*;

    #[test]
    fn every_subscription_identifier_is_handed_over_in_order() {
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
        hand_over(&message, &|incoming| {
            let Incoming::Message(publication) = incoming else { panic!("{incoming:?}") };
            assert_eq!((publication.topic, publication.payload), ("plant/1", b"x".as_slice()));
            *taken.borrow_mut() = Some(publication.delivery.clone());
        });
        let expected = DeliveryFacts {
            qos: 1,
            retained: true,
            subscription_ids: vec![7, 268_435_455, 1],
            ..DeliveryFacts::default()
        };
        assert_eq!(taken.into_inner(), Some(expected));
    }
}
