//! The progress of the gateway under test, seen from outside: its committed rows.

use mqtt_gateway_entity::{dead_letters, outbox};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, Statement};

use crate::domain::message::FlowId;
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// The stored rows of a flow.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(crate) struct StoredFlow {
    pub(crate) flow_code: String,
    /// Rows of `data`.
    pub(crate) row_count: i64,
    /// Number of different message numbers.
    pub(crate) messages: i64,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
}

/// The beginning of the codes of all flows.
const CODE: &str = "BENCH_";

/// Key of the flow with this index.
pub(crate) fn flow_id(index: u64) -> FlowId {
    FlowId::try_from(index).unwrap_or(FlowId::MAX).saturating_add(1)
}

/// Code of the flow with this index.
pub(crate) fn flow_code(index: u64) -> String {
    format!("{CODE}{index}")
}

/// Index of the flow with this code.
pub(crate) fn flow_index(code: &str) -> Option<u64> {
    code.strip_prefix(CODE)?.parse().ok()
}

/// Reads the counters of some flows by their keys, again and again.
pub(crate) struct CounterQuery {
    query: Statement,
}

impl CounterQuery {
    /// For the flows with these indices.
    pub(crate) fn of(database: &Database, indices: &[u64]) -> Self {
        let places = vec!["?"; indices.len()].join(", ");
        let hint = database.dialect.by_primary_key();
        let sql = format!("SELECT id, last_msg_id FROM flows{hint} WHERE id IN ({places})");
        let ids = indices.iter().map(|index| flow_id(*index).into());
        Self { query: statement(database.dialect.backend(), sql, ids) }
    }

    /// Index and counter of each.
    pub(crate) async fn read(&self, database: &Database) -> Result<Vec<(u64, u64)>, StoreError> {
        const DOING: &str = "reading the counters";
        let rows = database.connection.query_all_raw(self.query.clone()).await.while_doing(DOING)?;
        rows.iter()
            .map(|row| {
                let id: FlowId = row.try_get_by_index(0)?;
                let counter: Option<i64> = row.try_get_by_index(1)?;
                Ok((unsigned(id - 1), unsigned(counter.unwrap_or(0))))
            })
            .collect::<Result<_, sea_orm::DbErr>>()
            .while_doing(DOING)
    }
}

/// Numbered messages, over all flows.
pub(crate) async fn numbered(database: &Database) -> Result<u64, StoreError> {
    let sql = format!("SELECT {} FROM flows", database.dialect.integer("COALESCE(SUM(last_msg_id), 0)"));
    let query = Statement::from_string(database.dialect.backend(), sql);
    Ok(unsigned(database.number(query, "adding up the counters").await?))
}

/// Row counts of all non-empty flows.
pub(crate) async fn stored(database: &Database) -> Result<Vec<StoredFlow>, StoreError> {
    let sql = "SELECT flow_code, COUNT(*) AS row_count, COUNT(DISTINCT last_msg_id) AS messages, \
               MIN(last_msg_id) AS first_id, MAX(last_msg_id) AS last_id FROM data GROUP BY flow_code";
    let query = Statement::from_string(database.dialect.backend(), sql);
    StoredFlow::find_by_statement(query)
        .all(&database.connection)
        .await
        .while_doing("counting what is stored")
}

/// Messages in the outbox.
pub(crate) async fn waiting_in_outbox(database: &Database) -> Result<u64, StoreError> {
    outbox::Entity::find().count(&database.connection).await.while_doing("counting the outbox")
}

/// Rejected messages.
pub(crate) async fn refused(database: &Database) -> Result<u64, StoreError> {
    dead_letters::Entity::find().count(&database.connection).await.while_doing("counting the dead letters")
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
