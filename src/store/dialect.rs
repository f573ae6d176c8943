//! The fragments of SQL in which the databases differ. Everything else is written once.

use sea_orm::DbBackend;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `MySQL`, `MariaDB` and their relatives.
    MySql,
    /// `SQLite`.
    Sqlite,
}

#[allow(dead_code)]
impl Dialect {
    /// The same, as sea-orm calls it.
    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::MySql => DbBackend::MySql,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }

    /// Ends a `SELECT` that locks the rows it reads. On `SQLite` the transaction holds the only
    /// write lock already.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// Follows the table name in a `SELECT` that locks a list of primary keys: on a small table the
    /// optimiser would rather scan, and a scan locks every row.
    pub(crate) fn by_primary_key(self) -> &'static str {
        match self {
            Self::MySql => " FORCE INDEX (PRIMARY)",
            Self::Sqlite => "",
        }
    }

    /// The moment of the statement by the database's clock, UTC, comparable with stored ones.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::MySql => "UTC_TIMESTAMP(6)",
            Self::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
        }
    }

    /// A JSON column as text: real `MySQL` has a type of its own for it, and what is no JSON at all
    /// (`SQLite` keeps anything) must not fail the whole query.
    pub(crate) fn json_text(self, column: &str) -> String {
        match self {
            Self::MySql => format!("CAST({column} AS CHAR)"),
            Self::Sqlite => format!("CAST({column} AS TEXT)"),
        }
    }
}
