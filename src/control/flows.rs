//! Reads flows.

use super::{CheckedFlow, Control, ControlError};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
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

    /// At most `limit` selected flows after the flow with the code `after`, in an order, with their problems. Names of
    /// endpoints are not resolved.
    pub async fn find_flows(
        &self,
        filter: &FlowFilter,
        order: FlowOrder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<FoundFlows, ControlError> {
        let flows = self.flows().await?;
        let mut found: Vec<&FlowRecord> =
            flows.iter().filter(|flow| filter.selects(&flow.definition)).collect();
        match order {
            FlowOrder::Code => found.sort_by(|a, b| a.definition.code.cmp(&b.definition.code)),
            FlowOrder::Newest => found.sort_by_key(|flow| std::cmp::Reverse(flow.id)),
        }
        let start = after.map_or(0, |after| match order {
            FlowOrder::Code => found.partition_point(|flow| flow.definition.code.as_str() <= after),
            // The next page of a list whose last flow was removed is empty.
            FlowOrder::Newest => found
                .iter()
                .position(|flow| flow.definition.code == after)
                .map_or(found.len(), |place| place + 1),
        });
        let set = FlowSet::new(flows.iter().map(|flow| &flow.definition));
        let page = found.iter().skip(start).take(limit).map(|flow| CheckedFlow {
            flow: (*flow).clone(),
            problems: check_flow(&flow.definition, &set, &self.settings.http_route.networks),
        });
        Ok(FoundFlows {
            flows: page.collect(),
            total: found.len(),
            has_more: found.len() > start.saturating_add(limit),
        })
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

    /// The number of posts of a flow that wait in the outbox.
    pub async fn waiting_posts(&self, flow: &FlowRecord) -> Result<u64, ControlError> {
        Ok(store::waiting_posts(&self.database, flow.id).await?)
    }
}

/// The order of a list of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowOrder {
    /// By code.
    Code,
    /// The newest first.
    Newest,
}

/// A page of flows.
#[derive(Debug)]
pub struct FoundFlows {
    /// The flows of the page, with the problems that their rows show.
    pub flows: Vec<CheckedFlow>,
    /// Number of selected flows on all pages.
    pub total: usize,
    /// Whether more follow.
    pub has_more: bool,
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
