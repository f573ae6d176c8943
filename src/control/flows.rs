//! Reads flows.

use super::{Control, ControlError};
use crate::domain::flow_definition::FlowRecord;
use crate::store;

/// What an error calls the rows.
pub(super) const WHAT: &str = "flow";

impl Control {
    /// All flows, in the order of their ids.
    pub async fn flows(&self) -> Result<Vec<FlowRecord>, ControlError> {
        Ok(store::read_flows(&self.database).await?)
    }

    /// The flow with exactly this code.
    pub async fn flow(&self, code: &str) -> Result<FlowRecord, ControlError> {
        let flows = self.flows().await?;
        find(&flows, code).cloned()
    }

    /// The number of posts of a flow that wait in the outbox.
    pub async fn waiting_posts(&self, flow: &FlowRecord) -> Result<u64, ControlError> {
        Ok(store::waiting_posts(&self.database, flow.id).await?)
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
    use crate::domain::flow_definition::FlowDefinition;

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
