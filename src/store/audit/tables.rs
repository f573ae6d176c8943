//! The tables beside `data`.

use std::collections::BTreeMap;

use sea_orm::{FromQueryResult, Statement};

use super::{AuditProgress, AuditSnapshot, FactsByFlow, ProgressCallback, StoredLane};
use crate::domain::audit::{Facts, FlowFacts, LaggingFacts, OutboxFacts, OwnerFacts};
use crate::domain::flow::FLOW_ACTION_STORE_DB;
use crate::domain::payload::{Payload, PayloadLimits};
use crate::domain::schema::PayloadSchema;
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};

/// Rows of `dead_letters` per statement: they hold payloads.
const PIECE_ROWS: i64 = 20_000;

#[derive(Debug, FromQueryResult)]
struct AuditFlowRow {
    id: i64,
    code: String,
    action: String,
    payload_schema: Option<String>,
    last_msg_id: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct AuditOutboxRow {
    flow_id: i64,
    waiting: i64,
    oldest_micros: Option<i64>,
    attempts: Option<i64>,
    highest: Option<i64>,
    distinct_ids: i64,
}

#[derive(Debug, FromQueryResult)]
struct AuditOwnerRow {
    owner: String,
    waiting: i64,
    lease_micros: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct AuditDeadLetterRow {
    flow_id: Option<i64>,
    reason: String,
    letters: i64,
    highest: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct AuditLaggingRow {
    inbox_id: String,
    flow_id: i64,
    micros: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct OffsetRow {
    inbox_id: String,
    lane: i32,
    next_offset: i64,
    lagging_from: Option<i64>,
}

impl AuditSnapshot {
    /// The flows, by id.
    pub(super) async fn flows(&self, only: Option<&str>) -> Result<FactsByFlow, StoreError> {
        let of_one = if only.is_some() { " WHERE code = ?" } else { "" };
        let sql = format!(
            "SELECT {} AS id, code, action, {} AS payload_schema, {} AS last_msg_id FROM flows{of_one} ORDER BY id",
            self.dialect.wide("id"),
            self.dialect.json_text("payload_schema"),
            self.dialect.wide("last_msg_id"),
        );
        let rows: Vec<AuditFlowRow> = self.all("reading the flows", &sql, only.map(Into::into)).await?;
        Ok(rows.into_iter().map(|row| (row.id, flow_of(row))).collect())
    }

    /// The lagging flows. Waiting messages of a deleted flow become dead letters.
    pub(super) async fn lagging(&self, flows: &mut FactsByFlow) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT inbox_id, flow_id, {} AS micros FROM inbox_lagging ORDER BY inbox_id, flow_id",
            self.dialect.micros_until("since")
        );
        for row in self.all::<AuditLaggingRow>("reading the flows that lag", &sql, []).await? {
            if let Some(flow) = flows.get_mut(&row.flow_id) {
                let seconds = -row.micros.unwrap_or(0) / 1_000_000;
                flow.lagging.push(LaggingFacts { inbox: row.inbox_id, seconds });
            }
        }
        Ok(())
    }

    /// The waiting posts, and their owners.
    pub(super) async fn outbox(
        &self,
        only: Option<&str>,
        flows: &mut FactsByFlow,
        facts: &mut Facts,
    ) -> Result<(), StoreError> {
        const DOING: &str = "reading the outbox";
        let sql = format!(
            "SELECT flow_id, COUNT(*) AS waiting, {} AS oldest_micros, {} AS attempts, \
             MAX(message_id) AS highest, COUNT(DISTINCT message_id) AS distinct_ids \
             FROM outbox GROUP BY flow_id",
            self.dialect.micros_until("MIN(created_at)"),
            self.dialect.integer("MAX(attempts)"),
        );
        for row in self.all::<AuditOutboxRow>(DOING, &sql, []).await? {
            let waiting = row.waiting.cast_unsigned();
            match flows.get_mut(&row.flow_id) {
                Some(flow) => flow.outbox = outbox_of(&row),
                None if only.is_some() => {}
                None => _ = facts.strange_posts.insert(row.flow_id, waiting),
            }
        }
        if only.is_some() {
            return Ok(());
        }
        let sql = format!(
            "SELECT o.owner AS owner, o.waiting AS waiting, {} AS lease_micros \
             FROM (SELECT owner, COUNT(*) AS waiting FROM outbox GROUP BY owner) AS o \
             LEFT JOIN outbox_owners AS l ON l.owner = o.owner ORDER BY o.owner",
            self.dialect.micros_until("l.lease_until")
        );
        let owners = self.all::<AuditOwnerRow>(DOING, &sql, []).await?;
        facts.owners = owners.into_iter().map(owner_of).collect();
        Ok(())
    }

    /// The dead letters. The table may be long, so it is read in pieces.
    pub(super) async fn dead_letters(
        &self,
        only: Option<&str>,
        flows: &mut FactsByFlow,
        facts: &mut Facts,
        progress: &mut ProgressCallback<'_>,
    ) -> Result<(), StoreError> {
        const SQL: &str = "SELECT flow_id, reason, COUNT(*) AS letters, MAX(message_id) AS highest \
                           FROM dead_letters WHERE id > ? AND id <= ? GROUP BY flow_id, reason";
        let highest_key = self.highest_key("dead_letters").await?;
        let (mut above, mut rows) = (i64::MIN, 0);
        while let Some((last, count)) = self.piece("dead_letters", above, PIECE_ROWS).await? {
            let found = self.all("reading the dead letters", SQL, [above.into(), last.into()]).await?;
            for letters in found {
                take_letters(letters, only, flows, &mut facts.dead_letters);
            }
            (above, rows) = (last, rows + count);
            progress(AuditProgress { table: "dead_letters", rows, key: last, highest_key });
        }
        Ok(())
    }
}

/// The positions of the lanes of all inboxes.
pub async fn lane_rows(database: &Database) -> Result<Vec<StoredLane>, StoreError> {
    let sql = "SELECT o.inbox_id AS inbox_id, o.lane AS lane, o.next_offset AS next_offset, \
               (SELECT MIN(l.next_offset) FROM inbox_lagging AS l \
                WHERE l.inbox_id = o.inbox_id AND l.lane = o.lane) AS lagging_from \
               FROM inbox_offsets AS o ORDER BY o.inbox_id, o.lane";
    let statement = Statement::from_string(database.dialect.backend(), sql);
    let rows = OffsetRow::find_by_statement(statement).all(&database.connection).await;
    let lane = |row: OffsetRow| StoredLane {
        inbox_id: row.inbox_id,
        lane: row.lane.into(),
        next_offset: row.next_offset.cast_unsigned(),
        lagging_from: row.lagging_from.map(i64::cast_unsigned),
    };
    Ok(rows.while_doing("reading the lanes")?.into_iter().map(lane).collect())
}

fn flow_of(row: AuditFlowRow) -> FlowFacts {
    let stores = row.action == FLOW_ACTION_STORE_DB;
    FlowFacts {
        code: row.code,
        every_number_has_rows: stores && refuses_an_empty_object(&row.payload_schema.unwrap_or_default()),
        action: row.action,
        counter: row.last_msg_id.unwrap_or(0),
        ..FlowFacts::default()
    }
}

/// An empty object takes a number and writes no row.
fn refuses_an_empty_object(schema: &str) -> bool {
    let Ok(empty) = Payload::parse(b"{}", &PayloadLimits::default()) else { return false };
    PayloadSchema::compile(schema).is_ok_and(|schema| schema.validate(&empty).is_err())
}

fn outbox_of(row: &AuditOutboxRow) -> OutboxFacts {
    OutboxFacts {
        waiting: row.waiting.cast_unsigned(),
        oldest_seconds: row.oldest_micros.map(|micros| -micros / 1_000_000),
        attempts: row.attempts.unwrap_or(0),
        highest: row.highest,
        repeated: (row.waiting - row.distinct_ids).cast_unsigned(),
    }
}

fn owner_of(row: AuditOwnerRow) -> OwnerFacts {
    OwnerFacts {
        owner: row.owner,
        waiting: row.waiting.cast_unsigned(),
        lease_seconds: row.lease_micros.map(|micros| micros.div_euclid(1_000_000)),
    }
}

fn take_letters(
    row: AuditDeadLetterRow,
    only: Option<&str>,
    flows: &mut FactsByFlow,
    others: &mut BTreeMap<String, u64>,
) {
    let counts = match row.flow_id.and_then(|id| flows.get_mut(&id)) {
        Some(flow) => {
            flow.highest_dead_letter = flow.highest_dead_letter.max(row.highest);
            &mut flow.dead_letters
        }
        None if only.is_some() => return,
        None => others,
    };
    *counts.entry(row.reason).or_default() += row.letters.cast_unsigned();
}
