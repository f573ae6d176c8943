//! What a change does with what waits: posts, and dead letters.

use std::collections::HashMap;

use super::FilePlan;
use crate::control::{Control, ControlError};
use crate::domain::dead_letter::{DeadLetter, LetterFilter};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::message::FlowId;
use crate::domain::processing::{ProcessingRules, try_message};
use crate::store;

/// Most dead letters of a flow that are tried, the newest ones.
const MAX_TRIED: usize = 1_000;

/// Most flows whose dead letters are tried: more changes are not read one by one.
const MAX_FLOWS: usize = 100;

/// Payloads in memory at once.
const LETTERS_AT_ONCE: usize = 32;

/// What a change of a flow does with what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanEffects {
    /// Posts of the flow that wait in the outbox.
    pub waiting_posts: u64,
    /// The newest dead letters of the flow without a number that were tried.
    pub letters_tried: usize,
    /// Those of them that would be processed now.
    pub letters_passing: usize,
}

impl Control {
    /// The effects of each change of a flow.
    pub async fn plan_effects(&self, plan: &FilePlan) -> Result<Vec<PlanEffects>, ControlError> {
        let mut effects = vec![PlanEffects::default(); plan.flows.len()];
        if plan.flows.iter().all(|change| change.old.is_none()) {
            return Ok(effects);
        }
        let waiting = self.deliveries(None).await?;
        let waiting: HashMap<FlowId, u64> =
            waiting.iter().map(|waiting| (waiting.flow, waiting.posts)).collect();
        let rules = self.rules().await?;
        let mut tried = 0;
        for (change, effects) in plan.flows.iter().zip(&mut effects) {
            let Some(old) = &change.old else { continue };
            effects.waiting_posts = waiting.get(&old.id).copied().unwrap_or(0);
            if let Some(new) = change.new.as_ref().filter(|_| tried < MAX_FLOWS) {
                tried += 1;
                self.try_letters(old, new, &rules, effects).await?;
            }
        }
        Ok(effects)
    }

    /// The effects of an edit of one flow.
    pub(in crate::control) async fn edit_effects(
        &self,
        old: &FlowRecord,
        new: &FlowDefinition,
    ) -> Result<PlanEffects, ControlError> {
        let waiting_posts = self.waiting_posts(old).await?;
        let mut effects = PlanEffects { waiting_posts, ..PlanEffects::default() };
        self.try_letters(old, new, &self.rules().await?, &mut effects).await?;
        Ok(effects)
    }

    async fn try_letters(
        &self,
        old: &FlowRecord,
        new: &FlowDefinition,
        rules: &ProcessingRules,
        effects: &mut PlanEffects,
    ) -> Result<(), ControlError> {
        let flow = FlowRecord { definition: new.clone(), ..old.clone() };
        let code = Some(old.definition.code.clone());
        let filter = LetterFilter { flow: code, is_unnumbered: true, ..LetterFilter::default() };
        let letters = self.dead_letters(&filter, None, MAX_TRIED).await?;
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        for ids in ids.chunks(LETTERS_AT_ONCE) {
            for letter in store::read_letters(&self.database, ids).await? {
                effects.letters_tried += 1;
                effects.letters_passing += usize::from(would_pass(rules, &flow, &letter));
            }
        }
        Ok(())
    }
}

/// Whether the flow would process the message of a dead letter.
fn would_pass(rules: &ProcessingRules, flow: &FlowRecord, letter: &DeadLetter) -> bool {
    let is_whole = letter.payload.len() as u64 == letter.payload_bytes;
    is_whole
        && try_message(rules, &[flow], &letter.topic, &letter.payload)
            .iter()
            .all(|trial| trial.result.is_ok())
}
