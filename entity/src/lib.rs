//! Entities of sea-orm for all tables.
//!
//! `data`, `flows` and `mqtt_servers` are shared with the former Python service: names and nullability of their columns
//! are the same. Identifiers are `i64`, although old tables have `INT` columns. The drivers read both.

pub mod api_tokens;
pub mod data;
pub mod database_identity;
pub mod dead_letters;
pub mod edit_history;
pub mod flow_fields;
pub mod flow_revision;
pub mod flows;
pub mod gateway_members;
pub mod gateway_starts;
pub mod inbox_lagging;
pub mod inbox_offsets;
pub mod message_keys;
pub mod mqtt_servers;
pub mod outbox;
pub mod outbox_owners;
pub mod outbox_pauses;
