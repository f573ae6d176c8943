//! An actor-based MQTT message router: every message of a flow gets a consecutive id inside a
//! database transaction and is stored or posted, exactly once.
//!
//! `docs/ARCHITECTURE.md` has the code map; the binary is a thin user of this library.

pub mod actors;
pub mod app;
pub mod cli;
pub mod delivery;
pub mod demo;
pub mod domain;
pub mod inbox;
pub mod mqtt;
pub mod observe;
pub mod settings;
pub mod store;
