//! The flows with a granted subscription, so that a flow that becomes active is logged once.

use std::collections::BTreeMap;

use super::flow::Flow;
use super::message::FlowId;

/// The topic of each subscribed flow.
#[derive(Debug, Clone, Default)]
pub struct ActiveFlows(BTreeMap<FlowId, String>);

impl ActiveFlows {
    /// Replaces the subscribed flows. Returns the new ones and those whose topic has changed.
    pub fn replace<'a>(&mut self, active: impl Iterator<Item = &'a Flow>) -> Vec<&'a Flow> {
        let before = std::mem::take(&mut self.0);
        let mut new = Vec::new();
        for flow in active {
            if before.get(&flow.id) != Some(&flow.topic) {
                new.push(flow);
            }
            self.0.insert(flow.id, flow.topic.clone());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(id: FlowId, topic: &str) -> Flow {
        let (code, action) = (format!("F{id}"), "STORE_DB".to_owned());
        Flow { id, code, topic: topic.to_owned(), action, endpoint_url: None }
    }

    #[test]
    fn replace_returns_new_flows() {
        let mut active = ActiveFlows::default();
        let (first, second, edited) = (flow(1, "a"), flow(2, "b"), flow(2, "c"));
        assert_eq!(active.replace([&first, &second].into_iter()), [&first, &second]);
        assert!(active.replace([&first, &second].into_iter()).is_empty());
        assert_eq!(active.replace([&first, &edited].into_iter()), [&edited]);
        assert!(active.replace([&edited].into_iter()).is_empty());
        assert_eq!(active.replace([&first, &edited].into_iter()), [&first]);
    }
}
