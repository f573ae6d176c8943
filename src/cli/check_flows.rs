//! Checks the flows without subscribing to their topics.

use std::io;

use super::check::{CheckFailure, CheckReport};
use crate::domain::flow::Flow;
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::problem::Problem;
use crate::inbox::avoided_filters;
use crate::settings::Settings;
use crate::store::{self, Database};

/// Reports the flows that get no messages. Filters that a broker rejects are read from the inbox, where the gateway
/// keeps them.
pub(super) async fn run(
    database: &Database,
    settings: &Settings,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let lacking = store::missing_schema(database).await.map(|missing| missing.added).unwrap_or_default();
    if lacking.iter().any(|lacking| lacking.starts_with("table ")) {
        return Ok(());
    }
    // Without the columns that the start adds, the flows have no options and keys.
    let records = if lacking.iter().any(|lacking| lacking.starts_with("column flows.")) {
        store::load_flows(database).await.map(|flows| flows.into_iter().map(record).collect())
    } else {
        store::read_flows(database).await
    };
    let records: Vec<FlowRecord> = match records {
        Ok(records) => records,
        Err(error) => {
            return report
                .add("flows", &Err(CheckFailure::new(&error, "allow this user to read the table flows")));
        }
    };
    // The inbox check reports an unreadable inbox on a separate line.
    let avoided = avoided_filters(&settings.inbox.dir).unwrap_or_default();
    let flows: Vec<&FlowDefinition> =
        records.iter().map(|record| &record.definition).filter(|flow| flow.is_enabled()).collect();
    let set = FlowSet::new(flows.iter().copied());
    let (mut usable, mut warnings) = (0, 0);
    for flow in &flows {
        let problems = check_flow(flow, &set, &settings.http_route.networks);
        let (errors, others): (Vec<_>, Vec<_>) = problems.into_iter().partition(Problem::is_error);
        warnings += others.len();
        let is_avoided = avoided.contains(&settings.role.subscribes(&flow.topic));
        let failures: Vec<_> = failures(flow, &errors, is_avoided).collect();
        usable += usize::from(failures.is_empty());
        for failure in failures {
            report.add("flow", &Err(failure))?;
        }
    }
    if warnings > 0 {
        let warning = format!("have {warnings} warnings: `mqtt-gateway flows validate --all` shows them");
        report.warn("flows", &warning)?;
    }
    report.add("flows", &Ok(format!("that are enabled: {}, usable: {usable}", flows.len())))
}

/// A flow of a table without options and keys. The schema is not checked then.
fn record(flow: Flow) -> FlowRecord {
    let Flow { id, code, topic, action, endpoint_url } = flow;
    let definition = FlowDefinition {
        code,
        topic,
        action,
        endpoint_url,
        payload_schema: Some("{}".to_owned()),
        enabled: Some(true),
        ..FlowDefinition::default()
    };
    FlowRecord { id, definition, last_msg_id: None }
}

fn failures(
    flow: &FlowDefinition,
    errors: &[Problem],
    is_avoided: bool,
) -> impl Iterator<Item = CheckFailure> {
    let FlowDefinition { code, topic, .. } = flow;
    let of_columns = errors.iter().map(move |Problem { field, problem, remedy, .. }| {
        let reason = if *field == "topic" {
            format!("{code} gets no messages: its topic filter {topic:?} is not valid: {problem}")
        } else {
            format!("{code} cannot process messages: {problem}")
        };
        CheckFailure::new(&reason, format!("correct the column {field} of this row: {remedy}"))
    });
    of_columns.chain(is_avoided.then(|| {
        let reason =
            format!("{code} gets no messages: the broker closes the connection over its topic filter {topic:?}");
        let remedy = "correct the column topic of this row, or the broker's rules for this user. \
                      The gateway tries again within an hour, or at once after the row is disabled and enabled";
        CheckFailure::new(&reason, remedy)
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::posting::address_guard::EndpointNetworks;

    fn reasons(topic: &str, is_avoided: bool) -> Vec<String> {
        let flow = record(Flow {
            id: 1,
            code: "F".to_owned(),
            topic: topic.to_owned(),
            action: "STORE_DB".to_owned(),
            endpoint_url: None,
        });
        let flow = flow.definition;
        let errors = check_flow(&flow, &FlowSet::new([&flow]), &EndpointNetworks::All);
        failures(&flow, &errors, is_avoided).map(|failure| failure.reason).collect()
    }

    #[test]
    fn unusable_filters_are_named() {
        assert!(reasons("a/b", false).is_empty());
        let invalid = reasons("a\n", false).remove(0);
        assert!(invalid.starts_with("F gets no messages") && invalid.contains("U+000A"), "{invalid}");
        let avoided = reasons("a/b", true).remove(0);
        assert!(avoided.contains("closes the connection") && avoided.contains("\"a/b\""), "{avoided}");
    }
}
