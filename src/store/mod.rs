//! The SQL database: what is kept in it, and how it is reached.
//!
//! Nothing outside this module writes SQL. A failing call answers with a [`StoreError`] whose
//! [`fault`](StoreError::fault) says what to do about it.

mod columns;
mod connect;
mod dialect;
mod error;
mod flows;
mod limits;
mod migrate;
mod mqtt_servers;
mod widen;

pub use connect::Database;
pub use dialect::Dialect;
pub use error::{Fault, StoreError};
pub use flows::load_flows;
pub use limits::{StoreLimits, load_limits};
pub use migrate::{MigrationReport, migrate, plan};
pub use mqtt_servers::{LoadServerError, MqttServer, load_mqtt_server};
pub use widen::widen_ids;
