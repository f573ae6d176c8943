//! Brings the schema up to date, one gateway at a time.
//!
//! ```text
//! pin a connection ─▶ take the lock ─▶ add what is missing ─▶ give the lock back ─▶ no broker? the same for a first row
//! ```
//! Nothing is changed that is there. All of it is safe to repeat, so a run that broke off needs no
//! repair: the next one goes on.

use std::fmt;

use mqtt_gateway_entity::mqtt_servers;
use mqtt_gateway_migration::{MigrationName, MigrationTrait, SchemaManager, Step, steps};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, QuerySelect, Statement,
};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{Fault, StoreError, While};

/// How long to wait for another gateway that migrates, seconds.
const LOCK_TIMEOUT_S: u32 = 60;

/// Named after the database, by its hash: a server has one set of names for all its databases, and
/// a name holds 64 characters.
const LOCK_NAME: &str = "CONCAT('mqtt_gateway_migrate:', MD5(DATABASE()))";

/// The same on `PostgreSQL`, where each database has numbers of its own: "mqtt-gw" in ASCII.
const LOCK_NUMBER: i64 = 0x006d_7174_742d_6777;

/// What an empty `mqtt_servers` begins with. The condition is in the statement so that two that
/// insert at once, one of them without our lock, leave as small a gap as can be.
const INSERT_DEFAULT_SERVER: &str = "INSERT INTO mqtt_servers (host, port, enabled, is_default) \
     SELECT '127.0.0.1', 1883, TRUE, TRUE FROM (SELECT COUNT(*) AS servers FROM mqtt_servers) AS present \
     WHERE present.servers = 0";

const DEFAULT_SERVER: &str = "broker 127.0.0.1:1883";

/// What a migration has added, or would add, in words. Empty: the schema is complete.
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

/// Adds what the schema lacks, and a first broker where there is none. Any number of gateways may do
/// this at once; needs no right to change tables where nothing is missing.
pub async fn migrate(database: &Database) -> Result<MigrationReport, StoreError> {
    let turn = Turn::take(database).await?;
    let outcome = add_what_is_missing(&turn.session, database.dialect).await;
    let mut report = turn.end(outcome).await?;
    // INSERT is needed only while there is no row, because some users lack the right.
    if !has_a_server(&database.connection).await? && insert_default_server(database).await? {
        report.added.push(DEFAULT_SERVER.to_owned());
    }
    Ok(report)
}

/// What [`migrate`] would add now. Changes nothing.
pub async fn plan(database: &Database) -> Result<MigrationReport, StoreError> {
    const DOING: &str = "comparing the schema";
    let manager = SchemaManager::new(&database.connection);
    let mut report = MigrationReport::default();
    for step in missing_steps(&manager, database.dialect).await.while_doing(DOING)? {
        report.added.push(step.name().to_owned());
    }
    let has_table = manager.has_table("mqtt_servers").await.while_doing(DOING)?;
    if !has_table || !has_a_server(&database.connection).await? {
        report.added.push(DEFAULT_SERVER.to_owned());
    }
    Ok(report)
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

async fn add_what_is_missing(
    session: &DatabaseTransaction,
    dialect: Dialect,
) -> Result<MigrationReport, StoreError> {
    let manager = SchemaManager::new(session);
    let mut report = MigrationReport::default();
    for step in steps(dialect.backend()) {
        if step.is_missing(&manager).await.while_doing("comparing the schema")? {
            step.up(&manager).await.while_doing("adding to the schema")?;
            report.added.push(step.name().to_owned());
        }
    }
    Ok(report)
}

/// Answers whether it did: another gateway may have been faster.
async fn insert_default_server(database: &Database) -> Result<bool, StoreError> {
    let turn = Turn::take(database).await?;
    let inserted = turn.session.execute_unprepared(INSERT_DEFAULT_SERVER).await;
    let inserted = inserted.while_doing("inserting the default broker");
    turn.end(inserted.map(|inserted| inserted.rows_affected() > 0)).await
}

async fn has_a_server(connection: &impl ConnectionTrait) -> Result<bool, StoreError> {
    let servers =
        mqtt_servers::Entity::find().select_only().column(mqtt_servers::Column::Id).count(connection).await;
    Ok(servers.while_doing("looking for a broker")? > 0)
}

/// The sole right to change the schema, held by one connection.
///
/// A `MySQL` lock belongs to a session and outlives the transactions that DDL commits on its own, so
/// everything has to go through `session`; should this be dropped half-way, the lock goes with
/// the connection, which the pool or the server closes when it is idle. On `PostgreSQL` and `SQLite` the
/// whole migration is one transaction, to which the lock belongs or which is the lock.
pub(super) struct Turn {
    pub(super) session: DatabaseTransaction,
    dialect: Dialect,
}

impl Turn {
    pub(super) async fn take(database: &Database) -> Result<Self, StoreError> {
        let turn = Self { session: database.begin().await?, dialect: database.dialect };
        let has_turn = match turn.dialect {
            Dialect::MySql => turn.get_lock().await?,
            Dialect::Postgres => turn.get_lock_on_postgres().await?,
            Dialect::Sqlite => true,
        };
        if has_turn { Ok(turn) } else { Err(StoreError::MigrationBusy { seconds: LOCK_TIMEOUT_S }) }
    }

    /// To wait for the lock, and to alter a large table, takes longer than what a session of ours is
    /// otherwise given. A table that somebody reads for longer is left alone: who waits for it is in the way
    /// of all others. All of it ends with the transaction.
    async fn get_lock_on_postgres(&self) -> Result<bool, StoreError> {
        const DOING: &str = "taking the migration lock";
        let prepare =
            format!("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'");
        self.session.execute_unprepared(&prepare).await.while_doing(DOING)?;
        let lock = format!("SELECT pg_advisory_xact_lock({LOCK_NUMBER})");
        match self.session.execute_unprepared(&lock).await.while_doing(DOING) {
            Err(error) if error.fault() == Fault::LockTimeout => return Ok(false),
            locked => locked?,
        };
        self.session.execute_unprepared("SET LOCAL lock_timeout = '30s'").await.while_doing(DOING)?;
        Ok(true)
    }

    async fn get_lock(&self) -> Result<bool, StoreError> {
        let sql = format!("SELECT CAST(GET_LOCK({LOCK_NAME}, {LOCK_TIMEOUT_S}) AS SIGNED)");
        let query = Statement::from_string(self.dialect.backend(), sql);
        let answer = async {
            let row = self.session.query_one_raw(query).await?;
            row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()
        };
        let answer = answer.await.while_doing("taking the migration lock")?;
        Ok(answer.flatten() == Some(1))
    }

    /// Ends the transaction, gives the lock back, and answers with what came of it. In this order: the next
    /// to take the lock has to see what was written.
    pub(super) async fn end<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        const DOING: &str = "ending the migration";
        let released = match self.dialect {
            Dialect::MySql => self.release_lock(outcome.is_ok()).await,
            Dialect::Postgres | Dialect::Sqlite => Ok(()),
        };
        let ended = match outcome {
            Ok(_) => self.session.commit().await,
            Err(_) => self.session.rollback().await,
        };
        let value = outcome?;
        released.and(ended).while_doing(DOING)?;
        Ok(value)
    }

    /// The lock belongs to the session, which is ours only until the driver ends the transaction. So SQL ends it.
    async fn release_lock(&self, commit: bool) -> Result<(), DbErr> {
        let ended = self.session.execute_unprepared(if commit { "COMMIT" } else { "ROLLBACK" }).await;
        let released = self.session.execute_unprepared(&format!("DO RELEASE_LOCK({LOCK_NAME})")).await;
        ended.and(released).map(|_| ())
    }
}
