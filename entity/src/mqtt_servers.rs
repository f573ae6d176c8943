//! MQTT brokers.

use std::fmt;

use sea_orm::entity::prelude::*;

/// A row of `mqtt_servers`.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mqtt_servers")]
pub struct Model {
    /// Key of the broker.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Host name or address.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub host: String,
    /// TCP port; NULL counts as 1883, with TLS as 8883.
    pub port: Option<i32>,
    /// Used only together with the password.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub username: Option<String>,
    /// Used only together with the user name.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub password: Option<String>,
    /// NULL counts as not enabled.
    pub enabled: Option<bool>,
    /// The first broker of the list; NULL counts as false.
    pub is_default: Option<bool>,
    /// Whether the connection uses TLS; NULL counts as false.
    pub tls: Option<bool>,
    /// PEM file with the certificate authorities of the broker; NULL for those of the system.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub ca_file: Option<String>,
    /// PEM file with a client certificate.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub client_cert_file: Option<String>,
    /// PEM file with its key; NULL if `cert_file` contains the key.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub client_key_file: Option<String>,
    /// `5` or `3.1.1`; NULL for 5 with a fallback to 3.1.1.
    #[sea_orm(column_type = "String(StringLen::N(10))", nullable)]
    pub protocol_version: Option<String>,
}

/// Shows all columns but the password.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("id", &self.id)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("username", &self.username)
            .field("enabled", &self.enabled)
            .field("is_default", &self.is_default)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
