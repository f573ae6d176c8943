//! The answer of a server that refuses a statement or a connection, in the terms of its maker.

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr, SqlxError};

use super::{ErrorClass, mysql, postgres, sqlite};

/// The error that a server answered.
pub(super) enum Refusal<'e> {
    MySql { number: u16, sqlstate: &'e str },
    Postgres { sqlstate: &'e str, constraint: Option<&'e str> },
    Sqlite { code: Option<i32>, message: &'e str },
    Other,
}

impl<'e> Refusal<'e> {
    fn new(error: &'e dyn DatabaseError) -> Self {
        if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            Self::MySql { number: error.number(), sqlstate: error.code().unwrap_or_default() }
        } else if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
            Self::Postgres { sqlstate: error.code(), constraint: error.constraint() }
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            let code = error.code().and_then(|code| code.parse().ok());
            Self::Sqlite { code, message: error.message() }
        } else {
            Self::Other
        }
    }

    /// The answer to a statement.
    pub(super) fn of_statement(error: &'e DbErr) -> Option<Self> {
        let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
        else {
            return None;
        };
        cause.as_database_error().map(Self::new)
    }

    /// The answer to the attempt to connect.
    fn of_connection(error: &'e DbErr) -> Option<Self> {
        let DbErr::Conn(RuntimeErr::SqlxError(cause)) = error else { return None };
        cause.as_database_error().map(Self::new)
    }

    fn class(&self) -> ErrorClass {
        match *self {
            Self::MySql { number, sqlstate } => mysql::class_of(number, sqlstate),
            Self::Postgres { sqlstate, constraint } => postgres::class_of(sqlstate, constraint),
            Self::Sqlite { code, .. } => code.map_or(ErrorClass::Outage, sqlite::class_of),
            Self::Other => ErrorClass::Outage,
        }
    }

    /// Whether the user lacks a privilege.
    pub(super) fn is_denied(&self) -> bool {
        match *self {
            Self::MySql { number, .. } => mysql::is_denied(number),
            Self::Postgres { sqlstate, .. } => postgres::is_denied(sqlstate),
            Self::Sqlite { .. } | Self::Other => false,
        }
    }
}

/// A rejected login is the answer to the connection attempt, not to the statement that follows.
pub(super) fn is_refused_login(error: &DbErr) -> bool {
    match Refusal::of_connection(error) {
        Some(Refusal::MySql { number, .. }) => mysql::is_refused_login(number),
        Some(Refusal::Postgres { sqlstate, .. }) => postgres::is_refused_login(sqlstate),
        _ => false,
    }
}

/// A server that is read-only, or not part of its cluster, may have been replaced, and its name may lead to another one
/// now.
pub(super) fn is_about_the_connection(error: &DbErr) -> bool {
    match Refusal::of_statement(error) {
        Some(Refusal::MySql { number, .. }) => mysql::is_about_the_connection(number),
        Some(Refusal::Postgres { sqlstate, .. }) => postgres::is_about_the_connection(sqlstate),
        _ => false,
    }
}

/// The server does not understand a statement. Unknown session variables fail while connecting.
pub(super) fn is_unknown_to_the_server(error: &DbErr) -> bool {
    match Refusal::of_connection(error).or_else(|| Refusal::of_statement(error)) {
        Some(Refusal::MySql { number, .. }) => mysql::is_unknown_statement(number),
        Some(Refusal::Postgres { sqlstate, .. }) => postgres::is_unknown_statement(sqlstate),
        _ => false,
    }
}

/// Whether a statement names a column that its table does not have.
pub(crate) fn is_unknown_column(error: &DbErr) -> bool {
    match Refusal::of_statement(error) {
        Some(Refusal::MySql { number, .. }) => mysql::is_unknown_column(number),
        Some(Refusal::Postgres { sqlstate, .. }) => postgres::is_unknown_column(sqlstate),
        // SQLite has one code for any mistake in a statement.
        Some(Refusal::Sqlite { message, .. }) => message.starts_with("no such column"),
        Some(Refusal::Other) | None => false,
    }
}

pub(super) fn class_of(error: &DbErr) -> ErrorClass {
    match error {
        DbErr::ConnectionAcquire(_) => ErrorClass::ConnectionLost,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => class_of_driver(cause),
        _ => ErrorClass::Outage,
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
        SqlxError::Database(error) => Refusal::new(&**error).class(),
        _ => ErrorClass::Outage,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_broken_connection_is_told_from_an_outage() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let lost = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(SqlxError::Io(broken))));
        assert_eq!(class_of(&lost), ErrorClass::ConnectionLost);
        assert_eq!(class_of(&DbErr::Custom("anything".to_owned())), ErrorClass::Outage);
    }
}
