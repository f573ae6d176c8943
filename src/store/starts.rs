//! Starts of gateways: the table `gateway_starts`, and the identity of the database.
//!
//! A registration holds the row of `database_identity`, so there is one at a time.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;
use sea_orm::{ConnectionTrait, FromQueryResult, Value};

use super::connect::Database;
use super::error::{StoreError, While};
use super::outbox::{LEASE, owner_insertion};
use super::statement::{execute, read};
use crate::domain::batch::Lane;
use crate::domain::identity::{
    InboxDirectory, RegisteredStarts, Registration, Resume, Start, StartDecision, StartState,
};
use crate::domain::message::{FlowId, Offset};

/// Number of starts remembered per inbox. A copy from before counts as unknown to the database.
const MAX_STARTS: i64 = 100;

const DOING: &str = "registering this start";

/// The result of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// This start is the last one of its inbox.
    Counted,
    /// Another process has registered a start of the same inbox in the meantime.
    Superseded {
        /// Where that process is.
        by: String,
    },
    /// The database does not know this start: it was restored.
    Unknown,
}

/// Checks a start against the rows of the database and registers it if it may go on, in one transaction.
pub async fn register(
    database: &Database,
    directory: &InboxDirectory,
    start_id: &str,
    decide: impl FnOnce(&RegisteredStarts) -> StartDecision,
) -> Result<(RegisteredStarts, StartDecision), StoreError> {
    let transaction = database.begin().await?;
    let session = StartsSession { database, connection: &transaction, lock: database.dialect.for_update() };
    let registry = session.registry(directory).await?;
    let decision = decide(&registry);
    if let StartDecision::Register(registration) = &decision {
        session.write(directory, start_id, &registry, registration).await?;
        transaction.commit().await.while_doing(DOING)?;
    } else {
        transaction.rollback().await.while_doing(DOING)?;
    }
    Ok((registry, decision))
}

/// The rows of the database about this directory. Changes and locks nothing.
pub async fn registry(
    database: &Database,
    directory: &InboxDirectory,
) -> Result<RegisteredStarts, StoreError> {
    StartsSession { database, connection: &database.connection, lock: "" }.read(directory).await
}

/// Sends a heartbeat.
pub async fn beat(database: &Database, inbox_id: &str, start_id: &str) -> Result<Beat, StoreError> {
    let session = StartsSession { database, connection: &database.connection, lock: "" };
    let sql = format!(
        "UPDATE gateway_starts SET beats = beats + 1, seen_at = {} \
         WHERE inbox_id = ? AND start_id = ? AND resume_at IS NULL",
        database.dialect.now()
    );
    if session.execute(&sql, [inbox_id.into(), start_id.into()]).await? > 0 {
        return Ok(Beat::Counted);
    }
    let starts = session.starts("inbox_id = ?", inbox_id.into()).await?;
    if !starts.iter().any(|start| start.start_id == start_id) {
        return Ok(Beat::Unknown);
    }
    let last = starts.into_iter().next();
    Ok(Beat::Superseded { by: last.map(|last| last.location).unwrap_or_default() })
}

/// The last start of an inbox, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastStart {
    /// The inbox.
    pub inbox_id: String,
    /// MQTT client id of the gateway.
    pub client_id: String,
    /// Host, directory and process.
    pub location: String,
    /// Whether it runs, and how it ended.
    pub state: StartState,
    /// Time of the start: microseconds since 1970, UTC.
    pub started_at_us: i64,
    /// Time since its last heartbeat. Negative if the clock was set back.
    pub silent_for_us: i64,
}

#[derive(FromQueryResult)]
struct LastStartRow {
    inbox_id: String,
    client_id: String,
    location: String,
    state: String,
    started_at: NaiveDateTime,
    seen_in_us: i64,
}

/// The last start of each inbox.
pub async fn last_starts(database: &Database) -> Result<Vec<LastStart>, StoreError> {
    let session = StartsSession { database, connection: &database.connection, lock: "" };
    let sql = format!(
        "SELECT inbox_id, client_id, location, state, started_at, {} AS seen_in_us FROM gateway_starts \
         WHERE resume_at IS NULL ORDER BY client_id, inbox_id",
        database.dialect.micros_until("seen_at")
    );
    let rows: Vec<LastStartRow> = session.rows(&sql, []).await?;
    let start = |row: LastStartRow| LastStart {
        state: StartState::parse(&row.state),
        started_at_us: row.started_at.and_utc().timestamp_micros(),
        silent_for_us: row.seen_in_us.saturating_neg(),
        inbox_id: row.inbox_id,
        client_id: row.client_id,
        location: row.location,
    };
    Ok(rows.into_iter().map(start).collect())
}

/// Committed offset of each lane of an inbox, and the lowest offset of its lagging flows.
pub async fn lane_offsets(
    database: &Database,
    inbox_id: &str,
) -> Result<BTreeMap<Lane, (Offset, Option<Offset>)>, StoreError> {
    let session = StartsSession { database, connection: &database.connection, lock: "" };
    let lanes = session.lanes(inbox_id).await?;
    let lagging = session.lagging(inbox_id).await?;
    let lowest = |lane| lagging.iter().filter(|(of, ..)| *of == lane).map(|(.., at)| *at).min();
    Ok(lanes.into_iter().map(|(lane, at)| (lane, (at, lowest(lane)))).collect())
}

/// Records that the start ended in order, and how.
pub async fn note_end(
    database: &Database,
    inbox_id: &str,
    start_id: &str,
    state: StartState,
) -> Result<(), StoreError> {
    let session = StartsSession { database, connection: &database.connection, lock: "" };
    let sql = "UPDATE gateway_starts SET state = ? WHERE inbox_id = ? AND start_id = ?";
    session.execute(sql, [state.as_str().into(), inbox_id.into(), start_id.into()]).await?;
    Ok(())
}

/// Deletes all starts of an inbox that is gone for good.
pub async fn forget_inbox(database: &Database, inbox_id: &str) -> Result<(), StoreError> {
    let session = StartsSession { database, connection: &database.connection, lock: "" };
    session.execute("DELETE FROM gateway_starts WHERE inbox_id = ?", [inbox_id.into()]).await?;
    Ok(())
}

/// A connection, and whether its reads lock rows.
struct StartsSession<'a, C> {
    database: &'a Database,
    connection: &'a C,
    lock: &'static str,
}

#[derive(FromQueryResult)]
struct StartRow {
    inbox_id: String,
    start_id: String,
    generation: i64,
    location: String,
    place: String,
    parent_id: Option<String>,
    base: i64,
    log_end: i64,
    state: String,
    beats: i64,
    resume_at: Option<String>,
}

#[derive(FromQueryResult)]
struct LaneRow {
    lane: i32,
    next_offset: i64,
}

#[derive(FromQueryResult)]
struct LaggingRow {
    lane: i32,
    flow_id: i64,
    next_offset: i64,
}

#[derive(FromQueryResult)]
struct IdentityRow {
    database_id: String,
}

impl From<StartRow> for Start {
    fn from(row: StartRow) -> Self {
        Self {
            inbox_id: row.inbox_id,
            start_id: row.start_id,
            generation: row.generation,
            location: row.location,
            place: row.place,
            parent: row.parent_id,
            base: row.base.cast_unsigned(),
            log_end: row.log_end.cast_unsigned(),
            state: StartState::parse(&row.state),
            beats: row.beats,
            resume: row.resume_at.and_then(|text| serde_json::from_str(&text).ok()),
        }
    }
}

impl<C: ConnectionTrait> StartsSession<'_, C> {
    /// As [`Self::read`]; gives the database an identity if it has none.
    async fn registry(&self, directory: &InboxDirectory) -> Result<RegisteredStarts, StoreError> {
        let insert =
            self.database.dialect.insert_unless_there("database_identity (id, database_id)", "VALUES (1, ?)");
        let new = format!("{:032x}", rand::random::<u128>());
        self.execute(&insert, [new.into()]).await?;
        self.read(directory).await
    }

    async fn read(&self, directory: &InboxDirectory) -> Result<RegisteredStarts, StoreError> {
        let sql = format!("SELECT database_id FROM database_identity WHERE id = 1 {}", self.lock);
        let identity: Vec<IdentityRow> = self.rows(&sql, []).await?;
        let (inbox, client) = (directory.inbox_id.as_str(), directory.client_id.as_str());
        let last_of_others = "resume_at IS NULL AND client_id = ?";
        let mut others = self.starts(last_of_others, client.into()).await?;
        others.retain(|other| other.inbox_id != inbox);
        Ok(RegisteredStarts {
            database_id: identity.into_iter().next().map(|row| row.database_id).unwrap_or_default(),
            starts: self.starts("inbox_id = ?", inbox.into()).await?,
            lanes: self.lanes(inbox).await?,
            others,
        })
    }

    /// The last one first.
    async fn starts(&self, which: &str, value: Value) -> Result<Vec<Start>, StoreError> {
        let sql = format!(
            "SELECT inbox_id, start_id, generation, location, place, parent_id, base, log_end, state, beats, resume_at \
             FROM gateway_starts WHERE {which} ORDER BY generation DESC"
        );
        let rows: Vec<StartRow> = self.rows(&sql, [value]).await?;
        Ok(rows.into_iter().map(Start::from).collect())
    }

    async fn lanes(&self, inbox_id: &str) -> Result<BTreeMap<Lane, Offset>, StoreError> {
        let sql = format!(
            "SELECT lane, next_offset FROM inbox_offsets WHERE inbox_id = ? ORDER BY lane {}",
            self.lock
        );
        let rows: Vec<LaneRow> = self.rows(&sql, [inbox_id.into()]).await?;
        let lane = |row: LaneRow| Some((Lane::try_from(row.lane).ok()?, row.next_offset.cast_unsigned()));
        Ok(rows.into_iter().filter_map(lane).collect())
    }

    /// Lane, flow and offset of each lagging flow.
    async fn lagging(&self, inbox_id: &str) -> Result<Vec<(Lane, FlowId, Offset)>, StoreError> {
        let sql = "SELECT lane, flow_id, next_offset FROM inbox_lagging WHERE inbox_id = ?";
        let rows: Vec<LaggingRow> = self.rows(sql, [inbox_id.into()]).await?;
        let lagging = |row: LaggingRow| {
            Some((Lane::try_from(row.lane).ok()?, row.flow_id, row.next_offset.cast_unsigned()))
        };
        Ok(rows.into_iter().filter_map(lagging).collect())
    }

    async fn write(
        &self,
        directory: &InboxDirectory,
        start_id: &str,
        registry: &RegisteredStarts,
        registration: &Registration,
    ) -> Result<(), StoreError> {
        let inbox = directory.inbox_id.as_str();
        self.succeed(directory, registry).await?;
        for (&lane, &offset) in &registration.lanes {
            self.set_lane(inbox, lane, offset).await?;
        }
        if let Some(lagging) = &registration.lagging {
            self.execute("DELETE FROM inbox_lagging WHERE inbox_id = ?", [inbox.into()]).await?;
            for (lane, lagging) in lagging {
                let sql = format!(
                    "INSERT INTO inbox_lagging (inbox_id, lane, flow_id, next_offset, since) VALUES (?, ?, ?, ?, {})",
                    self.database.dialect.now()
                );
                let at = lagging.next_offset.cast_signed();
                self.execute(&sql, [inbox.into(), (*lane).into(), lagging.flow.into(), at.into()]).await?;
            }
        }
        for other in &registry.others {
            self.execute("DELETE FROM gateway_starts WHERE inbox_id = ?", [other.inbox_id.as_str().into()])
                .await?;
        }
        let generation = registry.starts.first().map_or(1, |last| last.generation + 1);
        self.insert(directory, start_id, generation, registration.base).await?;
        let sql = "DELETE FROM gateway_starts WHERE inbox_id = ? AND generation <= ?";
        self.execute(sql, [inbox.into(), (generation - MAX_STARTS).into()]).await?;
        Ok(())
    }

    /// Records the position of the last start, in case that its directory returns.
    async fn succeed(
        &self,
        directory: &InboxDirectory,
        registry: &RegisteredStarts,
    ) -> Result<(), StoreError> {
        let inbox = directory.inbox_id.as_str();
        let resume = Resume { lanes: registry.lanes.clone(), lagging: self.lagging(inbox).await? };
        let resume = serde_json::json!(resume).to_string();
        let sql = "UPDATE gateway_starts SET resume_at = ? WHERE inbox_id = ? AND resume_at IS NULL";
        self.execute(sql, [resume.into(), inbox.into()]).await?;
        Ok(())
    }

    /// In a new epoch, which fences off any worker of the lane.
    async fn set_lane(&self, inbox: &str, lane: Lane, offset: Offset) -> Result<(), StoreError> {
        let insert = self
            .database
            .dialect
            .insert_unless_there("inbox_offsets (inbox_id, lane, epoch, next_offset)", "VALUES (?, ?, 0, 0)");
        self.execute(&insert, [inbox.into(), lane.into()]).await?;
        let sql =
            "UPDATE inbox_offsets SET epoch = epoch + 1, next_offset = ? WHERE inbox_id = ? AND lane = ?";
        self.execute(sql, [offset.cast_signed().into(), inbox.into(), lane.into()]).await?;
        Ok(())
    }

    async fn insert(
        &self,
        directory: &InboxDirectory,
        start_id: &str,
        generation: i64,
        base: Offset,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO gateway_starts (inbox_id, start_id, generation, client_id, location, place, parent_id, base, \
             log_end, state, beats, started_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, {now}, {now})",
            now = self.database.dialect.now()
        );
        let client_id: String = directory.client_id.chars().take(255).collect();
        let values = [
            directory.inbox_id.as_str().into(),
            start_id.into(),
            generation.into(),
            client_id.into(),
            directory.location.as_str().into(),
            directory.place.as_str().into(),
            directory.start_id.clone().into(),
            base.cast_signed().into(),
            directory.log_end.cast_signed().into(),
            StartState::Running.as_str().into(),
        ];
        self.execute(&sql, values).await?;
        // Its workers may number posts before its delivery takes the lease.
        let owner = owner_insertion(self.database.dialect, directory.inbox_id.as_str(), LEASE);
        self.connection.execute_raw(owner).await.map(|_| ()).while_doing(DOING)
    }

    async fn rows<R: FromQueryResult>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<R>, StoreError> {
        read(self.connection, DOING, sql, values, |row| R::from_query_result(row, "")).await
    }

    async fn execute(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<u64, StoreError> {
        execute(self.connection, DOING, sql, values).await
    }
}
