//! Which broker to use.

use mqtt_gateway_entity::mqtt_servers::{Column, Entity, Model};
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{ColumnTrait, EntityTrait, Iterable, QueryFilter, QueryOrder, QuerySelect, Select};
use secrecy::SecretString;
use thiserror::Error;

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};

/// Port of a broker that names none.
const DEFAULT_PORT: u16 = 1883;

/// The broker to connect to.
#[derive(Debug, Clone)]
pub struct MqttServer {
    /// Key in `mqtt_servers`.
    pub id: i64,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name; see [`credentials`](Self::credentials).
    pub username: Option<String>,
    /// Password; see [`credentials`](Self::credentials).
    pub password: Option<SecretString>,
}

impl MqttServer {
    /// User name and password, when both are set. One without the other, or an empty one, counts as none.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, SecretString)> {
        self.username.clone().zip(self.password.clone())
    }
}

/// There is no broker to connect to.
#[derive(Debug, Error)]
pub enum LoadServerError {
    /// No row of `mqtt_servers` is enabled.
    #[error("no MQTT server is enabled: set `enabled` in a row of the table mqtt_servers")]
    NoneEnabled,
    /// The chosen row has a number in `port` that is no TCP port.
    #[error("the MQTT server with id {id} has the port {port}: expected 1 to 65535, or NULL for 1883")]
    InvalidPort {
        /// Key in `mqtt_servers`.
        id: i64,
        /// What the row says.
        port: i32,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Loads the broker to connect to: of the enabled ones, the first by `is_default` (yes before no and
/// NULL) and then by id.
///
/// ```no_run
/// # async fn example(database: &mqtt_gateway::store::Database) -> Result<(), mqtt_gateway::store::LoadServerError> {
/// let server = mqtt_gateway::load_mqtt_server(database).await?;
/// println!("{}:{}", server.host, server.port);
/// # Ok(())
/// # }
/// ```
pub async fn load_mqtt_server(database: &Database) -> Result<MqttServer, LoadServerError> {
    let default_first = Func::coalesce([Expr::col(Column::IsDefault), Expr::val(false)]);
    let row = rows(database.dialect)
        .filter(Column::Enabled.eq(true))
        .order_by_desc(default_first)
        .order_by_asc(Column::Id)
        .one(&database.connection)
        .await
        .while_doing("reading the MQTT servers")?;
    row.ok_or(LoadServerError::NoneEnabled).and_then(server)
}

/// All columns, the key as wide as it is here.
fn rows(dialect: Dialect) -> Select<Entity> {
    Column::iter().fold(Entity::find().select_only(), |rows, column| match column {
        Column::Id => rows.column_as(Expr::cust(dialect.wide("id")), "id"),
        other => rows.column(other),
    })
}

fn server(row: Model) -> Result<MqttServer, LoadServerError> {
    let port = match row.port {
        None => DEFAULT_PORT,
        Some(port) => u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or(LoadServerError::InvalidPort { id: row.id, port })?,
    };
    Ok(MqttServer {
        id: row.id,
        host: row.host,
        port,
        username: row.username.filter(|name| !name.is_empty()),
        password: row.password.filter(|password| !password.is_empty()).map(SecretString::from),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn row(port: Option<i32>, username: Option<&str>, password: Option<&str>) -> Model {
        Model {
            id: 3,
            host: "broker.example".to_owned(),
            port,
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            enabled: Some(true),
            is_default: None,
        }
    }

    #[test]
    fn a_missing_port_is_1883() {
        assert_eq!(server(row(None, None, None)).unwrap().port, 1883);
        assert_eq!(server(row(Some(8883), None, None)).unwrap().port, 8883);
    }

    #[test]
    fn a_number_that_is_no_port_is_refused_with_its_row() {
        for port in [-1, 0, 65_536, i32::MAX] {
            let error = server(row(Some(port), None, None)).unwrap_err().to_string();
            assert!(error.contains("id 3") && error.contains(&port.to_string()), "{error}");
        }
    }

    #[test]
    fn credentials_need_both_halves() {
        let credentials = |name, password| server(row(None, name, password)).unwrap().credentials();
        assert!(credentials(Some("gateway"), Some("secret")).is_some());
        assert!(credentials(Some("gateway"), None).is_none());
        assert!(credentials(None, Some("secret")).is_none());
        assert!(credentials(Some("gateway"), Some("")).is_none());
    }

    #[test]
    fn a_password_is_never_printed() {
        let row = row(None, Some("gateway"), Some("hush-hush"));
        assert!(!format!("{row:?}").contains("hush"));
        assert!(!format!("{:?}", server(row).unwrap()).contains("hush"));
    }
}
