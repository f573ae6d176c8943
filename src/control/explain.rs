//! Explains a message: which flows get it, and its outcome in each.

use super::{Control, ControlError};
use crate::domain::batch::{ProcessError, Rejection};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::processing::{ProcessingRules, TrialResult, try_message};
use crate::domain::topic_trial::{TopicVerdict, check_topic};
use crate::inbox::avoided_filters;
use crate::store;

/// The outcome of a message.
#[derive(Debug)]
pub struct Explanation {
    /// All flows, in the order of their ids.
    pub flows: Vec<ExplainedFlow>,
    /// Why the payload is invalid for every flow: the message becomes one dead letter.
    pub payload_rejection: Option<Rejection>,
}

/// The outcome of a message in one flow.
#[derive(Debug)]
pub struct ExplainedFlow {
    /// The flow.
    pub flow: FlowRecord,
    /// Whether it gets messages of the topic.
    pub verdict: TopicVerdict,
    /// The outcome of the payload, if the flow gets it and it is valid.
    pub trial: Option<TrialResult>,
}

impl Control {
    /// Explains the outcomes of messages of a topic and, if there is one, of this payload.
    pub async fn explain(&self, topic: &str, payload: Option<&[u8]>) -> Result<Explanation, ControlError> {
        check_topic(topic).map_err(|problem| ControlError::Invalid { problems: vec![problem] })?;
        let judge = self.judge_of(topic);
        let explained = |flow: FlowRecord| {
            let verdict = judge(&flow.definition);
            ExplainedFlow { flow, verdict, trial: None }
        };
        let flows = self.flows().await?.into_iter().map(explained).collect();
        let mut explanation = Explanation { flows, payload_rejection: None };
        if let Some(payload) = payload {
            let rules = self.rules().await?;
            explanation.try_payload(&rules, topic, payload);
        }
        Ok(explanation)
    }

    /// Judges whether a flow gets the messages of a topic.
    pub(super) fn judge_of(&self, topic: &str) -> impl Fn(&FlowDefinition) -> TopicVerdict {
        // Without an inbox, no filter is known that the broker refuses.
        let avoided = avoided_filters(&self.settings.inbox.dir).unwrap_or_default();
        move |flow| {
            let is_avoided = avoided.contains(&self.settings.role.subscribes(&flow.topic));
            TopicVerdict::new(flow, topic, is_avoided)
        }
    }

    pub(super) async fn rules(&self) -> Result<ProcessingRules, ControlError> {
        let limits = store::load_limits(&self.database).await?;
        Ok(ProcessingRules::new(
            "".into(),
            self.settings.value_style,
            self.settings.limits,
            limits,
            self.settings.outbox.max_rows_per_flow,
            self.settings.keys_known_for,
        ))
    }
}

impl Explanation {
    fn try_payload(&mut self, rules: &ProcessingRules, topic: &str, payload: &[u8]) {
        let matching = || self.flows.iter().filter(|flow| flow.verdict == TopicVerdict::Matches);
        let flows: Vec<&FlowRecord> = matching().map(|explained| &explained.flow).collect();
        let mut trials = try_message(rules, &flows, topic, payload);
        if let [TrialResult { result: Err(ProcessError::Rejected(rejection)), .. }] = trials.as_slice()
            && rejection.flow.is_none()
        {
            self.payload_rejection = Some(rejection.clone());
            return;
        }
        trials.reverse();
        for flow in self.flows.iter_mut().filter(|flow| flow.verdict == TopicVerdict::Matches) {
            flow.trial = trials.pop();
        }
    }
}
