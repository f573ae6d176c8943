//! Addresses rows by primary key, by few shapes of statements and at the least cost.
//!
//! `MariaDB` takes three times as long for a list of triples as for a list of offsets per flow: it builds a tree of
//! ranges of three columns for each triple and merges them. So keys are sorted by flow, and flows with about the same
//! number of keys share a condition. Sizes are powers of two, padded by repetition, which keeps the number of
//! statements small.

use std::collections::BTreeMap;

use sea_orm::Value;
use sea_orm::sea_query::Expr;

use super::offset;
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxKey;
use crate::store::dialect::Dialect;
use crate::store::statement::marked;
use crate::store::statement::marks;

/// Rows addressed by one statement. From 1,000 values in a list on `MariaDB` makes a subquery of the
/// list, and may scan the table for it.
const MAX_KEYS: usize = 256;

/// Conditions that match exactly the rows with these keys, each for a separate statement.
pub(super) fn rows_with(dialect: Dialect, keys: &[&OutboxKey]) -> Vec<Expr> {
    match dialect {
        Dialect::MySql => by_flow(keys),
        Dialect::Postgres | Dialect::Sqlite => {
            keys.chunks(MAX_KEYS).map(|keys| by_triple(dialect, keys)).collect()
        }
    }
}

fn by_triple(dialect: Dialect, keys: &[&OutboxKey]) -> Expr {
    let count = keys.len().next_power_of_two();
    let values: Vec<Value> = filled_up(keys, count)
        .flat_map(|key| [(&*key.inbox_id).into(), key.flow_id.into(), offset(key).into()])
        .collect();
    let sql = dialect.outbox_keys(&vec!["(?, ?, ?)"; count].join(", "));
    Expr::cust_with_values(marked(dialect.backend(), sql), values)
}

/// The offsets of one flow in one inbox.
type FlowOffsets<'a> = ((&'a str, FlowId), Vec<i64>);

fn by_flow(keys: &[&OutboxKey]) -> Vec<Expr> {
    let mut offsets: BTreeMap<(&str, FlowId), Vec<i64>> = BTreeMap::new();
    for key in keys {
        offsets.entry((&key.inbox_id, key.flow_id)).or_default().push(offset(key));
    }
    let mut by_size: BTreeMap<usize, Vec<FlowOffsets<'_>>> = BTreeMap::new();
    for (flow, offsets) in offsets {
        for offsets in offsets.chunks(MAX_KEYS) {
            let size = offsets.len().next_power_of_two();
            by_size.entry(size).or_default().push((flow, offsets.to_vec()));
        }
    }
    let statements = by_size
        .iter()
        .flat_map(|(size, groups)| groups.chunks(MAX_KEYS / size).map(|groups| condition(*size, groups)));
    statements.collect()
}

/// A condition on `size` offsets for each of `groups`.
fn condition(size: usize, groups: &[FlowOffsets<'_>]) -> Expr {
    let count = groups.len().next_power_of_two();
    let group = format!("(inbox_id = ? AND flow_id = ? AND inbox_offset IN ({}))", marks(size));
    let mut values: Vec<Value> = Vec::with_capacity(count * (size + 2));
    for ((inbox_id, flow_id), offsets) in filled_up(groups, count) {
        values.extend([(*inbox_id).into(), (*flow_id).into()]);
        values.extend(filled_up(offsets, size).map(|offset| Value::from(*offset)));
    }
    Expr::cust_with_values(format!("({})", vec![group; count].join(" OR ")), values)
}

/// The first `count` items; the last is repeated if there are fewer.
fn filled_up<T>(of: &[T], count: usize) -> impl Iterator<Item = &T> {
    of.iter().chain(of.last().into_iter().cycle()).take(count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use mqtt_gateway_entity::outbox::Entity;
    use sea_orm::{ConnectionTrait, EntityTrait, QueryFilter, QueryTrait};

    use super::*;
    use crate::settings::DatabaseSettings;
    use crate::store::{Database, migrate};

    fn key(flow: FlowId, offset: u64) -> OutboxKey {
        OutboxKey { inbox_id: "a".into(), inbox_offset: offset, flow_id: flow }
    }

    fn statements(dialect: Dialect, keys: &[OutboxKey]) -> Vec<String> {
        let conditions = rows_with(dialect, &keys.iter().collect::<Vec<_>>());
        let deletion = |rows| Entity::delete_many().filter(rows).build(dialect.backend());
        conditions.into_iter().map(|rows| deletion(rows).sql).collect()
    }

    #[tokio::test]
    async fn sqlite_searches_for_keys_and_does_not_scan_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite { path: directory.path().join("gateway.db") };
        let database = Database::connect(&settings, 1).await.unwrap();
        migrate(&database).await.unwrap();
        let keys = [key(1, 1), key(1, 2), key(1, 3)];
        let rows = rows_with(database.dialect, &keys.iter().collect::<Vec<_>>()).remove(0);
        let mut explain = Entity::delete_many().filter(rows).build(database.dialect.backend());
        explain.sql = format!("EXPLAIN QUERY PLAN {}", explain.sql);
        let plan = database.connection.query_all_raw(explain).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(plan.iter().all(|step| step != "SCAN outbox" && step != "SCAN o"), "{plan:?}");
    }

    #[test]
    fn no_keys_are_no_statement() {
        assert!(rows_with(Dialect::Sqlite, &[]).is_empty() && rows_with(Dialect::MySql, &[]).is_empty());
    }

    #[test]
    fn flows_with_about_as_many_rows_share_a_statement_whose_shape_does_not_depend_on_the_numbers() {
        let keys = |of: &[(FlowId, u64)]| -> Vec<OutboxKey> {
            of.iter().flat_map(|(flow, count)| (1..=*count).map(|offset| key(*flow, offset))).collect()
        };
        let some = statements(Dialect::MySql, &keys(&[(1, 3), (2, 4), (3, 3)]));
        let others = statements(Dialect::MySql, &keys(&[(9, 4), (8, 3), (7, 4), (6, 3)]));
        assert_eq!((some.len(), &some), (1, &others));
        assert_eq!(statements(Dialect::MySql, &keys(&[(1, 3), (2, 1)])).len(), 2);
    }

    #[test]
    fn no_statement_has_more_than_so_many_keys() {
        let keys: Vec<_> = (0..1000_u64).map(|number| key(i64::from(number % 3 == 0), number)).collect();
        for dialect in [Dialect::MySql, Dialect::Sqlite] {
            let statements = statements(dialect, &keys);
            assert!(statements.iter().all(|sql| sql.matches('?').count() <= 3 * MAX_KEYS));
        }
    }
}
