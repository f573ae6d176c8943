//! The tables as sea-orm sees them.
//!
//! `data`, `flows` and `mqtt_servers` are shared with the service this gateway succeeds: their
//! columns keep the names and the nullability they have there. Identifiers are `i64` although old
//! tables have `INT` columns: the drivers read either, and fresh tables are wide.

pub mod data;
pub mod database_identity;
pub mod dead_letters;
pub mod flows;
pub mod gateway_members;
pub mod gateway_starts;
pub mod inbox_lagging;
pub mod inbox_offsets;
pub mod message_keys;
pub mod mqtt_servers;
pub mod outbox;
pub mod outbox_owners;
