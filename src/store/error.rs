//! Errors of the database, by their remedy.
//!
//! ```text
//!  refusal.rs    the answer of a server, whichever it is
//!  mysql.rs      its error numbers
//!  postgres.rs   its SQLSTATEs
//!  sqlite.rs     its result codes
//! ```

mod mysql;
mod postgres;
mod refusal;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, SqlxError};
use thiserror::Error;

use self::refusal::{Refusal, class_of, is_about_the_connection, is_refused_login, is_unknown_to_the_server};
pub(crate) use self::refusal::{class_of_driver, is_unknown_column};
use super::unsafe_table::{UnsafeTable, describe};
use crate::domain::library_text::without_links;

/// An operation on the database failed. No variant holds a password or an address with one in it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The first connection failed: the server is down, the name is unknown, the credentials are wrong …
    #[error("cannot connect to {target}: {}", without_links(.source))]
    Connect {
        /// The database, without the password.
        target: String,
        /// The error of the driver.
        source: DbErr,
    },
    /// The server did not answer the first connection.
    #[error("cannot connect to {target}: no answer within {} s", .waited.as_secs())]
    NoAnswer {
        /// The database, without the password.
        target: String,
        /// The timeout.
        waited: Duration,
    },
    /// A server of a list is up and accepts no writes: another one has to.
    #[error("{target} takes no writes")]
    ReadOnly {
        /// The database, without the password.
        target: String,
    },
    /// None of several servers can be used.
    #[error("no server of the list can be used: {}", sentence(.tried))]
    NoServer {
        /// The error of each server, in the order in which they were tried.
        tried: Vec<StoreError>,
    },
    /// The directory of an `SQLite` file is missing; the gateway does not create it.
    #[error("cannot open the database {}: the directory {} does not exist", .file.display(), .directory.display())]
    NoDirectory {
        /// The file.
        file: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// Tables whose storage engine cannot roll back.
    #[error("tables without transactions: {}", describe(.tables))]
    NoTransactions {
        /// The tables, by name.
        tables: Vec<UnsafeTable>,
    },
    /// A column has a type that cannot be read.
    #[error("the column {table}.{column} has the type {found}: expected {expected}")]
    ColumnType {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Its type, as the database names it.
        found: String,
        /// The expected type.
        expected: &'static str,
    },
    /// Another gateway held the migration lock for the whole time.
    #[error("another gateway has been migrating this database for more than {seconds} s")]
    MigrationBusy {
        /// The time waited.
        seconds: u32,
    },
    /// The server did not answer a statement: its host may be gone, or very slow.
    #[error("no answer from the database within {} s", .waited.as_secs())]
    TimedOut {
        /// The timeout.
        waited: Duration,
    },
    /// The database rejects a message, and harmless rows as well: the message is not at fault.
    #[error("the database rejects even a harmless row: {refusal}")]
    NoRowGoesIn {
        /// The rejection of the message.
        #[source]
        refusal: Box<StoreError>,
    },
    /// A statement failed.
    #[error("{doing}: {}", without_links(.source))]
    Statement {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the driver.
        source: DbErr,
    },
}

/// Classes of errors, by their remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The transaction was rolled back in favour of another: retry at once.
    Deadlock,
    /// A row or table stayed locked for too long: retry.
    LockTimeout,
    /// The connection is lost or was never established; whether a commit took place is unknown.
    ConnectionLost,
    /// The database rejects the data, or may do so: the message is suspected. A trial decides whether it is at fault
    /// (see `store/batch/suspects.rs`).
    Poison,
    /// Everything else: the database cannot do its work. Retry later, with an alarm.
    Outage,
}

impl StoreError {
    /// The class of the error.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoAnswer { .. } | Self::TimedOut { .. } | Self::NoServer { .. } => {
                ErrorClass::ConnectionLost
            }
            Self::NoDirectory { .. }
            | Self::ReadOnly { .. }
            | Self::NoTransactions { .. }
            | Self::ColumnType { .. }
            | Self::NoRowGoesIn { .. } => ErrorClass::Outage,
            Self::MigrationBusy { .. } => ErrorClass::LockTimeout,
            Self::Connect { source, .. } | Self::Statement { source, .. } => class_of(source),
        }
    }

    /// Whether the gateway cannot work with the tables, so that waiting does not help: an engine without transactions,
    /// or a column whose values cannot be read.
    #[must_use]
    pub fn is_about_the_tables(&self) -> bool {
        match self {
            Self::NoTransactions { .. } | Self::ColumnType { .. } => true,
            Self::Statement { source, .. } => is_unreadable_column(source),
            _ => false,
        }
    }

    /// Whether the server lacks a function, a variable or a kind of statement that the gateway uses, so that waiting
    /// does not help: its version or variant is unsupported.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::NoServer { tried } => tried.iter().all(Self::is_unsupported),
            Self::Connect { source, .. } | Self::Statement { source, .. } => is_unknown_to_the_server(source),
            _ => false,
        }
    }

    /// Whether the connection was given up because it could not be encrypted, or the server not verified.
    #[must_use]
    pub fn is_about_tls(&self) -> bool {
        match self {
            Self::NoServer { tried } => tried.iter().any(Self::is_about_tls),
            Self::Connect { source: DbErr::Conn(RuntimeErr::SqlxError(cause)), .. } => match &**cause {
                SqlxError::Tls(_) => true,
                SqlxError::Io(error) => {
                    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the server rejects a statement for a reason that an operator has to fix.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if Refusal::of_statement(source).is_some())
            && self.class() == ErrorClass::Outage
    }

    /// Whether the user lacks a privilege.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let Self::Statement { source, .. } = self else { return false };
        Refusal::of_statement(source).is_some_and(|refusal| refusal.is_denied())
    }

    /// Whether the connections are useless although none is broken. They no longer answer, they hold statements that
    /// were prepared before a table was altered, their server was replaced by another, or their privileges predate a
    /// GRANT.
    #[must_use]
    pub fn wants_new_connections(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Statement { source, .. } => is_about_the_connection(source),
            _ => false,
        }
    }

    /// Whether a server rejected the user or the password.
    #[must_use]
    pub fn is_about_credentials(&self) -> bool {
        match self {
            Self::NoServer { tried } => tried.iter().any(Self::is_about_credentials),
            Self::Connect { source, .. } | Self::Statement { source, .. } => is_refused_login(source),
            _ => false,
        }
    }
}

fn sentence(errors: &[StoreError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Names the operation that failed.
pub(crate) trait While<T> {
    /// `doing` is the beginning of the message: "reading the flows".
    fn while_doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> While<T> for Result<T, DbErr> {
    fn while_doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Statement { doing, source })
    }
}

/// The driver finds another type of value than the column is read as.
fn is_unreadable_column(error: &DbErr) -> bool {
    matches!(error, DbErr::Query(RuntimeErr::SqlxError(cause)) if matches!(**cause, SqlxError::ColumnDecode { .. }))
}

/// Classes of SQLSTATE that are about the data: value out of range, division by zero and the like; constraints; errors
/// that a trigger of the site raises.
///
/// Not every such error is the fault of the message: an exhausted `data.id` is a duplicate key, too. So they only make
/// a message suspected. Errors that no data can cause (disk full, read-only, table missing, default missing, partition
/// missing, no privilege) are in none of these classes. They must not empty the inbox into the dead letters.
const CLASSES_ABOUT_DATA: [&str; 3] = ["22", "23", "45"];

fn is_about_data(sqlstate: &str) -> bool {
    sqlstate.get(..2).is_some_and(|class| CLASSES_ABOUT_DATA.contains(&class))
}
