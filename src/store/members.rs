//! The gateways that divide flows or messages among themselves: the report of each, and the reports of the others.
//!
//! As with the leases of the outbox, a row holds the time of the last report, and all times come from the database.

use chrono::NaiveDateTime;
use mqtt_gateway_entity::gateway_members::{Column, Entity};
use sea_orm::sea_query::{Expr, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, Value,
};

use super::clock::database_time;
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use crate::domain::replicas::{MAX_SHARED_NAME_CHARS, Member, Role, Shard, ShareGroup};

/// Where times have milliseconds, two times within one are indistinguishable: the later one counts as this much later.
const CLOCK_STEP_US: i64 = 1_000;

/// A span of the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Not after the beginning, microseconds since 1970.
    pub from_us: i64,
    /// Not before the end.
    pub until_us: i64,
}

/// Does something and returns its time span, by the database's clock.
pub async fn timed<T>(
    database: &Database,
    what: impl Future<Output = Result<T, StoreError>>,
) -> Result<(T, Span), StoreError> {
    let from_us = database_time(database).await?;
    let done = what.await?;
    let until_us = database_time(database).await? + CLOCK_STEP_US;
    Ok((done, Span { from_us, until_us }))
}

/// Replaces the report of a gateway. The time since its last report is irrelevant.
pub async fn announce(database: &Database, member: &Member) -> Result<(), StoreError> {
    const DOING: &str = "announcing this gateway to the others";
    let on = &database.connection;
    let columns = columns_of(database.dialect, member);
    let mut update = Entity::update_many().filter(Column::InboxId.eq(member.inbox_id.as_str()));
    for (column, value) in columns.clone() {
        update = update.col_expr(column, value);
    }
    if update.exec(on).await.while_doing(DOING)?.rows_affected > 0 {
        return Ok(());
    }
    // The gateway is new. With another inbox its name may have been used before.
    let predecessor = Entity::delete_many()
        .filter(Column::ClientId.eq(shortened(&member.client_id)))
        .filter(Column::InboxId.ne(member.inbox_id.as_str()));
    predecessor.exec(on).await.while_doing(DOING)?;
    let (mut names, mut values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    names.push(Column::InboxId);
    values.push(Expr::val(member.inbox_id.as_str()));
    let mut insert = Query::insert();
    insert.into_table(Entity).columns(names);
    insert.values(values).map_err(|error| DbErr::Custom(error.to_string())).while_doing(DOING)?;
    on.execute(&insert).await.while_doing(DOING)?;
    Ok(())
}

fn columns_of(dialect: Dialect, member: &Member) -> Vec<(Column, SimpleExpr)> {
    let moment = |at_us: Option<i64>| match at_us {
        Some(at_us) => Expr::val(dialect.instant(at_us)),
        None => Expr::cust("NULL"),
    };
    let (group, shard) = match &member.role {
        Role::InGroup(group) => (Some(group.as_str().to_owned()), None),
        Role::Shard(shard) => (None, Some(*shard)),
        Role::Leaving => (None, None),
    };
    let number =
        |of: fn(&Shard) -> u32| Value::from(shard.as_ref().and_then(|shard| i32::try_from(of(shard)).ok()));
    vec![
        (Column::ClientId, Expr::val(shortened(&member.client_id))),
        (Column::SharedGroup, Expr::val(group)),
        (Column::ShardIndex, Expr::val(number(|shard| shard.index))),
        (Column::ShardCount, Expr::val(number(|shard| shard.count))),
        (Column::SubscribedAt, moment(member.subscribed_at_us)),
        (Column::HandingOverSince, moment(member.handing_over_since_us)),
        (Column::SeenAt, Expr::cust(dialect.now())),
    ]
}

#[derive(Debug, FromQueryResult)]
struct MemberRow {
    inbox_id: String,
    client_id: String,
    shared_group: Option<String>,
    shard_index: Option<i32>,
    shard_count: Option<i32>,
    subscribed_at: Option<NaiveDateTime>,
    handing_over_since: Option<NaiveDateTime>,
    seen_in_us: i64,
}

/// All gateways that have reported and were not retired, dead ones included.
pub async fn members(database: &Database) -> Result<Vec<Member>, StoreError> {
    let seen_in = database.dialect.micros_until("seen_at");
    let rows = Entity::find()
        .select_only()
        .columns([
            Column::InboxId,
            Column::ClientId,
            Column::SharedGroup,
            Column::ShardIndex,
            Column::ShardCount,
            Column::SubscribedAt,
            Column::HandingOverSince,
        ])
        .column_as(Expr::cust(seen_in), "seen_in_us")
        .into_model::<MemberRow>()
        .all(&database.connection)
        .await
        .while_doing("reading the other gateways")?;
    Ok(rows.into_iter().map(member).collect())
}

/// A gateway that is retired for good is no longer a member.
pub async fn remove_member(database: &Database, inbox_id: &str) -> Result<(), StoreError> {
    let remove = Entity::delete_many().filter(Column::InboxId.eq(inbox_id));
    remove.exec(&database.connection).await.while_doing("removing this gateway from the members")?;
    Ok(())
}

fn member(row: MemberRow) -> Member {
    let shard = |index: i32, count: i32| {
        Some(Shard { index: u32::try_from(index).ok()?, count: u32::try_from(count).ok()? })
    };
    let group = row.shared_group.as_deref().and_then(ShareGroup::parse);
    let role = match (group, row.shard_index.zip(row.shard_count)) {
        (Some(group), _) => Role::InGroup(group),
        (None, Some((index, count))) => shard(index, count).map_or(Role::Leaving, Role::Shard),
        (None, None) => Role::Leaving,
    };
    Member {
        inbox_id: row.inbox_id,
        client_id: row.client_id,
        role,
        subscribed_at_us: row.subscribed_at.map(micros),
        handing_over_since_us: row.handing_over_since.map(micros),
        silent_for_us: row.seen_in_us.saturating_neg(),
    }
}

fn micros(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_micros()
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_SHARED_NAME_CHARS).collect()
}
