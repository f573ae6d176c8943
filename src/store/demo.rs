//! Database access for the demo: its first flows and broker, and the rows stored since.

use chrono::NaiveDateTime;
use mqtt_gateway_entity::{data, dead_letters, flows, mqtt_servers};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::connect::Database;
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

/// One attribute of a stored message.
pub(crate) struct StoredAttribute {
    pub id: i64,
    pub received_at: NaiveDateTime,
    pub flow_code: String,
    pub message_id: i64,
    pub name: String,
    pub value: String,
}

/// A message that could not be processed.
pub(crate) struct ShownDeadLetter {
    pub id: i64,
    pub received_at: NaiveDateTime,
    pub flow_code: Option<String>,
    pub topic: String,
    pub payload: Vec<u8>,
    pub reason: String,
    pub detail: Option<String>,
}

/// The last existing rows: later ones are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRows {
    pub data: i64,
    pub dead_letters: i64,
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

/// The last rows of `data` and `dead_letters`; 0 where there is none.
pub(crate) async fn last_rows(database: &Database) -> Result<LastRows, StoreError> {
    const DOING: &str = "reading the last rows";
    let data: Option<i64> = data::Entity::find()
        .select_only()
        .column(data::Column::Id)
        .order_by_desc(data::Column::Id)
        .into_tuple()
        .one(&database.connection)
        .await
        .while_doing(DOING)?;
    let dead_letters: Option<i64> = dead_letters::Entity::find()
        .select_only()
        .column(dead_letters::Column::Id)
        .order_by_desc(dead_letters::Column::Id)
        .into_tuple()
        .one(&database.connection)
        .await
        .while_doing(DOING)?;
    Ok(LastRows { data: data.unwrap_or(0), dead_letters: dead_letters.unwrap_or(0) })
}

/// The rows of `data` after `id`, in their order, at most `limit`.
pub(crate) async fn data_after(
    database: &Database,
    id: i64,
    limit: u64,
) -> Result<Vec<StoredAttribute>, StoreError> {
    let rows = data::Entity::find()
        .filter(data::Column::Id.gt(id))
        .order_by_asc(data::Column::Id)
        .limit(limit)
        .all(&database.connection)
        .await
        .while_doing("reading what was stored")?;
    let attribute = |row: data::Model| StoredAttribute {
        id: row.id,
        received_at: row.received_at,
        flow_code: row.flow_code.unwrap_or_default(),
        message_id: row.last_msg_id.unwrap_or_default(),
        name: row.attribute_name.unwrap_or_default(),
        value: row.attribute_value.unwrap_or_default(),
    };
    Ok(rows.into_iter().map(attribute).collect())
}

/// The dead letters after `id`, in their order, at most `limit`.
pub(crate) async fn dead_letters_after(
    database: &Database,
    id: i64,
    limit: u64,
) -> Result<Vec<ShownDeadLetter>, StoreError> {
    let rows = dead_letters::Entity::find()
        .filter(dead_letters::Column::Id.gt(id))
        .order_by_asc(dead_letters::Column::Id)
        .limit(limit)
        .all(&database.connection)
        .await
        .while_doing("reading the dead letters")?;
    let letter = |row: dead_letters::Model| ShownDeadLetter {
        id: row.id,
        received_at: row.received_at,
        flow_code: row.flow_code,
        topic: row.topic,
        payload: row.payload,
        reason: row.reason,
        detail: row.detail,
    };
    Ok(rows.into_iter().map(letter).collect())
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

    #[tokio::test]
    async fn rows_are_read_in_pages_after_the_last_one_seen() {
        let directory = tempfile::tempdir().unwrap();
        let database = fresh(&directory).await;
        assert_eq!(last_rows(&database).await.unwrap(), LastRows { data: 0, dead_letters: 0 });
        for message_id in 1..=3 {
            let row = data::ActiveModel {
                received_at: Set(NaiveDateTime::default()),
                flow_code: Set(Some("T".to_owned())),
                attribute_name: Set(Some("value".to_owned())),
                attribute_value: Set(Some("21.5".to_owned())),
                last_msg_id: Set(Some(message_id)),
                ..Default::default()
            };
            row.insert(&database.connection).await.unwrap();
        }
        let page = data_after(&database, 1, 1).await.unwrap();
        assert_eq!(page.iter().map(|row| (row.id, row.message_id)).collect::<Vec<_>>(), [(2, 2)]);
        assert_eq!(last_rows(&database).await.unwrap().data, 3);
        assert!(dead_letters_after(&database, 0, 10).await.unwrap().is_empty());
    }
}
