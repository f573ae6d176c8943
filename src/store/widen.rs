//! Makes the identifiers of old tables 64 bits wide, on request.

use mqtt_gateway_entity::{data, flows};
use sea_orm::sea_query::{ColumnDef, Expr, TableAlterStatement};
use sea_orm::{ConnectionTrait, DatabaseTransaction, IdenStatic};

use super::columns::{LiveColumn, live_columns, of_data, of_flows};
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::migrate::{MigrationLock, MigrationReport};
use super::statement::statement;

/// Widens `data.id`, `data.last_msg_id` and `flows.last_msg_id` to `BIGINT` where they are narrower.
///
/// The server copies the whole table and blocks all writes meanwhile. For millions of rows that takes minutes, during
/// which messages wait in the inbox. Hence never at start. On `SQLite` every integer is 64 bits wide already.
pub async fn widen_ids(database: &Database) -> Result<MigrationReport, StoreError> {
    if database.dialect == Dialect::Sqlite {
        return Ok(MigrationReport::default());
    }
    let lock = MigrationLock::take(database).await?;
    let outcome = match database.dialect {
        Dialect::Postgres => widen_on_postgres(database, &lock.session).await,
        Dialect::MySql | Dialect::Sqlite => widen(database, &lock.session).await,
    };
    lock.end(outcome).await
}

/// Changes the types only. The sequence of a `SERIAL` ends with the range of its column.
async fn widen_on_postgres(
    database: &Database,
    session: &DatabaseTransaction,
) -> Result<MigrationReport, StoreError> {
    const DOING: &str = "widening identifiers";
    let columns = live_columns(database, session).await.while_doing("reading the schema")?;
    let wanted = [
        ("data", of_data(&columns, data::Column::Id)),
        ("data", of_data(&columns, data::Column::LastMsgId)),
        ("flows", of_flows(&columns, flows::Column::LastMsgId)),
    ];
    let narrow = |table: &str| -> Vec<&LiveColumn> {
        let of_table = wanted.iter().filter(|(of, _)| *of == table).filter_map(|(_, live)| *live);
        of_table.filter(|live| live.max_integer(database.dialect) < i64::MAX).collect()
    };
    let mut report = MigrationReport::default();
    // In the order of the workers, which lock their flow before they insert. The other order ends in a deadlock.
    for table in ["flows", "data"] {
        // All columns of a table in one statement: one copy of it.
        let narrow = narrow(table);
        if narrow.is_empty() {
            continue;
        }
        let changes: Vec<String> =
            narrow.iter().map(|live| format!("ALTER COLUMN {} TYPE BIGINT", live.column_name)).collect();
        let alter = format!("ALTER TABLE {table} {}", changes.join(", "));
        session.execute_unprepared(&alter).await.while_doing(DOING)?;
        report.added.extend(narrow.into_iter().map(name));
    }
    if report.added.iter().any(|added| added.ends_with("data.id")) {
        widen_sequence(database, session).await?;
    }
    report.added.sort();
    Ok(report)
}

/// The sequence of `data.id`, if there is one.
async fn widen_sequence(database: &Database, session: &DatabaseTransaction) -> Result<(), StoreError> {
    const DOING: &str = "widening the sequence of data.id";
    let query = statement(database.dialect.backend(), "SELECT pg_get_serial_sequence('data', 'id')", []);
    let found = async {
        let row = session.query_one_raw(query).await?;
        row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose()
    };
    // The name includes the schema, and quotes where needed.
    if let Some(sequence) = found.await.while_doing(DOING)?.flatten() {
        let alter = format!("ALTER SEQUENCE {sequence} AS BIGINT");
        session.execute_unprepared(&alter).await.while_doing(DOING)?;
    }
    Ok(())
}

async fn widen(database: &Database, session: &DatabaseTransaction) -> Result<MigrationReport, StoreError> {
    const DOING: &str = "widening identifiers";
    let columns = live_columns(database, session).await.while_doing("reading the schema")?;
    let is_narrow = |column: &&LiveColumn| column.max_integer(database.dialect) < i64::MAX;
    let mut report = MigrationReport::default();

    // Both columns of `data` in one statement: one copy of the table instead of two.
    let mut alter_data = TableAlterStatement::new();
    alter_data.table(data::Entity);
    let data_id = of_data(&columns, data::Column::Id).filter(is_narrow);
    if let Some(live) = data_id {
        alter_data.modify_column(wide(data::Column::Id, live).auto_increment());
        report.added.push(name(live));
    }
    let data_number = of_data(&columns, data::Column::LastMsgId).filter(is_narrow);
    if let Some(live) = data_number {
        alter_data.modify_column(wide(data::Column::LastMsgId, live));
        report.added.push(name(live));
    }
    if data_id.or(data_number).is_some() {
        session.execute(&alter_data).await.while_doing(DOING)?;
    }

    if let Some(live) = of_flows(&columns, flows::Column::LastMsgId).filter(is_narrow) {
        let mut alter_flows = TableAlterStatement::new();
        alter_flows.table(flows::Entity).modify_column(wide(flows::Column::LastMsgId, live));
        session.execute(&alter_flows).await.while_doing(DOING)?;
        report.added.push(name(live));
    }
    Ok(report)
}

/// The definition of the column with another width: `MODIFY` resets what is not repeated.
fn wide(column: impl IdenStatic + 'static, live: &LiveColumn) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    definition.big_integer();
    if live.is_nullable {
        definition.null();
    } else {
        definition.not_null();
    }
    if let Some(default) =
        live.default_value.as_deref().filter(|default| !default.eq_ignore_ascii_case("NULL"))
    {
        definition.default(Expr::cust(default.to_owned()));
    }
    if !live.comment.is_empty() {
        definition.comment(live.comment.as_str());
    }
    definition
}

fn name(live: &LiveColumn) -> String {
    format!("64 bits for {}.{}", live.table_name, live.column_name)
}
