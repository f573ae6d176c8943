//! Errors of the database, by their remedy.

use std::path::PathBuf;
use std::time::Duration;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr, SqlxError};
use thiserror::Error;

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
        matches!(self, Self::Statement { source, .. } if refusal_in(source).is_some())
            && self.class() == ErrorClass::Outage
    }

    /// Whether the user lacks a privilege.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        const POSTGRES_DENIED: &str = "42501";
        let Self::Statement { source, .. } = self else { return false };
        let Some(refusal) = refusal_in(source) else { return false };
        if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
            refusal.number() == MYSQL_NEEDS_PRIVILEGE || MYSQL_DENIED.contains(&refusal.number())
        } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
            refusal.code() == POSTGRES_DENIED
        } else {
            false
        }
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

/// A rejected login is the answer to the connection attempt, not to the statement that follows.
fn is_refused_login(error: &DbErr) -> bool {
    // Access denied, with a password and without one.
    const MYSQL: [u16; 2] = [1045, 1698];
    // Invalid authorization, invalid password.
    const POSTGRES: [&str; 2] = ["28000", "28P01"];
    let DbErr::Conn(RuntimeErr::SqlxError(cause)) = error else { return false };
    let Some(refusal) = cause.as_database_error() else { return false };
    if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
        MYSQL.contains(&refusal.number())
    } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
        POSTGRES.contains(&refusal.code())
    } else {
        false
    }
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

fn class_of(error: &DbErr) -> ErrorClass {
    match error {
        DbErr::ConnectionAcquire(_) => ErrorClass::ConnectionLost,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => class_of_driver(cause),
        _ => ErrorClass::Outage,
    }
}

/// `PostgreSQL` refuses to execute a prepared statement whose columns were altered, and the driver would execute it
/// again. A server that is read-only, or not part of its cluster, may have been replaced, and its name may lead to
/// another one now. `MariaDB` and `MySQL` apply some GRANTs to new connections only, `PostgreSQL` to all at once.
fn is_about_the_connection(error: &DbErr) -> bool {
    const FEATURE_NOT_SUPPORTED: &str = "0A000";
    const READ_ONLY: &str = "25006";
    let Some(refusal) = refusal_in(error) else { return false };
    if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
        is_about_the_connection_of_mysql(refusal.number())
    } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
        [FEATURE_NOT_SUPPORTED, READ_ONLY].contains(&refusal.code())
    } else {
        false
    }
}

/// The driver finds another type of value than the column is read as.
fn is_unreadable_column(error: &DbErr) -> bool {
    matches!(error, DbErr::Query(RuntimeErr::SqlxError(cause)) if matches!(**cause, SqlxError::ColumnDecode { .. }))
}

/// The server does not understand a statement. Unknown session variables fail while connecting.
fn is_unknown_to_the_server(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    let Some(refusal) = cause.as_database_error() else { return false };
    if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
        MYSQL_UNKNOWN.contains(&refusal.number())
    } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
        POSTGRES_UNKNOWN.contains(&refusal.code())
    } else {
        false
    }
}

/// Errors for statements that the server does not know.
const MYSQL_UNKNOWN: [u16; 7] = [
    1064, // syntax
    1128, // function
    1193, // variable
    1231, // value of a variable
    1235, // not supported by this version
    1305, // function, where it could be one of the database's own
    1630, // the same, with a hint
];

/// The same on `PostgreSQL`.
const POSTGRES_UNKNOWN: [&str; 3] = [
    "42601", // syntax
    "42704", // variable
    "42883", // function
];

/// The error of the server for a statement.
fn refusal_in(error: &DbErr) -> Option<&dyn DatabaseError> {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return None;
    };
    cause.as_database_error()
}

/// Errors of a server that accepts no writes, or no statements at all, and may have been replaced.
const MYSQL_NOT_THE_PRIMARY: [u16; 4] = [
    1047, // Galera: the node is not ready
    1290, // started or set read-only
    1836, // the same, in a mode of its own
    3168, // Vitess: no primary here
];

/// The error for a missing privilege on the server as a whole.
const MYSQL_NEEDS_PRIVILEGE: u16 = 1227;

/// Errors for a missing privilege.
const MYSQL_DENIED: [u16; 4] = [
    1044, // on the database
    1142, // on the table
    1143, // on the column
    1370, // on the routine, say one that a trigger calls
];

fn is_about_the_connection_of_mysql(number: u16) -> bool {
    MYSQL_NOT_THE_PRIMARY.contains(&number) || MYSQL_DENIED.contains(&number)
}

/// Whether a statement names a column that its table does not have.
pub(crate) fn is_unknown_column(error: &DbErr) -> bool {
    const MYSQL_BAD_FIELD: u16 = 1054;
    const POSTGRES_UNDEFINED_COLUMN: &str = "42703";
    let Some(refusal) = refusal_in(error) else { return false };
    if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
        refusal.number() == MYSQL_BAD_FIELD
    } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
        refusal.code() == POSTGRES_UNDEFINED_COLUMN
    } else {
        // SQLite has one code for any mistake in a statement.
        refusal.message().starts_with("no such column")
    }
}

/// The class of an error of the driver beneath sea-orm.
pub(crate) fn class_of_driver(error: &SqlxError) -> ErrorClass {
    match error {
        // After a protocol error the state of the server is unknown.
        SqlxError::Io(_)
        | SqlxError::Protocol(_)
        | SqlxError::Tls(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => ErrorClass::ConnectionLost,
        SqlxError::Database(refusal) => {
            if let Some(refusal) = refusal.try_downcast_ref::<MySqlDatabaseError>() {
                class_of_mysql(refusal.number(), refusal.code().unwrap_or_default())
            } else if let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() {
                class_of_postgres(refusal.code(), refusal.constraint())
            } else if refusal.try_downcast_ref::<SqliteError>().is_some() {
                let code = refusal.code().and_then(|code| code.parse().ok());
                code.map_or(ErrorClass::Outage, class_of_sqlite)
            } else {
                ErrorClass::Outage
            }
        }
        _ => ErrorClass::Outage,
    }
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

/// Errors that are about the data although their SQLSTATE may not say so.
const MYSQL_SUSPECTS: [u16; 25] = [
    1048, // column cannot be null
    1153, // statement above max_allowed_packet: to split the batch is what cures it
    1172, // a trigger selects one row, and there are more
    1242, // the same in a subquery
    1264, // number out of range
    1265, // data truncated
    1292, // incorrect date or number
    1300, // invalid character string
    1329, // a trigger fetches a row, and there is none
    1365, // division by zero
    1366, // incorrect string value
    1406, // data too long
    1411, // incorrect value for a function, say STR_TO_DATE
    1644, // refused by a trigger (SIGNAL)
    1690, // result out of range, say below zero and unsigned
    3140, // invalid JSON text
    3141, // the same in a parameter
    3144, // JSON in a character set without Unicode
    3150, // JSON value too big
    3157, // JSON nested too deeply
    3819, // CHECK violated; for MariaDB see below
    3854, // no such character in the column's character set
    // TiDB's own numbers. As with 1153, splitting the batch cures the first and the last.
    8004, // transaction too large
    8025, // row too large
    9500, // transaction too large, by size
];

/// By error number and SQLSTATE.
fn class_of_mysql(number: u16, sqlstate: &str) -> ErrorClass {
    match number {
        // Deadlock found; record has changed since last read (MariaDB's snapshot isolation). TiDB: rows have
        // changed (8002, 8005, 9007), safe to be tried again (8022), tables have changed (8028).
        1213 | 1020 | 8002 | 8005 | 8022 | 8028 | 9007 => ErrorClass::Deadlock,
        // Lock wait timeout, of a row or of the table's definition (on MariaDB also with NOWAIT, for which MySQL has a
        // separate number); statement took too long; TiDB's resolving of locks.
        1205 | 3572 | 1969 | 3024 | 9004 => ErrorClass::LockTimeout,
        // Server shutting down; aborted connections and network errors; query interrupted; client errors that proxies
        // pass on; connection killed (MariaDB, MySQL); idle for too long.
        1053 | 1152 | 1158..=1161 | 1184 | 1317 | 2006 | 2013 | 1927 | 3169 | 4031 => {
            ErrorClass::ConnectionLost
        }
        // A violated CHECK of MariaDB (4025) is recognised by its class: on MySQL the number means something else.
        _ if is_about_data(sqlstate) || MYSQL_SUSPECTS.contains(&number) => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

/// The same on `PostgreSQL`: SQLSTATEs of other classes that are about the data.
const POSTGRES_SUSPECTS: [&str; 7] = [
    "21000", // a trigger's subquery gives more than one row
    "44000", // refused by the CHECK OPTION of a view
    "54000", // beyond a limit of the server's: a value too long for an index on it
    "P0001", // refused by a trigger (RAISE)
    "P0002", // a trigger selects one row, and there is none
    "P0003", // the same, and there are more
    "P0004", // refused by an ASSERT of a trigger
];

/// By SQLSTATE and the name of the constraint that was violated.
fn class_of_postgres(sqlstate: &str, constraint: Option<&str>) -> ErrorClass {
    const CHECK_VIOLATION: &str = "23514";
    const SEQUENCE_AT_ITS_END: &str = "2200H";
    match sqlstate {
        SEQUENCE_AT_ITS_END => ErrorClass::Outage,
        // No partition for the row. A violated CHECK has a name.
        CHECK_VIOLATION if constraint.is_none() => ErrorClass::Outage,
        // Serialisation failure; deadlock found.
        "40001" | "40P01" => ErrorClass::Deadlock,
        // Lock timeout, or NOWAIT; statement took too long or was cancelled.
        "55P03" | "57014" => ErrorClass::LockTimeout,
        // Idle in a transaction for too long; transaction took too long; server shutting down, after a
        // crash or not yet up; database dropped; session idle for too long.
        "25P03" | "25P04" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => ErrorClass::ConnectionLost,
        _ if sqlstate.starts_with("08") => ErrorClass::ConnectionLost,
        _ if is_about_data(sqlstate) || POSTGRES_SUSPECTS.contains(&sqlstate) => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

/// By extended result code, whose low byte is the plain code.
fn class_of_sqlite(code: i32) -> ErrorClass {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    match code & 0xff {
        BUSY | LOCKED => ErrorClass::LockTimeout,
        TOO_BIG | CONSTRAINT | MISMATCH => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn without_an_sqlstate_that_says_so_only_known_numbers_are_suspects() {
        let suspects = (0..=u16::MAX).filter(|number| class_of_mysql(*number, "HY000") == ErrorClass::Poison);
        assert!(suspects.eq(MYSQL_SUSPECTS));
    }

    #[test]
    fn constraints_and_refused_values_are_suspects_by_class() {
        const UNIQUE: i32 = 2067;
        const PRIMARY_KEY: i32 = 1555;
        const FOREIGN_KEY: i32 = 787;
        const TOO_BIG: i32 = 18;
        const MISMATCH: i32 = 20;
        for (number, sqlstate) in [
            (1062, "23000"), // duplicate key
            (1452, "23000"), // foreign key
            (1365, "22012"), // division by zero
            (1690, "22003"), // below zero and unsigned
            (4711, "45000"), // SIGNAL with a number of the site's own
        ] {
            assert_eq!(class_of_mysql(number, sqlstate), ErrorClass::Poison, "{number}");
        }
        for code in [UNIQUE, PRIMARY_KEY, FOREIGN_KEY, TOO_BIG, MISMATCH] {
            assert_eq!(class_of_sqlite(code), ErrorClass::Poison, "{code}");
        }
    }

    #[test]
    fn a_full_disk_and_a_read_only_server_are_outages() {
        const READ_ONLY: i32 = 8;
        const IO: i32 = 10;
        const CORRUPT: i32 = 11;
        const FULL: i32 = 13;
        for number in [1114, 1021, 1047, 1290, 1836, 3168, 1040, 1142, 1467, 1364, 1526] {
            assert_eq!(class_of_mysql(number, "HY000"), ErrorClass::Outage, "{number}");
        }
        for (number, sqlstate) in [(1054, "42S22"), (1146, "42S02"), (1142, "42000")] {
            assert_eq!(class_of_mysql(number, sqlstate), ErrorClass::Outage, "{number}");
        }
        for code in [READ_ONLY, IO, CORRUPT, FULL] {
            assert_eq!(class_of_sqlite(code), ErrorClass::Outage, "{code}");
        }
    }

    #[test]
    fn faults_of_postgresql_go_by_class_but_for_what_a_person_has_to_mend() {
        for (sqlstate, fault) in [
            ("22021", ErrorClass::Poison),
            ("22012", ErrorClass::Poison),
            ("23505", ErrorClass::Poison),
            ("23503", ErrorClass::Poison),
            ("23P01", ErrorClass::Poison),
            ("P0001", ErrorClass::Poison),
            ("40P01", ErrorClass::Deadlock),
            ("55P03", ErrorClass::LockTimeout),
            ("57P01", ErrorClass::ConnectionLost),
            ("08006", ErrorClass::ConnectionLost),
            ("53100", ErrorClass::Outage),
            ("53300", ErrorClass::Outage),
            ("25006", ErrorClass::Outage),
            ("2200H", ErrorClass::Outage),
            ("42P01", ErrorClass::Outage),
            ("42703", ErrorClass::Outage),
            ("42501", ErrorClass::Outage),
            ("XX000", ErrorClass::Outage),
        ] {
            assert_eq!(class_of_postgres(sqlstate, None), fault, "{sqlstate}");
        }
    }

    #[test]
    fn a_missing_partition_of_postgresql_is_told_from_a_violated_check() {
        assert_eq!(class_of_postgres("23514", Some("no_red")), ErrorClass::Poison);
        assert_eq!(class_of_postgres("23514", None), ErrorClass::Outage);
    }

    #[test]
    fn missing_privileges_of_mysql_want_new_connections() {
        for number in [1044, 1142, 1143, 1370, 1290] {
            assert!(is_about_the_connection_of_mysql(number), "{number}");
        }
        for number in [1062, 1054, 1205] {
            assert!(!is_about_the_connection_of_mysql(number), "{number}");
        }
    }

    #[test]
    fn a_violated_check_of_mariadb_is_told_from_what_mysql_means_by_its_number() {
        assert_eq!(class_of_mysql(4025, "23000"), ErrorClass::Poison);
        assert_eq!(class_of_mysql(4025, "HY000"), ErrorClass::Outage);
    }

    #[test]
    fn a_locked_sqlite_file_is_a_lock_timeout_in_all_its_variants() {
        const BUSY_SNAPSHOT: i32 = 517;
        const LOCKED_SHARED_CACHE: i32 = 262;
        for code in [5, 6, BUSY_SNAPSHOT, LOCKED_SHARED_CACHE] {
            assert_eq!(class_of_sqlite(code), ErrorClass::LockTimeout, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_told_from_an_outage() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let lost = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(broken))));
        assert_eq!(class_of(&lost), ErrorClass::ConnectionLost);
        assert_eq!(class_of(&DbErr::Custom("anything".to_owned())), ErrorClass::Outage);
    }
}
