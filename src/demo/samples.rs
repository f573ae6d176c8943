//! The sample flows of the demo, and their insertion into the database.

use serde_json::json;

use super::DemoError;
use super::endpoint::{self, Endpoint};
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
use crate::settings::DatabaseSettings;
use crate::store::demo::{NewFlow, ensure_flow, repoint_flow, use_broker};
use crate::store::{Database, migrate};

/// Code of the flow that posts.
pub(super) const POSTING_FLOW: &str = "ALARMS";

/// Inserts flows and broker into the database. Existing sample flows keep their changes.
pub(super) async fn write(
    database: &DatabaseSettings,
    endpoint: &Endpoint,
    broker_port: u16,
) -> Result<(), DemoError> {
    let database = Database::connect(database, 1).await?;
    migrate(&database).await?;
    let url = endpoint.url(POSTING_FLOW);
    for flow in flows(&url) {
        ensure_flow(&database, flow).await?;
    }
    repoint_flow(&database, POSTING_FLOW, endpoint::ORIGIN, &endpoint::path(POSTING_FLOW), &url).await?;
    use_broker(&database, "127.0.0.1", broker_port).await?;
    Ok(database.close().await?)
}

fn flows(url: &str) -> [NewFlow; 3] {
    [
        NewFlow {
            code: "TEMPERATURE",
            description: "Temperatures in degrees Celsius",
            topic: "sensors/+/temperature",
            action: FLOW_ACTION_STORE_DB,
            payload_schema: json!({"value": "number"}),
            endpoint_url: None,
        },
        NewFlow {
            code: "HUMIDITY",
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
            endpoint_url: Some(url.to_owned()),
        },
    ]
}
