//! Finds the holders of rows that lanes wait for.
//!
//! A database shows only locks that a session waits for. A lane does not wait for the row of a deferred flow, so a
//! connection of its own waits for it meanwhile, for a second at most.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use sea_orm::prelude::DateTime;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Value};
use tokio::time::sleep;

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::statement::{marks, read, statement};
use crate::domain::lock_holders::{HeldLock, LockHolder, LockReading, LockedThing};
use crate::domain::message::FlowId;
use crate::domain::row_waits::RowWait;
use crate::settings::DatabaseSettings;

/// Maximum deferred flows whose holders are looked for at a time.
const MAX_PROBES: u32 = 4;

/// Time for which such a row is waited for.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Queries of the locks at a time, until all waits are explained.
const MAX_QUERIES: usize = 8;

/// Time between two of them.
const QUERY_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum flows whose codes are read.
const MAX_CODES: usize = 64;

const DOING: &str = "reading who holds the locks";

/// Reads the locks of a database.
#[derive(Debug)]
pub struct LockReader {
    database: Database,
}

impl LockReader {
    /// Connects. `None` for `SQLite`, which has no view of locks.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Option<Self>, StoreError> {
        if let DatabaseSettings::Sqlite { .. } = settings {
            return Ok(None);
        }
        let database = Database::connect_with(settings, 1 + MAX_PROBES, PROBE_WAIT).await?;
        Ok(Some(Self { database }))
    }

    /// Finds the holders of the rows of `waits`.
    pub async fn read(&self, waits: &[RowWait]) -> Result<LockReading, StoreError> {
        let codes = self.codes(waits).await?;
        let deferred = waits.iter().filter(|wait| wait.is_deferred);
        let flows = deferred.flat_map(|wait| wait.flows.iter().copied()).take(MAX_PROBES as usize);
        let probes = join_all(flows.map(|flow| self.wait_for(flow)));
        let finding = self.find(waits, codes);
        tokio::pin!(finding);
        tokio::select! {
            found = &mut finding => return found,
            _ = probes => {}
        }
        finding.await
    }

    /// Waits for the row of a flow, and leaves it as it is. Its failure is the expected outcome.
    async fn wait_for(&self, flow: FlowId) -> Result<(), StoreError> {
        let dialect = self.database.dialect;
        let sql = format!("SELECT id FROM flows WHERE id = ? {}", dialect.for_update());
        let transaction = self.database.begin().await?;
        transaction
            .query_one_raw(statement(dialect.backend(), sql, [flow.into()]))
            .await
            .while_doing(DOING)?;
        transaction.rollback().await.while_doing(DOING)
    }

    async fn find(
        &self,
        waits: &[RowWait],
        codes: BTreeMap<FlowId, String>,
    ) -> Result<LockReading, StoreError> {
        let sql = match self.database.dialect {
            Dialect::Postgres => POSTGRES,
            Dialect::MySql | Dialect::Sqlite if self.is_mariadb().await? => MARIADB,
            Dialect::MySql | Dialect::Sqlite => MYSQL,
        };
        let mut reading = LockReading { codes, ..LockReading::default() };
        for attempt in 1.. {
            match self.held(sql).await {
                Ok(held) => reading.held = held,
                Err(error) if error.is_denied() => {
                    reading.unknown = Some(self.missing_right(sql).await?);
                    break;
                }
                Err(error) => return Err(error),
            }
            let is_explained = |wait: &RowWait| reading.explain(wait).1.is_some();
            if attempt == MAX_QUERIES || waits.iter().all(is_explained) {
                break;
            }
            sleep(QUERY_INTERVAL).await;
        }
        Ok(reading)
    }

    async fn held(&self, sql: &str) -> Result<Vec<HeldLock>, StoreError> {
        let dialect = self.database.dialect;
        read(&self.database.connection, DOING, sql, [], |row| held_lock(row, dialect)).await
    }

    async fn codes(&self, waits: &[RowWait]) -> Result<BTreeMap<FlowId, String>, StoreError> {
        let flows = waits.iter().flat_map(|wait| wait.flows.iter().copied());
        let flows: Vec<Value> = flows.take(MAX_CODES).map(Value::from).collect();
        if flows.is_empty() {
            return Ok(BTreeMap::new());
        }
        let id = self.database.dialect.integer("id");
        let sql = format!("SELECT {id} AS id, code FROM flows WHERE id IN ({})", marks(flows.len()));
        let code = |row: &QueryResult| Ok((row.try_get("", "id")?, row.try_get("", "code")?));
        let codes = read(&self.database.connection, DOING, sql, flows, code).await?;
        Ok(codes.into_iter().collect())
    }

    async fn is_mariadb(&self) -> Result<bool, StoreError> {
        Ok(self.text("SELECT VERSION()").await?.to_lowercase().contains("mariadb"))
    }

    /// The remedy of a denied query.
    async fn missing_right(&self, sql: &str) -> Result<String, StoreError> {
        let user = self.text("SELECT CURRENT_USER").await?;
        let user = user.rsplit_once('@').map_or(user.clone(), |(name, host)| format!("'{name}'@'{host}'"));
        let right = if sql == MARIADB { "PROCESS ON *.*" } else { "SELECT ON performance_schema.*" };
        Ok(format!(
            "the user of the gateway may not see who holds it; an administrator can permit it: \
             GRANT {right} TO {user}"
        ))
    }

    async fn text(&self, sql: &str) -> Result<String, StoreError> {
        let query = statement(self.database.dialect.backend(), sql, []);
        let row = self.database.connection.query_one_raw(query).await.while_doing(DOING)?;
        row.map_or(Ok(String::new()), |row| row.try_get_by_index(0)).while_doing(DOING)
    }
}

const MARIADB: &str = "SELECT l.lock_table AS table_name, l.lock_data AS row_key, \
     CAST(r.trx_mysql_thread_id AS SIGNED) AS waiter, CAST(b.trx_mysql_thread_id AS SIGNED) AS holder, \
     p.user AS holder_user, p.host AS client, b.trx_started AS began \
     FROM information_schema.innodb_lock_waits AS w \
     JOIN information_schema.innodb_locks AS l ON l.lock_id = w.requested_lock_id \
     JOIN information_schema.innodb_trx AS r ON r.trx_id = w.requesting_trx_id \
     JOIN information_schema.innodb_trx AS b ON b.trx_id = w.blocking_trx_id \
     LEFT JOIN information_schema.processlist AS p ON p.id = b.trx_mysql_thread_id";

/// `MySQL` 8 has moved the locks. The beginning of the transaction would need another right.
const MYSQL: &str = "SELECT l.OBJECT_NAME AS table_name, l.LOCK_DATA AS row_key, \
     CAST(r.PROCESSLIST_ID AS SIGNED) AS waiter, CAST(COALESCE(b.PROCESSLIST_ID, 0) AS SIGNED) AS holder, \
     b.PROCESSLIST_USER AS holder_user, b.PROCESSLIST_HOST AS client, CAST(NULL AS DATETIME) AS began \
     FROM performance_schema.data_lock_waits AS w \
     JOIN performance_schema.data_locks AS l \
     ON l.ENGINE = w.ENGINE AND l.ENGINE_LOCK_ID = w.REQUESTING_ENGINE_LOCK_ID \
     JOIN performance_schema.threads AS r ON r.THREAD_ID = w.REQUESTING_THREAD_ID \
     LEFT JOIN performance_schema.threads AS b ON b.THREAD_ID = w.BLOCKING_THREAD_ID";

/// A session that waits for a row holds, or waits for, a lock of its place. All users may see this; only the address
/// and the times of others need a right.
const POSTGRES: &str = "SELECT CAST(COALESCE(t.relation, w.relation)::regclass AS TEXT) AS table_name, \
     CAST(f.id AS TEXT) AS row_key, CAST(w.pid AS BIGINT) AS waiter, CAST(holding.holding AS BIGINT) AS holder, \
     CAST(a.usename AS TEXT) AS holder_user, \
     NULLIF(concat_ws(' at ', NULLIF(a.application_name, ''), host(a.client_addr)), '') AS client, \
     (a.xact_start AT TIME ZONE 'UTC') AS began \
     FROM pg_locks AS w \
     JOIN pg_stat_activity AS s ON s.pid = w.pid AND s.datname = current_database() \
     CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS holding \
     LEFT JOIN pg_stat_activity AS a ON a.pid = holding.holding \
     LEFT JOIN pg_locks AS t ON t.pid = w.pid AND t.locktype = 'tuple' \
     LEFT JOIN flows AS f ON t.relation = 'flows'::regclass \
     AND f.ctid = CAST(format('(%s,%s)', t.page, t.tuple) AS tid) \
     WHERE NOT w.granted AND COALESCE(t.relation, w.relation) IS NOT NULL";

fn held_lock(row: &QueryResult, dialect: Dialect) -> Result<HeldLock, DbErr> {
    let (table, key): (String, Option<String>) =
        (row.try_get("", "table_name")?, row.try_get("", "row_key")?);
    let connection: i64 = row.try_get("", "holder")?;
    let began: Option<DateTime> = row.try_get("", "began")?;
    Ok(HeldLock {
        thing: locked_thing(&table, key.as_deref()),
        waiter: row.try_get("", "waiter")?,
        holder: LockHolder {
            connection,
            user: row.try_get("", "holder_user")?,
            client: row.try_get("", "client")?,
            since_us: began.map(|began| began.and_utc().timestamp_micros()),
            ended_by: ended_by(connection, dialect),
        },
    })
}

/// A table may be written with its schema, and in quotes.
fn locked_thing(table: &str, key: Option<&str>) -> LockedThing {
    let table = table.rsplit('.').next().unwrap_or(table).trim_matches(['`', '"']);
    match key.and_then(|key| key.trim().parse().ok()) {
        Some(flow) if table == "flows" => LockedThing::Flow(flow),
        _ => LockedThing::Table(table.to_owned()),
    }
}

fn ended_by(connection: i64, dialect: Dialect) -> String {
    match (dialect, connection) {
        (Dialect::Postgres, 0) => "ROLLBACK PREPARED, with the name from pg_prepared_xacts".to_owned(),
        (Dialect::Postgres, connection) => format!("SELECT pg_terminate_backend({connection})"),
        (_, 0) => "XA ROLLBACK, with the name from XA RECOVER".to_owned(),
        (_, connection) => format!("KILL {connection}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_named_by_table_and_key() {
        let table = |name: &str| LockedThing::Table(name.to_owned());
        assert_eq!(locked_thing("`my`.`flows`", Some("7")), LockedThing::Flow(7));
        assert_eq!(locked_thing("public.flows", None), table("flows"));
        assert_eq!(locked_thing("\"flows\"", Some("supremum pseudo-record")), table("flows"));
        assert_eq!(locked_thing("`my`.`inbox_offsets`", Some("'a', 0")), table("inbox_offsets"));
    }
}
