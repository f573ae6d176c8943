//! The published messages: message `i` belongs to flow `i % flows` and has number `i / flows + 1` there.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::options::BenchOptions;

/// Names of the first attributes of a message, with their types in the payload schema.
const FIRST_ATTRIBUTES: [(&str, &str); 3] = [("n", "int"), ("value", "number"), ("text", "string")];

/// Values of the attribute `text`.
const ROOMS: [&str; 4] = ["kitchen", "cellar", "attic", "living room"];

/// Messages and their distribution over flows.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) messages: u64,
    pub(super) flows: u64,
    pub(super) attributes: u32,
    /// Prefix of all topics, unique to this measurement.
    pub(super) prefix: String,
}

impl Workload {
    /// Creates the workload for these options, with topics that start with `prefix`.
    pub(super) fn new(options: &BenchOptions, prefix: String) -> Self {
        let BenchOptions { messages, flows, attributes, .. } = *options;
        Self { messages, flows, attributes, prefix }
    }

    /// Returns the flow of a message.
    pub(super) fn flow_of(&self, message: u64) -> u64 {
        message % self.flows
    }

    /// Returns the number of a message within its flow, from 1.
    pub(super) fn number_of(&self, message: u64) -> u64 {
        message / self.flows + 1
    }

    /// Returns the message with this number in this flow.
    pub(super) fn message_of(&self, flow: u64, number: u64) -> u64 {
        (number - 1) * self.flows + flow
    }

    /// Returns the number of messages of a flow.
    pub(super) fn messages_of(&self, flow: u64) -> u64 {
        self.messages / self.flows + u64::from(flow < self.messages % self.flows)
    }

    /// Returns the topic of a flow.
    pub(super) fn topic_of(&self, flow: u64) -> String {
        format!("{}/{flow}", self.prefix)
    }

    /// Returns the payload schema of the flows.
    pub(super) fn payload_schema(&self) -> Value {
        let count = usize::try_from(self.attributes).unwrap_or(usize::MAX);
        let fields = FIRST_ATTRIBUTES.iter().take(count);
        Value::Object(
            fields.map(|(name, kind)| ((*name).to_owned(), Value::from(*kind))).collect::<Map<_, _>>(),
        )
    }

    /// Returns the payload of a message.
    pub(super) fn payload_of(&self, message: u64) -> Vec<u8> {
        let number = self.number_of(message);
        let (hundredths, room) = (message % 4_000, ROOMS[usize::try_from(message % 4).unwrap_or(0)]);
        let mut text = format!(r#"{{"n": {number}"#);
        for index in 1..self.attributes {
            // Writing to a string cannot fail.
            let _ = match index {
                1 => write!(text, r#", "value": {}.{:02}"#, hundredths / 100, hundredths % 100),
                2 => write!(text, r#", "text": "{room}""#),
                _ => write!(text, r#", "a{index}": {hundredths}"#),
            };
        }
        text.push('}');
        text.into_bytes()
    }
}

impl Workload {
    /// Returns names and values of a message's attributes, as they are stored.
    pub(super) fn attributes_of(&self, message: u64) -> Vec<(String, String)> {
        let payload: Map<String, Value> =
            serde_json::from_slice(&self.payload_of(message)).unwrap_or_default();
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        payload.into_iter().map(|(name, value)| (name, text(value))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workload(messages: u64, flows: u64, attributes: u32) -> Workload {
        Workload { messages, flows, attributes, prefix: "bench".to_owned() }
    }

    proptest! {
        #[test]
        fn numbers_have_no_gaps(messages in 1..500_u64, flows in 1..40_u64) {
            let workload = workload(messages, flows, 3);
            let mut seen = vec![0; usize::try_from(flows).unwrap()];
            for message in 0..messages {
                let (flow, number) = (workload.flow_of(message), workload.number_of(message));
                prop_assert_eq!(workload.message_of(flow, number), message);
                let of_flow = &mut seen[usize::try_from(flow).unwrap()];
                *of_flow += 1;
                prop_assert_eq!(*of_flow, number);
            }
            for (flow, count) in (0..flows).zip(seen) {
                prop_assert_eq!(workload.messages_of(flow), count);
            }
        }

        #[test]
        fn payloads_match_options_and_schema(
            message in 0..100_000_u64,
            attributes in 1..20_u32,
        ) {
            let workload = workload(100_000, 16, attributes);
            let payload: Map<String, Value> = serde_json::from_slice(&workload.payload_of(message)).unwrap();
            prop_assert_eq!(payload.len(), usize::try_from(attributes).unwrap());
            let schema = workload.payload_schema();
            prop_assert!(schema.as_object().unwrap().keys().all(|name| payload.contains_key(name)));
            prop_assert_eq!(payload["n"].as_u64(), Some(workload.number_of(message)));
        }
    }
}
