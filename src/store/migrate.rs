//! Brings the schema up to date, one gateway at a time.
//!
//! ```text
//! pin a connection ─▶ take the lock ─▶ add the missing parts ─▶ release the lock ─▶ no broker? insert one likewise
//! ```
//! Existing objects are not changed. The migration is idempotent, so after an interruption the next run completes it.

use std::fmt;

use md5::{Digest, Md5};
use mqtt_gateway_entity::mqtt_servers;
use mqtt_gateway_migration::{MigrationName, MigrationTrait, SchemaManager, Step, steps};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, QuerySelect, Statement,
    TryGetable,
};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{ErrorClass, StoreError, While};
use super::sentence::hex;

/// Timeout for the migration lock of another gateway, in seconds.
const LOCK_TIMEOUT_S: u32 = 60;

/// The same if nothing is going to be changed, in seconds.
const LOCK_TRIAL_S: u32 = 1;

/// The number of the lock on `PostgreSQL`, which is per database: "mqtt-gw" in ASCII.
const LOCK_NUMBER: i64 = 0x006d_7174_742d_6777;

/// The first row of an empty `mqtt_servers`. The condition is part of the statement, to keep the race of two inserts
/// small, one of which may not hold the lock.
const INSERT_DEFAULT_SERVER: &str = "INSERT INTO mqtt_servers (host, port, enabled, is_default) \
     SELECT '127.0.0.1', 1883, TRUE, TRUE FROM (SELECT COUNT(*) AS servers FROM mqtt_servers) AS present \
     WHERE present.servers = 0";

/// Operations, for their errors.
const LOCKING: &str = "taking the migration lock";
const COMPARING: &str = "comparing the schema";

const DEFAULT_SERVER: &str = "broker 127.0.0.1:1883";

/// The additions of a migration, in words. Empty: the schema is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// One entry for each table, column, index or row: `table outbox`, `column flows.enabled`.
    pub added: Vec<String>,
}

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.added.is_empty() { f.write_str("nothing") } else { f.write_str(&self.added.join(", ")) }
    }
}

/// Adds the missing parts of the schema, and a first broker if there is none. Any number of gateways may do this at the
/// same time. Without missing parts it needs no right to change tables.
pub async fn migrate(database: &Database) -> Result<MigrationReport, StoreError> {
    let lock = MigrationLock::take(database).await?;
    let outcome = add_what_is_missing(&lock.session, database.dialect).await;
    let mut report = lock.end(outcome).await?;
    // INSERT is needed only while there is no row, because some users lack the right.
    if !has_a_server(&database.connection).await? && insert_default_server(database).await? {
        report.added.push(DEFAULT_SERVER.to_owned());
    }
    Ok(report)
}

/// The additions that [`migrate`] would make now. Changes nothing.
pub async fn plan(database: &Database) -> Result<MigrationReport, StoreError> {
    let mut report = missing_schema(database).await?;
    let has_table = SchemaManager::new(&database.connection).has_table("mqtt_servers").await;
    if !has_table.while_doing(COMPARING)? || !has_a_server(&database.connection).await? {
        report.added.push(DEFAULT_SERVER.to_owned());
    }
    Ok(report)
}

/// The tables, columns and indexes that are missing now.
pub async fn missing_schema(database: &Database) -> Result<MigrationReport, StoreError> {
    let manager = SchemaManager::new(&database.connection);
    let missing = missing_steps(&manager, database.dialect).await.while_doing(COMPARING)?;
    Ok(MigrationReport { added: missing.iter().map(|step| step.name().to_owned()).collect() })
}

async fn missing_steps(manager: &SchemaManager<'_>, dialect: Dialect) -> Result<Vec<Step>, DbErr> {
    let mut missing = Vec::new();
    for step in steps(dialect.backend()) {
        if step.is_missing(manager).await? {
            missing.push(step);
        }
    }
    Ok(missing)
}

/// Takes the lock of [`migrate`] and releases it, to find out early whether it works on this server. A lock that
/// another gateway holds works. On `SQLite` it would be the lock of every write.
pub(crate) async fn try_migration_lock(database: &Database) -> Result<(), StoreError> {
    if database.dialect == Dialect::Sqlite {
        return Ok(());
    }
    match MigrationLock::take_within(database, LOCK_TRIAL_S).await {
        Ok(lock) => lock.end(Ok(())).await,
        Err(StoreError::MigrationBusy { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn add_what_is_missing(
    session: &DatabaseTransaction,
    dialect: Dialect,
) -> Result<MigrationReport, StoreError> {
    let manager = SchemaManager::new(session);
    let mut report = MigrationReport::default();
    for step in steps(dialect.backend()) {
        if step.is_missing(&manager).await.while_doing(COMPARING)? {
            step.up(&manager).await.while_doing("adding to the schema")?;
            report.added.push(step.name().to_owned());
        }
    }
    Ok(report)
}

/// Returns whether it did: another gateway may have been faster.
async fn insert_default_server(database: &Database) -> Result<bool, StoreError> {
    let lock = MigrationLock::take(database).await?;
    let inserted = lock.session.execute_unprepared(INSERT_DEFAULT_SERVER).await;
    let inserted = inserted.while_doing("inserting the default broker");
    lock.end(inserted.map(|inserted| inserted.rows_affected() > 0)).await
}

async fn has_a_server(connection: &impl ConnectionTrait) -> Result<bool, StoreError> {
    let servers =
        mqtt_servers::Entity::find().select_only().column(mqtt_servers::Column::Id).count(connection).await;
    Ok(servers.while_doing("counting the brokers")? > 0)
}

/// The sole right to change the schema, held by one connection.
///
/// A `MySQL` lock belongs to a session and outlives the transactions that DDL commits by itself, so every statement
/// uses `session`. If this is dropped half-way, the lock ends with the connection, which the pool or the server closes
/// when it is idle. On `PostgreSQL` and `SQLite` the whole migration is one transaction, which holds the lock or is the
/// lock.
pub(super) struct MigrationLock {
    pub(super) session: DatabaseTransaction,
    lock: Lock,
}

/// The holder of the right.
enum Lock {
    /// A lock of the session, by its name.
    Named(String),
    /// The transaction.
    Transaction,
}

impl MigrationLock {
    pub(super) async fn take(database: &Database) -> Result<Self, StoreError> {
        Self::take_within(database, LOCK_TIMEOUT_S).await
    }

    async fn take_within(database: &Database, seconds: u32) -> Result<Self, StoreError> {
        let session = database.begin().await?;
        let lock = match database.dialect {
            Dialect::MySql => get_lock(&session, seconds).await?.map(Lock::Named),
            Dialect::Postgres => get_lock_on_postgres(&session, seconds).await?.then_some(Lock::Transaction),
            Dialect::Sqlite => Some(Lock::Transaction),
        };
        let lock = lock.ok_or(StoreError::MigrationBusy { seconds })?;
        Ok(Self { session, lock })
    }

    /// Ends the transaction, releases the lock, and returns the result. In this order: the next holder of the lock has
    /// to see the changes.
    pub(super) async fn end<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        const DOING: &str = "ending the migration";
        let released = match &self.lock {
            Lock::Named(name) => {
                self.release_lock(name, if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" }).await
            }
            Lock::Transaction => Ok(()),
        };
        let ended = match outcome {
            Ok(_) => self.session.commit().await,
            Err(_) => self.session.rollback().await,
        };
        let value = outcome?;
        released.and(ended).while_doing(DOING)?;
        Ok(value)
    }

    /// The lock belongs to the session, which the driver keeps only until the end of the transaction. So SQL ends it.
    async fn release_lock(&self, name: &str, ending: &str) -> Result<(), DbErr> {
        let ended = self.session.execute_unprepared(ending).await;
        let released = self.session.execute_unprepared(&format!("DO RELEASE_LOCK('{name}')")).await;
        ended.and(released).map(|_| ())
    }
}

/// Raises the timeouts of the transaction: waiting for the lock, and altering a large table, take longer than other
/// work. A table that is locked for longer is not altered, since a waiting ALTER blocks all others. Returns whether the
/// lock was free in time.
async fn get_lock_on_postgres(session: &DatabaseTransaction, seconds: u32) -> Result<bool, StoreError> {
    let prepare = format!("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{seconds}s'");
    session.execute_unprepared(&prepare).await.while_doing(LOCKING)?;
    let lock = format!("SELECT pg_advisory_xact_lock({LOCK_NUMBER})");
    match session.execute_unprepared(&lock).await.while_doing(LOCKING) {
        Err(error) if error.class() == ErrorClass::LockTimeout => return Ok(false),
        locked => locked?,
    };
    session.execute_unprepared("SET LOCAL lock_timeout = '30s'").await.while_doing(LOCKING)?;
    Ok(true)
}

/// Returns the name of the lock if it was free in time.
async fn get_lock(session: &DatabaseTransaction, seconds: u32) -> Result<Option<String>, StoreError> {
    let database: Option<String> = first_value(session, "SELECT DATABASE()").await?;
    let name = lock_name(&database.unwrap_or_default());
    let sql = format!("SELECT CAST(GET_LOCK('{name}', {seconds}) AS SIGNED)");
    let answer: Option<i64> = first_value(session, &sql).await?;
    Ok((answer == Some(1)).then_some(name))
}

async fn first_value<T: TryGetable>(
    session: &DatabaseTransaction,
    sql: &str,
) -> Result<Option<T>, StoreError> {
    let query = Statement::from_string(session.get_database_backend(), sql);
    let answer = async {
        let row = session.query_one_raw(query).await?;
        row.map(|row| row.try_get_by_index::<Option<T>>(0)).transpose()
    };
    Ok(answer.await.while_doing(LOCKING)?.flatten())
}

/// The lock names of a server are shared by its databases, and hold 64 characters. Older gateways let the server
/// compute the same name; newer servers cannot.
fn lock_name(database: &str) -> String {
    format!("mqtt_gateway_migrate:{}", hex(&Md5::digest(database)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_has_the_name_that_older_gateways_use() {
        assert_eq!(lock_name("gateway"), "mqtt_gateway_migrate:3e21ab62fb17400301d9f0156b6c3031");
    }
}
