//! An actor-based MQTT message router: every message of a flow gets a consecutive id inside a database transaction. It
//! is stored exactly once, or posted at least once, each time with the same key.
//!
//! `docs/ARCHITECTURE.md` has the code map. The binary is a thin wrapper of this library.
//!
//! # Names in the Python service
//!
//! | Python service | this crate |
//! | --- | --- |
//! | `Settings`, `load_settings()` | [`Settings`], [`load_settings`] |
//! | `FLOW_ACTION_STORE_DB`, `FLOW_ACTION_POST_ENDPOINT` | [`FLOW_ACTION_STORE_DB`], [`FLOW_ACTION_POST_ENDPOINT`] |
//! | `load_mqtt_server()`, `load_flows()` | [`load_mqtt_server`], [`load_flows`] |
//! | `reload_flows()` | [`reload_flows`], which sends the message [`ReloadFlows`](actors::messages::ReloadFlows) |
//! | `on_connect` | [`MqttActor::on_connect`](actors::mqtt::MqttActor::on_connect): subscribes to all filters again |
//! | `on_message` | [`Intake::on_message`](inbox::Intake::on_message): appends to the inbox, from which the [router](actors::router) reads |
//! | `process_flow_message()` | [`process_flow_message`] |
//! | `validate_payload()` | [`validate_payload`] |
//! | `run_forever()` | [`run_forever`] |

#[macro_use]
mod fail_points;
#[macro_use]
mod named_enum;

pub mod actors;
pub mod app;
#[cfg(feature = "tools")]
pub mod bench;
#[cfg(feature = "tools")]
mod child_gateway;
pub mod cli;
pub mod control;
mod credentials;
pub mod delivery;
#[cfg(feature = "tools")]
pub mod demo;
pub mod domain;
#[cfg(feature = "tools")]
mod embedded;
mod files;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]
mod fuzzing;
mod http;
pub mod inbox;
pub mod mqtt;
pub mod observe;
mod pem;
pub mod settings;
pub mod store;

pub use app::{reload_flows, run_forever};
pub use domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
pub use domain::schema::validate_payload;
pub use settings::{Settings, load_settings};
pub use store::{load_flows, load_mqtt_server, load_mqtt_servers, process_flow_message};
