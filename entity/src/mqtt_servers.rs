//! Brokers to choose from.

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
    /// Comes first among the enabled ones; NULL counts as no.
    pub is_default: Option<bool>,
    /// Whether the connection is encrypted; NULL counts as no.
    pub tls: Option<bool>,
    /// PEM file of the certificates that the broker's one may come from; NULL: those of the system.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub ca_file: Option<String>,
    /// PEM file of our own certificate, when the broker wants one.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub client_cert_file: Option<String>,
    /// PEM file of the key to it; NULL: it is in the same file.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub client_key_file: Option<String>,
    /// `5` or `3.1.1`; NULL: 5, and 3.1.1 with a broker that does not know it.
    #[sea_orm(column_type = "String(StringLen::N(10))", nullable)]
    pub protocol_version: Option<String>,
}

/// Everything but the password.
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

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
