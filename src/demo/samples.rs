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
    let urls = [(POSTING_FLOW, endpoint.url(POSTING_FLOW)), (FAILING_FLOW, failing.url(FAILING_FLOW))];
    for flow in flows(&urls) {
        ensure_flow(&database, flow).await?;
    }
    for (code, url) in urls {
        repoint_flow(&database, code, endpoint::ORIGIN, &endpoint::path(code), &url).await?;
    }
    use_broker(&database, "127.0.0.1", broker_port).await?;
    let earlier = earlier_rows(&database).await?;
    database.close().await?;
    Ok(earlier)
}

fn flows([(_, endpoint), (_, failing)]: &[(&str, String); 2]) -> [NewFlow; 4] {
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
            endpoint_url: Some(endpoint.clone()),
        },
        NewFlow {
            code: FAILING_FLOW,
            description: "Requests for maintenance, posted to an endpoint that fails",
            topic: "maintenance/#",
            action: FLOW_ACTION_POST_ENDPOINT,
            payload_schema: json!({"task": "string"}),
            endpoint_url: Some(failing.clone()),
        },
    ]
}
