//! The fragments of SQL in which the databases differ. Everything else is written once.

use chrono::{DateTime, Timelike};
use sea_orm::{DbBackend, Value};

use super::statement::marks;

/// The dialect of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `MySQL`, `MariaDB` and their relatives.
    MySql,
    /// `PostgreSQL`.
    Postgres,
    /// `SQLite`.
    Sqlite,
}

impl Dialect {
    /// The same, as sea-orm calls it.
    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::MySql => DbBackend::MySql,
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }

    /// Joins a table to the subquery before it. `MariaDB` may otherwise read the whole table, and compute the subquery
    /// again for each row.
    pub(crate) fn join_to_subquery(self) -> &'static str {
        match self {
            Self::MySql => "STRAIGHT_JOIN",
            Self::Postgres | Self::Sqlite => "JOIN",
        }
    }

    /// Ends a `SELECT` that locks the rows it reads. On `SQLite` the transaction holds the only
    /// write lock already.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::MySql | Self::Postgres => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// The same without waiting: a row that is locked elsewhere is an error.
    pub(crate) fn for_update_nowait(self) -> &'static str {
        match self {
            Self::MySql | Self::Postgres => " FOR UPDATE NOWAIT",
            Self::Sqlite => "",
        }
    }

    /// The same, skipping rows that are locked elsewhere. Before `MariaDB` 10.6 and `MySQL` 8 it is a syntax error.
    pub(crate) fn for_update_skip_locked(self) -> &'static str {
        match self {
            Self::MySql | Self::Postgres => " FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// Follows the table name in a `SELECT` that locks a list of primary keys: on a small table the optimiser would
    /// prefer a scan, and a scan locks every row. `PostgreSQL` locks only the rows that a scan returns.
    pub(crate) fn by_primary_key(self) -> &'static str {
        match self {
            Self::MySql => " FORCE INDEX (PRIMARY)",
            Self::Postgres | Self::Sqlite => "",
        }
    }

    /// The time of the statement by the clock of the database, UTC, comparable with stored times. On `PostgreSQL`
    /// `now()` is the beginning of the transaction, and `clock_timestamp()` changes within a statement, so that no
    /// index helps.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::MySql => "UTC_TIMESTAMP(6)",
            Self::Postgres => "(statement_timestamp() AT TIME ZONE 'UTC')",
            Self::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
        }
    }

    /// The given microseconds (a parameter) after [`now`](Self::now).
    pub(crate) fn now_plus_micros(self) -> &'static str {
        match self {
            Self::MySql => "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND",
            Self::Postgres => "(statement_timestamp() AT TIME ZONE 'UTC') + ? * INTERVAL '1 microsecond'",
            Self::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', ? / 1000000.0))",
        }
    }

    /// Microseconds from [`now`](Self::now) to the time in a column, negative when that is past.
    pub(crate) fn micros_until(self, column: &str) -> String {
        match self {
            Self::MySql => format!("TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), {column})"),
            Self::Postgres => {
                format!("CAST(EXTRACT(EPOCH FROM {column} - {}) * 1000000 AS BIGINT)", self.now())
            }
            Self::Sqlite => {
                // The times have milliseconds. A day as a floating-point number does not hold all microseconds.
                format!(
                    "1000 * CAST(ROUND((julianday({column}) - julianday('now')) * 86400000.0) AS INTEGER)"
                )
            }
        }
    }

    /// A JSON column as text: real `MySQL` has a separate type for it, and invalid JSON (`SQLite` accepts anything)
    /// must not fail the whole query.
    pub(crate) fn json_text(self, column: &str) -> String {
        match self {
            Self::MySql => format!("CAST({column} AS CHAR)"),
            Self::Postgres | Self::Sqlite => format!("CAST({column} AS TEXT)"),
        }
    }

    /// A number of 64 bits, whatever the type of its column or function: the driver of `PostgreSQL` does not convert
    /// narrower ones.
    pub(crate) fn integer(self, number: &str) -> String {
        match self {
            Self::MySql => format!("CAST({number} AS SIGNED)"),
            Self::Postgres | Self::Sqlite => format!("CAST({number} AS BIGINT)"),
        }
    }

    /// The same for a column that may be narrower, or unsigned, and is read for every message: the driver of `SQLite`
    /// needs no conversion.
    pub(crate) fn wide(self, column: &str) -> String {
        match self {
            Self::MySql | Self::Postgres => self.integer(column),
            Self::Sqlite => column.to_owned(),
        }
    }

    /// True for every value of a flag except 0 and NULL, whether its column is a boolean or an integer.
    pub(crate) fn is_set(self, column: &str) -> String {
        match self {
            Self::MySql | Self::Sqlite => format!("{column} <> 0"),
            Self::Postgres => format!("CAST({column} AS INTEGER) <> 0"),
        }
    }

    /// The same in the list of a `SELECT`: the driver of `MySQL` converts only integers of one byte to a boolean, and
    /// that of `SQLite` finds texts unless the plain value is read.
    pub(crate) fn flag(self, column: &str) -> String {
        match self {
            Self::MySql | Self::Postgres => format!("({})", self.is_set(column)),
            Self::Sqlite => column.to_owned(),
        }
    }

    /// The parameter of a JSON column: the driver of `PostgreSQL` sends a text as text, which is no JSON by itself.
    pub(crate) fn json_parameter(self) -> &'static str {
        match self {
            Self::MySql | Self::Sqlite => "?",
            Self::Postgres => "CAST(? AS JSON)",
        }
    }

    /// The value of a flag, whatever the type of its column: `PostgreSQL` converts an untyped literal to any of them,
    /// and `MySQL` would store the code of the digit in a bit.
    pub(crate) fn flag_value(self, is_set: bool) -> &'static str {
        match (self, is_set) {
            (Self::MySql | Self::Sqlite, true) => "1",
            (Self::MySql | Self::Sqlite, false) => "0",
            (Self::Postgres, true) => "'1'",
            (Self::Postgres, false) => "'0'",
        }
    }

    /// A text compared byte by byte, whatever its collation does with letter case and trailing blanks.
    pub(crate) fn exact_text(self, column: &str) -> String {
        match self {
            Self::MySql => format!("CAST({column} AS BINARY)"),
            Self::Postgres => format!("{column} COLLATE \"C\""),
            Self::Sqlite => column.to_owned(),
        }
    }

    /// Whether a column contains a text, or bytes: the parameter.
    pub(crate) fn contains(self, column: &str) -> String {
        match self {
            Self::MySql | Self::Sqlite => format!("INSTR({column}, ?) > 0"),
            Self::Postgres => format!("POSITION(? IN {column}) > 0"),
        }
    }

    /// A time (microseconds since 1970, UTC) for the columns that the Python service created.
    pub(crate) fn datetime(self, at_us: i64) -> Value {
        let at = DateTime::from_timestamp_micros(at_us).unwrap_or_default().naive_utc();
        match self {
            // The column holds whole seconds. MySQL would round to the next one, MariaDB cuts.
            Self::MySql => Value::from(at.with_nanosecond(0).unwrap_or(at)),
            Self::Postgres => Value::from(at),
            // Text, with as many digits as SQLAlchemy writes and reads back.
            Self::Sqlite => Value::from(at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
        }
    }

    /// A time (microseconds since 1970, UTC) for the columns that the gateway created: to the microsecond.
    pub(crate) fn instant(self, at_us: i64) -> Value {
        let at = DateTime::from_timestamp_micros(at_us).unwrap_or_default().naive_utc();
        match self {
            Self::MySql | Self::Postgres => Value::from(at),
            Self::Sqlite => Value::from(at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
        }
    }

    /// True for the rows of `outbox` with these primary keys, `(?, ?, ?), …`. `SQLite` would scan the table for a list
    /// of rows, so there the list is joined.
    pub(crate) fn outbox_keys(self, keys: &str) -> String {
        match self {
            Self::MySql => format!("(inbox_id, flow_id, inbox_offset) IN ({keys})"),
            Self::Postgres => format!("(inbox_id, flow_id, inbox_offset) IN (VALUES {keys})"),
            Self::Sqlite => format!(
                "outbox.rowid IN (SELECT o.rowid FROM (VALUES {keys}) AS k CROSS JOIN outbox AS o \
                 ON o.inbox_id = k.column1 AND o.flow_id = k.column2 AND o.inbox_offset = k.column3)"
            ),
        }
    }

    /// Reads which of the given number of message keys are known; the parameters are flow and hash of each.
    pub(crate) fn known_message_keys(self, keys: usize) -> String {
        const COLUMNS: &str = "SELECT m.flow_id, m.key_hash, m.message_id, m.received_at FROM";
        let keys = vec!["(?, ?)"; keys].join(", ");
        match self {
            Self::MySql => format!(
                "{COLUMNS} message_keys AS m FORCE INDEX (PRIMARY) WHERE (m.flow_id, m.key_hash) IN ({keys})"
            ),
            Self::Postgres => format!(
                "{COLUMNS} (VALUES {keys}) AS k JOIN message_keys AS m \
                 ON m.flow_id = k.column1 AND m.key_hash = k.column2"
            ),
            // `SQLite` would scan the table for a list of rows.
            Self::Sqlite => format!(
                "{COLUMNS} (VALUES {keys}) AS k CROSS JOIN message_keys AS m \
                 ON m.flow_id = k.column1 AND m.key_hash = k.column2"
            ),
        }
    }

    /// The end of an insert into `message_keys` that replaces a row with the same key.
    pub(crate) fn or_replace_message_key(self) -> &'static str {
        match self {
            Self::MySql => {
                " ON DUPLICATE KEY UPDATE message_id = VALUES(message_id), \
                 received_at = VALUES(received_at), written_at = VALUES(written_at)"
            }
            Self::Postgres | Self::Sqlite => {
                " ON CONFLICT (flow_id, key_hash) DO UPDATE SET message_id = excluded.message_id, \
                 received_at = excluded.received_at, written_at = excluded.written_at"
            }
        }
    }

    /// An insert of `rows` into a table that ignores existing ones.
    pub(crate) fn insert_unless_there(self, into: &str, rows: &str) -> String {
        match self {
            Self::MySql => format!("INSERT IGNORE INTO {into} {rows}"),
            Self::Postgres => format!("INSERT INTO {into} {rows} ON CONFLICT DO NOTHING"),
            Self::Sqlite => format!("INSERT OR IGNORE INTO {into} {rows}"),
        }
    }

    /// Sets `last_msg_id` of `flows` flows; the parameters are id and number of each. It reaches the flows by primary
    /// key alone, so it waits for no other flow's lock.
    pub(crate) fn update_counters(self, flows: usize) -> String {
        match self {
            Self::MySql => format!(
                "UPDATE ({new}) AS new STRAIGHT_JOIN flows {index} \
                 ON flows.id = new.id SET flows.last_msg_id = new.last",
                new = Self::rows_of_counters(flows),
                index = self.by_primary_key(),
            ),
            Self::Postgres | Self::Sqlite => {
                let values = vec!["(?, ?)"; flows].join(", ");
                format!(
                    "UPDATE flows SET last_msg_id = new.column2 FROM (VALUES {values}) AS new \
                     WHERE flows.id = new.column1"
                )
            }
        }
    }

    /// Adds the same number to `last_msg_id` of `flows` flows; the parameters are the number and their ids.
    pub(crate) fn raise_counters(self, flows: usize) -> String {
        format!(
            "UPDATE flows{index} SET last_msg_id = COALESCE(last_msg_id, 0) + ? WHERE id IN ({marks})",
            index = self.by_primary_key(),
            marks = marks(flows),
        )
    }

    /// Rows of `flows` flows and their numbers, two parameters each, for servers without lists of rows.
    pub(crate) fn rows_of_counters(flows: usize) -> String {
        format!("SELECT ? AS id, ? AS last{}", vec![" UNION ALL SELECT ?, ?"; flows - 1].concat())
    }
}
