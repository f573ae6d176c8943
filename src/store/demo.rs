//! Database access for the demo: its first flows and broker.

use mqtt_gateway_entity::{data, dead_letters, flows, mqtt_servers, outbox};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::mqtt_servers::{LoadServerError, load_mqtt_server};

/// A flow as it is inserted.
pub(crate) struct NewFlow {
    pub code: &'static str,
    pub description: &'static str,
    pub topic: &'static str,
    pub action: &'static str,
    pub payload_schema: serde_json::Value,
    pub endpoint_url: Option<String>,
}

/// Inserts the flow, enabled, unless one with its code exists: that may have been edited.
pub(crate) async fn ensure_flow(database: &Database, flow: NewFlow) -> Result<(), StoreError> {
    let existing: Option<i64> = flows::Entity::find()
        .select_only()
        .column_as(Expr::cust(database.dialect.wide("id")), "id")
        .filter(flows::Column::Code.eq(flow.code))
        .into_tuple()
        .one(&database.connection)
        .await
        .while_doing("reading a sample flow")?;
    if existing.is_some() {
        return Ok(());
    }
    let row = flows::ActiveModel {
        code: Set(flow.code.to_owned()),
        description: Set(flow.description.to_owned()),
        topic: Set(flow.topic.to_owned()),
        action: Set(flow.action.to_owned()),
        payload_schema: Set(flow.payload_schema),
        endpoint_url: Set(flow.endpoint_url),
        enabled: Set(Some(true)),
        ..Default::default()
    };
    row.insert(&database.connection).await.while_doing("inserting a sample flow")?;
    Ok(())
}

/// Sets the URL of the flow with this code, if an earlier demo had set it: same path, another port.
pub(crate) async fn repoint_flow(
    database: &Database,
    code: &str,
    origin: &str,
    path: &str,
    url: &str,
) -> Result<(), StoreError> {
    flows::Entity::update_many()
        .col_expr(flows::Column::EndpointUrl, Expr::value(url))
        .filter(flows::Column::Code.eq(code))
        .filter(flows::Column::EndpointUrl.starts_with(origin))
        .filter(flows::Column::EndpointUrl.ends_with(path))
        .exec(&database.connection)
        .await
        .while_doing("setting the endpoint of a sample flow")?;
    Ok(())
}

/// Numbers that sensors gave to their readings, found in the tables.
#[derive(Debug, Default)]
pub(crate) struct FoundReadings {
    /// In `data`, once for each row.
    pub(crate) stored: Vec<u64>,
    /// In `outbox`.
    pub(crate) waiting: Vec<u64>,
    /// In `dead_letters`.
    pub(crate) dead: Vec<u64>,
}

/// Rows that exist before any reading of this demo.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EarlierRows {
    data: i64,
    dead_letters: i64,
}

/// Finds the last rows.
pub(crate) async fn earlier_rows(database: &Database) -> Result<EarlierRows, StoreError> {
    let last_data = data::Entity::find().select_only().column_as(data::Column::Id.max(), "id");
    let last_letter =
        dead_letters::Entity::find().select_only().column_as(dead_letters::Column::Id.max(), "id");
    let doing = "reading the last rows";
    let data: Option<Option<i64>> =
        last_data.into_tuple().one(&database.connection).await.while_doing(doing)?;
    let dead_letters: Option<Option<i64>> =
        last_letter.into_tuple().one(&database.connection).await.while_doing(doing)?;
    Ok(EarlierRows {
        data: data.flatten().unwrap_or_default(),
        dead_letters: dead_letters.flatten().unwrap_or_default(),
    })
}

/// The number of a reading as a text in its payload. A number there would be drawn by the console.
pub(crate) fn reading_text(number: u64) -> String {
    format!("#{number}")
}

/// The number in such a text.
pub(crate) fn reading_number(text: &str) -> Option<u64> {
    text.strip_prefix('#')?.parse().ok()
}

/// Finds all readings, by the field of their payload that has their number. Reads one snapshot.
pub(crate) async fn find_readings(
    database: &Database,
    field: &str,
    earlier: EarlierRows,
) -> Result<FoundReadings, StoreError> {
    let doing = "looking for the readings of the sensors";
    let snapshot = TransactionOptions {
        sqlite_transaction_mode: (database.dialect == Dialect::Sqlite)
            .then_some(SqliteTransactionMode::Deferred),
        ..TransactionOptions::default()
    };
    let snapshot = database.connection.begin_with_options(snapshot).await.while_doing(doing)?;
    let stored: Vec<Option<String>> = data::Entity::find()
        .select_only()
        .column(data::Column::AttributeValue)
        .filter(data::Column::Id.gt(earlier.data))
        .filter(data::Column::AttributeName.eq(field))
        .into_tuple()
        .all(&snapshot)
        .await
        .while_doing(doing)?;
    let waiting: Vec<Vec<u8>> = outbox::Entity::find()
        .select_only()
        .column(outbox::Column::Payload)
        .into_tuple()
        .all(&snapshot)
        .await
        .while_doing(doing)?;
    let dead: Vec<Vec<u8>> = dead_letters::Entity::find()
        .select_only()
        .column(dead_letters::Column::Payload)
        .filter(dead_letters::Column::Id.gt(earlier.dead_letters))
        .into_tuple()
        .all(&snapshot)
        .await
        .while_doing(doing)?;
    snapshot.rollback().await.while_doing(doing)?;
    let numbers = |payloads: Vec<Vec<u8>>| {
        let number = |payload: Vec<u8>| {
            serde_json::from_slice::<serde_json::Value>(&payload)
                .ok()?
                .get(field)?
                .as_str()
                .and_then(reading_number)
        };
        payloads.into_iter().filter_map(number).collect()
    };
    Ok(FoundReadings {
        stored: stored.into_iter().filter_map(|value| reading_number(&value?)).collect(),
        waiting: numbers(waiting),
        dead: numbers(dead),
    })
}

/// Sets host and port of the broker that would be used, without credentials.
pub(crate) async fn use_broker(database: &Database, host: &str, port: u16) -> Result<(), LoadServerError> {
    let row = mqtt_servers::ActiveModel {
        host: Set(host.to_owned()),
        port: Set(Some(i32::from(port))),
        username: Set(None),
        password: Set(None),
        enabled: Set(Some(true)),
        is_default: Set(Some(true)),
        tls: Set(None),
        ca_file: Set(None),
        client_cert_file: Set(None),
        client_key_file: Set(None),
        protocol_version: Set(None),
        ..Default::default()
    };
    let written = match load_mqtt_server(database).await {
        Ok(server) => overwrite_broker(database, row, server.id).await,
        Err(LoadServerError::NoneEnabled) => {
            row.insert(&database.connection).await.while_doing("inserting the broker").map(|_| ())
        }
        Err(error) => match error.id() {
            Some(id) => overwrite_broker(database, row, id).await,
            None => return Err(error),
        },
    };
    Ok(written?)
}

async fn overwrite_broker(
    database: &Database,
    mut row: mqtt_servers::ActiveModel,
    id: i64,
) -> Result<(), StoreError> {
    row.id = Set(id);
    row.update(&database.connection).await.while_doing("writing the broker")?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;
    use crate::settings::DatabaseSettings;
    use crate::store::{load_flows, migrate};

    async fn fresh(directory: &tempfile::TempDir) -> Database {
        let path = directory.path().join("demo.sqlite");
        let database = Database::connect(&DatabaseSettings::Sqlite { path }, 1).await.unwrap();
        migrate(&database).await.unwrap();
        database
    }

    fn flow(topic: &'static str) -> NewFlow {
        NewFlow {
            code: "ALARMS",
            description: "",
            topic,
            action: "POST_ENDPOINT",
            payload_schema: serde_json::json!({}),
            endpoint_url: Some("http://127.0.0.1:1/demo/ALARMS".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_flow_that_is_there_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let database = fresh(&directory).await;
        ensure_flow(&database, flow("alarms/#")).await.unwrap();
        ensure_flow(&database, flow("other/#")).await.unwrap();
        let flows = load_flows(&database).await.unwrap();
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].topic, "alarms/#");
    }

    #[tokio::test]
    async fn only_a_flow_that_posts_to_an_earlier_demo_is_repointed() {
        let directory = tempfile::tempdir().unwrap();
        let database = fresh(&directory).await;
        ensure_flow(&database, flow("alarms/#")).await.unwrap();
        let url_after = async |path: &str, url: &str| {
            repoint_flow(&database, "ALARMS", "http://127.0.0.1:", path, url).await.unwrap();
            load_flows(&database).await.unwrap().remove(0).endpoint_url.unwrap()
        };
        assert_eq!(url_after("/demo/ALARMS", "http://example.com/").await, "http://example.com/");
        assert_eq!(url_after("/demo/ALARMS", "http://127.0.0.1:2/").await, "http://example.com/");
    }

    #[tokio::test]
    async fn the_broker_that_would_be_used_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let database = fresh(&directory).await;
        use_broker(&database, "127.0.0.1", 18_830).await.unwrap();
        use_broker(&database, "127.0.0.1", 18_831).await.unwrap();
        let server = load_mqtt_server(&database).await.unwrap();
        assert_eq!((server.id, server.port), (1, 18_831));
    }
}
