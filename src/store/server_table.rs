//! Reads and edits the rows of `mqtt_servers` for operators.

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::column_types::{OperatorTable, check_column_types_lately};
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::flow_table::FlowTransaction;
use super::statement::{read, statement};
use crate::domain::credential::Credential;
use crate::domain::edit_history::NewEdit;
use crate::domain::server_definition::{ServerDefinition, ServerRecord};

/// The columns that hold texts, with their values.
const TEXTS: [&str; 7] =
    ["host", "username", "password", "ca_file", "client_cert_file", "client_key_file", "protocol_version"];

/// Reads all brokers, in the order of their ids.
pub async fn read_servers(database: &Database) -> Result<Vec<ServerRecord>, StoreError> {
    const DOING: &str = "reading the MQTT servers";
    check_column_types_lately(database, OperatorTable::MqttServers).await?;
    let sql = format!("SELECT {} FROM mqtt_servers ORDER BY mqtt_servers.id", columns(database.dialect));
    read(&database.connection, DOING, sql, [], server_record).await
}

impl FlowTransaction {
    /// Locks the row of a broker and reads it.
    pub async fn lock_server(&self, id: i64) -> Result<Option<ServerRecord>, StoreError> {
        const DOING: &str = "locking the MQTT server";
        let sql = format!(
            "SELECT {} FROM mqtt_servers WHERE mqtt_servers.id = ?{}",
            columns(self.dialect),
            self.dialect.for_update()
        );
        let query = statement(self.dialect.backend(), sql, [id.into()]);
        let row = self.transaction.query_one_raw(query).await.while_doing(DOING)?;
        row.as_ref().map(server_record).transpose().while_doing(DOING)
    }

    /// Inserts a broker and returns its id.
    pub async fn insert_server(&mut self, server: &ServerDefinition) -> Result<i64, StoreError> {
        const DOING: &str = "adding the MQTT server";
        let dialect = self.dialect;
        let flag = |flag: Option<bool>| flag.map_or("NULL", |flag| dialect.flag_value(flag));
        let sql = format!(
            "INSERT INTO mqtt_servers ({texts}, port, enabled, is_default, tls) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, {enabled}, {is_default}, {tls})",
            texts = TEXTS.join(", "),
            enabled = flag(server.enabled),
            is_default = flag(server.is_default),
            tls = flag(server.tls),
        );
        let mut values: Vec<Value> = texts(server).map(Value::from).into();
        values.push(server.port.into());
        let id = match dialect {
            Dialect::MySql | Dialect::Sqlite => {
                let inserted = self.transaction.execute_raw(statement(dialect.backend(), sql, values)).await;
                i64::try_from(inserted.while_doing(DOING)?.last_insert_id()).unwrap_or(i64::MAX)
            }
            Dialect::Postgres => {
                let sql = format!("{sql} RETURNING {}", dialect.wide("id"));
                let row = self.transaction.query_one_raw(statement(dialect.backend(), sql, values)).await;
                row.while_doing(DOING)?.map_or(Ok(0), |row| row.try_get_by_index(0)).while_doing(DOING)?
            }
        };
        self.edits.extend(NewEdit::of_server(id, None, Some(server)));
        Ok(id)
    }

    /// Writes the columns in which `new` differs from the locked row.
    pub async fn update_server(
        &mut self,
        locked: &ServerRecord,
        new: &ServerDefinition,
    ) -> Result<(), StoreError> {
        let (sets, mut values) = changes(self.dialect, &locked.definition, new);
        if sets.is_empty() {
            return Ok(());
        }
        values.push(locked.id.into());
        let sql = format!("UPDATE mqtt_servers SET {} WHERE id = ?", sets.join(", "));
        self.execute(sql, values, "changing the MQTT server").await?;
        self.edits.extend(NewEdit::of_server(locked.id, Some(&locked.definition), Some(new)));
        Ok(())
    }

    /// Deletes a locked broker.
    pub async fn delete_server(&mut self, locked: &ServerRecord) -> Result<(), StoreError> {
        let sql = "DELETE FROM mqtt_servers WHERE id = ?".into();
        self.execute(sql, vec![locked.id.into()], "removing the MQTT server").await?;
        self.edits.extend(NewEdit::of_server(locked.id, Some(&locked.definition), None));
        Ok(())
    }
}

fn changes(dialect: Dialect, old: &ServerDefinition, new: &ServerDefinition) -> (Vec<String>, Vec<Value>) {
    let changed = TEXTS.into_iter().zip(texts(old).into_iter().zip(texts(new)));
    let changed = changed.filter(|(_, (old, new))| old != new);
    let (mut sets, mut values): (Vec<String>, Vec<Value>) =
        changed.map(|(column, (_, new))| (format!("{column} = ?"), Value::from(new))).unzip();
    if old.port != new.port {
        sets.push("port = ?".to_owned());
        values.push(new.port.into());
    }
    let flags = [
        ("enabled", old.enabled, new.enabled),
        ("is_default", old.is_default, new.is_default),
        ("tls", old.tls, new.tls),
    ];
    for (column, old, new) in flags {
        if old != new {
            sets.push(format!("{column} = {}", new.map_or("NULL", |new| dialect.flag_value(new))));
        }
    }
    (sets, values)
}

/// The values of [`TEXTS`].
fn texts(server: &ServerDefinition) -> [Option<String>; 7] {
    let exposed = |credential: &Option<Credential>| credential.as_ref().map(|text| text.expose().to_owned());
    [
        Some(server.host.clone()),
        exposed(&server.username),
        exposed(&server.password),
        server.ca_file.clone(),
        server.client_cert_file.clone(),
        server.client_key_file.clone(),
        server.protocol_version.clone(),
    ]
}

fn columns(dialect: Dialect) -> String {
    let flag = |name: &str| format!("{} AS {name}", dialect.flag(&format!("mqtt_servers.{name}")));
    let integer = |name: &str| format!("{} AS {name}", dialect.wide(&format!("mqtt_servers.{name}")));
    let others = [integer("id"), integer("port"), flag("enabled"), flag("is_default"), flag("tls")];
    format!("{}, {}", others.join(", "), TEXTS.join(", "))
}

fn server_record(row: &QueryResult) -> Result<ServerRecord, sea_orm::DbErr> {
    let text = |column| row.try_get::<Option<String>>("", column);
    let credential = |column| text(column).map(|text| text.map(Credential::new));
    Ok(ServerRecord {
        id: row.try_get("", "id")?,
        definition: ServerDefinition {
            host: text("host")?.unwrap_or_default(),
            port: row.try_get("", "port")?,
            username: credential("username")?,
            password: credential("password")?,
            enabled: row.try_get("", "enabled")?,
            is_default: row.try_get("", "is_default")?,
            tls: row.try_get("", "tls")?,
            ca_file: text("ca_file")?,
            client_cert_file: text("client_cert_file")?,
            client_key_file: text("client_key_file")?,
            protocol_version: text("protocol_version")?,
        },
    })
}
