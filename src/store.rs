//! The SQL database: its tables, and the access to them.
//!
//! No other module executes SQL. A failed operation returns a [`StoreError`] whose [`class`](StoreError::class) names
//! the remedy.

mod api_tokens;
mod audit;
mod batch;
#[cfg(feature = "tools")]
pub mod bench;
mod clock;
mod column_types;
mod columns;
mod connect;
mod database_key;
mod dead_letters;
#[cfg(feature = "tools")]
pub(crate) mod demo;
mod dialect;
mod durability;
mod edit_history;
mod engines;
mod error;
mod exhaustion;
mod flow_fields;
mod flow_revision;
mod flow_table;
mod flows;
mod limits;
mod lock_holders;
mod members;
mod message_keys;
mod migrate;
mod mqtt_servers;
pub mod outbox;
mod outbox_gauge;
mod retention;
mod sentence;
mod server_table;
mod starts;
mod statement;
mod stored_values;
mod tables;
mod unsafe_table;
mod widen;

pub use crate::domain::batch::{LanePosition, OpenedLane};
pub use api_tokens::{MAX_TOKENS, StoredToken, delete_token, insert_token, read_tokens};
pub use audit::{AuditProgress, StoredLane, audit, lane_rows};
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use batch::for_benches;
pub use batch::{
    BatchRules, BrokenOff, Committed, LaneFenced, LaneObserver, LaneStore, LaneWaits, LetterReplay,
    ProcessMessageError, RehearsedMessage, RehearsedRow, ReplayMode, process_flow_message, rehearse_message,
};
pub(crate) use connect::{Access, Recovery, answer_timeout, probe, protection, with_timeout};
pub use connect::{Database, missing_file};
pub use database_key::database_key;
pub(crate) use dead_letters::too_many_dead_letters;
pub use dead_letters::{
    LetterCount, LetterSummary, count_dead_letters, count_letters, count_recent_letters,
    count_recent_letters_by_flow, discard_letters, last_letter, letter_before_newest, list_letters,
    max_dead_letters, read_letters, select_letters,
};
pub use dialect::Dialect;
pub(crate) use durability::commit_risk;
pub use edit_history::{last_removals, read_edits};
pub use error::{ErrorClass, StoreError};
pub use exhaustion::{NumbersUsed, numbers_used};
pub use flow_fields::{
    RecordedFields, edit_fields, forget_removed_flows, read_changed_fields, read_fields, record_fields,
};
pub use flow_revision::flow_revision;
pub use flow_table::{
    FlowTransaction, read_first_flows, read_flow, read_flow_with_posts, read_flows, read_flows_after,
    read_these_flows, waiting_posts,
};
pub use flows::{load_flows, unusable_options};
pub use limits::{StoreLimits, load_limits};
pub use lock_holders::LockReader;
pub use members::{Span, announce, members, remove_member, timed};
pub use message_keys::forget_keys;
pub(crate) use migrate::try_migration_lock;
pub use migrate::{MigrationReport, migrate, missing_schema, plan};
pub use mqtt_servers::{
    LoadServerError, MqttServers, broker_of, load_mqtt_server, load_mqtt_servers,
    load_mqtt_servers_before_migration,
};
pub use outbox_gauge::{OutboxGauge, Waiting};
pub use retention::{
    LetterPortion, delete_excess_letters, delete_old_data, delete_old_letters, oldest_row_ahead,
};
pub use server_table::read_servers;
pub use starts::{
    Beat, LastStart, beat, forget_inbox, lane_offsets, last_starts, note_end, register, registry,
};
pub use stored_values::newest_values;
pub use tables::check_tables;
pub use unsafe_table::UnsafeTable;
pub use widen::widen_ids;
