//! The sample flows of the demo, and their insertion into the database.

use serde_json::json;

use super::DemoError;
use super::endpoint::{self, Endpoint};
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
use crate::settings::DatabaseSettings;
use crate::store::demo::{EarlierRows, NewFlow, earlier_rows, ensure_flow, repoint_flow, use_broker};
use crate::store::{Database, migrate};

/// Codes of the flows that store.
pub(super) const TEMPERATURES: &str = "TEMPERATURE";
pub(super) const HUMIDITIES: &str = "HUMIDITY";

/// Code of the flow that posts.
pub(super) const POSTING_FLOW: &str = "ALARMS";

/// Code of the flow whose endpoint fails.
pub(super) const FAILING_FLOW: &str = "MAINTENANCE";

/// Migrates the schema and inserts flows and broker into the database. Existing sample flows keep their changes.
/// Returns the last rows of earlier demos.
pub(super) async fn write(
    database: &DatabaseSettings,
    endpoint: &Endpoint,
    failing: &Endpoint,
    broker_port: u16,
) -> Result<EarlierRows, DemoError> {
    let database = Database::connect(database, 1).await?;
    migrate(&database).await?;
    for flow in flows(endpoint.url(POSTING_FLOW), failing.url(FAILING_FLOW)) {
        ensure_flow(&database, flow).await?;
    }
    for code in [POSTING_FLOW, FAILING_FLOW] {
        // A flow may have been edited to use the other endpoint.
        for endpoint in [endpoint, failing] {
            let (path, url) = (endpoint.path(code), endpoint.url(code));
            repoint_flow(&database, code, endpoint::ORIGIN, &path, &url).await?;
        }
    }
    use_broker(&database, "127.0.0.1", broker_port).await?;
    let earlier = earlier_rows(&database).await?;
    database.close().await?;
    Ok(earlier)
}

fn flows(endpoint: String, failing: String) -> [NewFlow; 4] {
    [
        NewFlow {
            code: TEMPERATURES,
            description: "Temperatures in degrees Celsius",
            topic: "sensors/+/temperature",
            action: FLOW_ACTION_STORE_DB,
            payload_schema: json!({"value": "number"}),
            endpoint_url: None,
        },
        NewFlow {
            code: HUMIDITIES,
            description: "Relative humidity, and whether the battery needs a change",
            topic: "sensors/+/humidity",
            action: FLOW_ACTION_STORE_DB,
            payload_schema: json!({"properties": {"percent": {"type": "int"}, "battery_low": {"type": "bool"}}}),
            endpoint_url: None,
        },
        NewFlow {
            code: POSTING_FLOW,
            description: "Alarms, posted to the demo's own endpoint",
            topic: "alarms/#",
            action: FLOW_ACTION_POST_ENDPOINT,
            payload_schema: json!({"severity": "string", "text": "string"}),
            endpoint_url: Some(endpoint),
        },
        NewFlow {
            code: FAILING_FLOW,
            description: "Requests for maintenance, posted to an endpoint that fails",
            topic: "maintenance/#",
            action: FLOW_ACTION_POST_ENDPOINT,
            payload_schema: json!({"task": "string"}),
            endpoint_url: Some(failing),
        },
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::demo::ledger::ReadingLedger;
    use crate::store::read_flows;

    async fn url_of(database: &DatabaseSettings, code: &str) -> Option<String> {
        let database = Database::connect(database, 1).await.unwrap();
        let flows = read_flows(&database).await.unwrap();
        flows.into_iter().find(|flow| flow.definition.code == code).unwrap().definition.endpoint_url
    }

    #[tokio::test]
    async fn next_demo_keeps_the_mended_endpoint() {
        let dir = tempfile::tempdir().unwrap();
        let database = DatabaseSettings::Sqlite { path: dir.path().join("demo.sqlite") };
        let ledger = Arc::<ReadingLedger>::default();
        let endpoints = || (Endpoint::start(&ledger).unwrap(), Endpoint::start_failing(&ledger).unwrap());
        let (first, failing) = endpoints();
        write(&database, &first, &failing, 1883).await.unwrap();
        assert_eq!(url_of(&database, FAILING_FLOW).await, Some(failing.url(FAILING_FLOW)));

        let (second, still_failing) = endpoints();
        write(&database, &second, &still_failing, 1883).await.unwrap();
        assert_eq!(url_of(&database, POSTING_FLOW).await, Some(second.url(POSTING_FLOW)));
        assert_eq!(url_of(&database, FAILING_FLOW).await, Some(still_failing.url(FAILING_FLOW)));

        let (mended, path) = (first.url(FAILING_FLOW), still_failing.path(FAILING_FLOW));
        let connected = Database::connect(&database, 1).await.unwrap();
        repoint_flow(&connected, FAILING_FLOW, endpoint::ORIGIN, &path, &mended).await.unwrap();
        write(&database, &second, &still_failing, 1883).await.unwrap();
        assert_eq!(url_of(&database, FAILING_FLOW).await, Some(second.url(FAILING_FLOW)));
    }
}
