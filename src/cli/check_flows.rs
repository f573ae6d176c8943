//! Checks the topic filters of the flows without subscribing to them.

use std::io;

use super::check::{CheckFailure, CheckReport};
use crate::domain::flow::Flow;
use crate::domain::topic::TopicFilter;
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
    let lacking = store::plan(database).await.map(|plan| plan.added).unwrap_or_default();
    if lacking.iter().any(|lacking| lacking.starts_with("table ")) {
        return Ok(());
    }
    let flows = match store::load_flows(database).await {
        Ok(flows) => flows,
        Err(error) => {
            return report
                .add("flows", &Err(CheckFailure::new(&error, "allow this user to read the table flows")));
        }
    };
    // The inbox check reports an unreadable inbox on a separate line.
    let avoided = avoided_filters(&settings.inbox.dir).unwrap_or_default();
    for (code, error) in store::unusable_options(database).await.unwrap_or_default() {
        let reason = format!("{code} cannot process messages: {error}");
        let remedy = "correct the column options of this row, see mqtt-gateway schema";
        report.add("flow", &Err(CheckFailure::new(&reason, remedy)))?;
    }
    let mut usable = 0;
    for flow in &flows {
        let filter = settings.role.subscribes(&flow.topic);
        match check_flow(flow, avoided.contains(&filter)) {
            Some(failure) => report.add("flow", &Err(failure))?,
            None => usable += 1,
        }
    }
    report.add("flows", &Ok(format!("that are enabled: {}, with a usable topic: {usable}", flows.len())))
}

fn check_flow(flow: &Flow, is_avoided: bool) -> Option<CheckFailure> {
    let Flow { code, topic, .. } = flow;
    match TopicFilter::parse(topic) {
        Err(error) => {
            let reason = format!("{code} gets no messages: its topic filter {topic:?} is not valid: {error}");
            Some(CheckFailure::new(&reason, "correct the column topic of this row"))
        }
        Ok(_) if is_avoided => {
            let reason = format!(
                "{code} gets no messages: the broker closes the connection over its topic filter {topic:?}"
            );
            let remedy = "correct the column topic of this row, or the broker's rules for this user; \
                          the gateway tries again within an hour, or at once after the row is disabled and enabled";
            Some(CheckFailure::new(&reason, remedy))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn flow(topic: &str) -> Flow {
        let (code, action) = ("F".to_owned(), "STORE_DB".to_owned());
        Flow { id: 1, code, topic: topic.to_owned(), action, endpoint_url: None }
    }

    #[test]
    fn unusable_filters_are_named() {
        assert!(check_flow(&flow("a/b"), false).is_none());
        let invalid = check_flow(&flow("a\n"), false).unwrap().reason;
        assert!(invalid.starts_with("F gets no messages") && invalid.contains("U+000A"), "{invalid}");
        let avoided = check_flow(&flow("a/b"), true).unwrap().reason;
        assert!(avoided.contains("closes the connection") && avoided.contains("\"a/b\""), "{avoided}");
    }
}
