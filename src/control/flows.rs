//! Reads flows.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::time_text::parse_time;
use super::{Control, ControlError, NEWEST_LETTERS};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::problem::Problem;
use crate::domain::value_series::{ValueSeries, numeric_series};
use crate::inbox::avoided_filters;
use crate::observe::ActivityReading;
use crate::store;

/// The name of the rows in errors.
pub(super) const WHAT: &str = "flow";

/// Rows that are read at once for a page.
const FLOWS_AT_ONCE: usize = 1_000;

impl Control {
    /// All flows, in the order of their ids.
    pub async fn flows(&self) -> Result<Vec<FlowRecord>, ControlError> {
        Ok(store::read_flows(&self.database).await?)
    }

    /// The selected flows, in the order of their ids.
    pub async fn selected_flows(&self, filter: &FlowFilter) -> Result<Vec<FlowRecord>, ControlError> {
        let mut flows = self.flows().await?;
        flows.retain(|flow| filter.selects(&flow.definition));
        Ok(flows)
    }

    /// At most `limit` selected flows in the order of their ids, after the id `after`, and the last id if more may
    /// follow.
    pub async fn flows_page(
        &self,
        filter: &FlowFilter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FlowRecord>, Option<i64>), ControlError> {
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let rows = store::read_flows_after(&self.database, after, FLOWS_AT_ONCE).await?;
            let is_last = rows.len() < FLOWS_AT_ONCE;
            after = rows.last().map(|flow| flow.id).or(after);
            found.extend(rows.into_iter().filter(|flow| filter.selects(&flow.definition)));
            if found.len() > limit {
                found.truncate(limit);
                let last = found.last().map(|flow| flow.id);
                return Ok((found, last));
            }
            if is_last {
                return Ok((found, None));
            }
        }
    }

    /// At most `limit` selected flows in an order, after the first `skip`, with their problems and recent messages.
    /// Names of endpoints are not resolved.
    pub async fn find_flows(
        &self,
        filter: &FlowFilter,
        order: FlowOrder,
        activity: &HashMap<Arc<str>, ActivityReading>,
        (skip, limit): (usize, usize),
    ) -> Result<FoundFlows, ControlError> {
        let flows = self.flows().await?;
        let set = FlowSet::new(flows.iter().map(|flow| &flow.definition));
        let refused = self.refused_filters();
        let dead = self.recent_letters_by_flow().await?;
        let mut found: Vec<&FlowRecord> =
            flows.iter().filter(|flow| filter.selects(&flow.definition)).collect();
        if filter.unusable {
            let rejected = self.rejected_codes(&flows);
            found.retain(|FlowRecord { definition: flow, .. }| {
                rejected.contains(&flow.code) || (flow.is_enabled() && refused.contains(&flow.topic))
            });
        }
        let activity_of = |flow: &FlowRecord| activity.get(flow.definition.code.as_str()).copied();
        let dead_of = |flow: &FlowRecord| dead.get(&flow.definition.code).copied().unwrap_or_default();
        found.sort_by(|a, b| a.definition.code.cmp(&b.definition.code));
        match order {
            FlowOrder::Code => {}
            FlowOrder::Newest => found.sort_by_key(|flow| Reverse(flow.id)),
            FlowOrder::Number => found.sort_by_key(|flow| Reverse(flow.last_msg_id)),
            FlowOrder::LastMessage => {
                found.sort_by_key(|flow| Reverse(activity_of(flow).map(|activity| activity.last_at)));
            }
            FlowOrder::DeadLetters => found.sort_by_key(|flow| Reverse(dead_of(flow))),
            FlowOrder::Rate => found.sort_by(|a, b| {
                let rate = |flow| activity_of(flow).map_or(-1.0, |activity| activity.per_minute);
                rate(b).total_cmp(&rate(a))
            }),
        }
        let page = found.iter().skip(skip).take(limit).map(|flow| FoundFlow {
            problems: self.row_problems(&flow.definition, &set, &refused),
            activity: activity_of(flow),
            dead_letters: dead_of(flow),
            flow: (*flow).clone(),
        });
        Ok(FoundFlows { flows: page.collect(), total: found.len() })
    }

    /// The problems that the row of a flow shows, and whether the broker refuses its filter.
    fn row_problems(
        &self,
        flow: &FlowDefinition,
        set: &FlowSet<'_>,
        refused: &HashSet<String>,
    ) -> Vec<Problem> {
        let mut problems = check_flow(flow, set, &self.settings.http_route.networks);
        if refused.contains(&flow.topic) {
            problems.insert(0, refused_filter());
        }
        problems
    }

    /// The problem of a flow whose filter the broker refuses.
    #[must_use]
    pub fn refusal(&self, flow: &FlowDefinition) -> Option<Problem> {
        self.refused_filters().contains(&flow.topic).then(refused_filter)
    }

    /// The filters that the broker refuses, as far as this machine has the inbox.
    fn refused_filters(&self) -> HashSet<String> {
        avoided_filters(&self.settings.inbox.dir).unwrap_or_default().into_iter().collect()
    }

    /// Dead letters of the last 24 hours by the code of the flow, among the newest 10,000.
    async fn recent_letters_by_flow(&self) -> Result<HashMap<String, u64>, ControlError> {
        let since = parse_time("24h").unwrap_or_default();
        Ok(store::count_recent_letters_by_flow(&self.database, since, NEWEST_LETTERS).await?)
    }

    /// The flow with exactly this code.
    pub async fn flow(&self, code: &str) -> Result<FlowRecord, ControlError> {
        // No database has a text with U+0000.
        if !code.contains('\0')
            && let Some(flow) = store::read_flow(&self.database, code).await?
        {
            return Ok(flow);
        }
        find(&self.flows().await?, code).cloned()
    }

    /// As [`Self::flow`], with the number of its posts that wait.
    pub async fn flow_with_posts(&self, code: &str) -> Result<(FlowRecord, u64), ControlError> {
        if !code.contains('\0')
            && let Some(found) = store::read_flow_with_posts(&self.database, code).await?
        {
            return Ok(found);
        }
        let flow = self.flow(code).await?;
        let posts = self.waiting_posts(&flow).await?;
        Ok((flow, posts))
    }

    /// The numbers that a flow stored last, by attribute, as far as they are among the newest rows of all flows.
    pub async fn flow_values(&self, code: &str) -> Result<Vec<ValueSeries>, ControlError> {
        Ok(numeric_series(&store::newest_values(&self.database, code).await?))
    }

    /// The number of posts of a flow that wait in the outbox.
    pub async fn waiting_posts(&self, flow: &FlowRecord) -> Result<u64, ControlError> {
        Ok(store::waiting_posts(&self.database, flow.id).await?)
    }
}

fn refused_filter() -> Problem {
    let remedy = "allow the filter in the access rules of the broker, or correct it";
    Problem::error("topic", "the broker refuses this filter", remedy)
}

/// The order of a list of flows. Equal ones are ordered by code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FlowOrder {
    /// By code.
    #[default]
    Code,
    /// The newest first.
    Newest,
    /// The highest sequence number first.
    Number,
    /// The most messages per minute first.
    Rate,
    /// The latest message first.
    LastMessage,
    /// The most recent dead letters first.
    DeadLetters,
}

/// A page of flows.
#[derive(Debug)]
pub struct FoundFlows {
    /// The flows of the page.
    pub flows: Vec<FoundFlow>,
    /// Number of selected flows on all pages.
    pub total: usize,
}

/// A flow of a list.
#[derive(Debug)]
pub struct FoundFlow {
    /// The row.
    pub flow: FlowRecord,
    /// The problems that the row shows, errors first.
    pub problems: Vec<Problem>,
    /// Its recent messages in this gateway; none since the start.
    pub activity: Option<ActivityReading>,
    /// Its dead letters of the last 24 hours, among the newest 10,000 of all.
    pub dead_letters: u64,
}

/// Conditions on flows; all have to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Whether the flow is enabled.
    pub enabled: Option<bool>,
    /// Its action.
    pub action: Option<String>,
    /// A text in its code, description or topic, in any case.
    pub text: Option<String>,
    /// Only enabled flows that cannot work, where problems are looked for.
    pub unusable: bool,
}

impl FlowFilter {
    fn selects(
        &self,
        FlowDefinition { code, description, topic, action, enabled, .. }: &FlowDefinition,
    ) -> bool {
        let has = |text: &String| {
            let text = text.to_lowercase();
            [code, description, topic].iter().any(|column| column.to_lowercase().contains(&text))
        };
        self.enabled.is_none_or(|wanted| wanted == (*enabled == Some(true)))
            && self.action.as_ref().is_none_or(|wanted| wanted == action)
            && self.text.as_ref().is_none_or(has)
    }
}

/// The flow with exactly this code. The error names the flow that may have been meant.
pub(super) fn find<'f>(flows: &'f [FlowRecord], code: &str) -> Result<&'f FlowRecord, ControlError> {
    let codes = || flows.iter().map(|flow| flow.definition.code.as_str());
    flows.iter().find(|flow| flow.definition.code == code).ok_or_else(|| {
        let is_like = |known: &&str| known.trim().to_lowercase() == code.trim().to_lowercase();
        let remedy = match codes().find(is_like) {
            Some(known) => format!("did you mean {known:?}?"),
            None => "`mqtt-gateway flows list` shows the codes".to_owned(),
        };
        ControlError::not_found(WHAT, code, remedy)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn similar_codes_are_suggested() {
        let definition = FlowDefinition { code: "Temp".to_owned(), ..FlowDefinition::default() };
        let flows = [FlowRecord { id: 1, definition, last_msg_id: None }];
        assert_eq!(find(&flows, "Temp").unwrap().id, 1);
        assert_eq!(find(&flows, "TEMP ").unwrap_err().remedy(), Some("did you mean \"Temp\"?"));
        let unknown = find(&flows, "HUM").unwrap_err();
        assert!(unknown.remedy().is_some_and(|remedy| remedy.contains("flows list")));
        assert_eq!(unknown.to_string(), "there is no flow \"HUM\"");
    }
}
