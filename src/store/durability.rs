//! Whether the server keeps its commits when it crashes or loses power.
//!
//! Committed messages may be deleted from the inbox, so a lost commit may be lost for good.

use std::fmt;

use sea_orm::{ConnectionTrait, DbErr};

use super::connect::{Database, answer_timeout, with_timeout};
use super::dialect::Dialect;
use super::error::While;
use super::statement::statement;

/// A setting of the server by which commits can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitRisk {
    variable: &'static str,
    value: String,
    lost_by: &'static str,
    remedy: &'static str,
}

impl fmt::Display for CommitRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, lost_by, remedy } = self;
        write!(
            f,
            "{variable} is {value}: {lost_by} loses the last commits, whose messages the inbox may have deleted; {remedy}"
        )
    }
}

/// The risk, if the server reports one. A server that does not know the variable, or hides it from this user, reports
/// none.
pub(crate) async fn commit_risk(database: &Database) -> Option<CommitRisk> {
    let reading = async { value(database).await.while_doing("reading whether commits are durable") };
    match with_timeout(answer_timeout(), reading).await {
        Ok(value) => risk(database.dialect, value?),
        Err(error) => {
            log::debug!("The server does not say whether its commits are durable: {error}");
            None
        }
    }
}

async fn value(database: &Database) -> Result<Option<String>, DbErr> {
    let (sql, column) = match database.dialect {
        Dialect::MySql => ("SHOW GLOBAL VARIABLES LIKE 'innodb_flush_log_at_trx_commit'", 1),
        Dialect::Postgres => ("SELECT current_setting('fsync', true)", 0),
        // Each connection of the gateway sets its own value.
        Dialect::Sqlite => return Ok(None),
    };
    let statement = statement(database.dialect.backend(), sql, []);
    match database.connection.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(column),
        None => Ok(None),
    }
}

fn risk(dialect: Dialect, value: String) -> Option<CommitRisk> {
    const FLUSH: &str = "innodb_flush_log_at_trx_commit";
    const SET_FLUSH: &str = "set it to 1 on the server";
    let (variable, lost_by, remedy) = match (dialect, value.as_str()) {
        (Dialect::MySql, "0") => (FLUSH, "a crash of the database server", SET_FLUSH),
        (Dialect::MySql, "2") => (FLUSH, "a loss of power at the database server", SET_FLUSH),
        (Dialect::Postgres, "off") => {
            ("fsync", "a loss of power at the database server", "set it to on in postgresql.conf")
        }
        _ => return None,
    };
    Some(CommitRisk { variable, value, lost_by, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_lose_commits_are_a_risk() {
        for (dialect, value, is_risk) in [
            (Dialect::MySql, "0", true),
            (Dialect::MySql, "1", false),
            (Dialect::MySql, "2", true),
            // MariaDB: it flushes more often than with 1.
            (Dialect::MySql, "3", false),
            (Dialect::Postgres, "on", false),
            (Dialect::Postgres, "off", true),
            (Dialect::Sqlite, "off", false),
        ] {
            assert_eq!(risk(dialect, value.to_owned()).is_some(), is_risk, "{dialect:?} {value}");
        }
    }
}
