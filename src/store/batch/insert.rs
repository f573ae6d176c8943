//! Inserts many rows by few statement shapes.
//!
//! The driver caches prepared statements by their text. A statement for every possible number of rows would evict the
//! others at each batch, so rows are written in chunks of a few sizes.

use sea_orm::{ConnectionTrait, Value};

use super::BatchRules;
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Numbers of rows of a statement. Close enough together that a batch needs few statements: the three attributes of a
/// lone message go in one. Larger ones would save a full batch four round trips, and cost the server more than those:
/// it keeps about 2 KB for each row of a prepared statement, for every connection, and goes through them all.
const CHUNKS: [usize; 18] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/// Bytes of rows in a statement, unless one row has more: the driver gets a copy of them. What the server takes may be
/// far more, and one message of some megabytes is a row in each of its flows.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The target of the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteContext<'a> {
    pub(super) dialect: Dialect,
    pub(super) inbox_id: &'a str,
    /// Longest statement in bytes.
    pub(super) max_statement_bytes: usize,
}

impl<'a> WriteContext<'a> {
    pub(super) fn new(database: &Database, rules: &'a BatchRules) -> Self {
        Self {
            dialect: database.dialect,
            inbox_id: rules.inbox_id(),
            max_statement_bytes: rules.processing.max_statement_bytes,
        }
    }
}

/// A row that can be inserted together with others.
pub(super) trait InsertRow {
    const TABLE: &'static str;
    /// The beginning of an error message: "storing the rows".
    const DOING: &'static str;
    /// Columns that are bound, in the order of [`bind`](Self::bind).
    const COLUMNS: &'static [&'static str];
    /// Columns that are set to the time of the database.
    const NOW_COLUMNS: &'static [&'static str] = &[];

    /// The end of the statement; by default an existing row is an error.
    fn ending(_: Dialect) -> &'static str {
        ""
    }

    /// Approximate number of bytes in a statement.
    fn bytes(&self) -> usize;
    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>);
}

/// Inserts `rows`, in order.
pub(super) async fn insert_rows<R: InsertRow>(
    connection: &impl ConnectionTrait,
    context: &WriteContext<'_>,
    mut rows: &[R],
) -> Result<(), StoreError> {
    while !rows.is_empty() {
        let (chunk, rest) = rows.split_at(chunk_length(rows, context.max_statement_bytes.min(MAX_BYTES)));
        let mut values = Vec::with_capacity(chunk.len() * R::COLUMNS.len());
        for row in chunk {
            row.bind(context, &mut values);
        }
        let sql = insert_sql::<R>(context.dialect, chunk.len());
        let statement = statement(connection.get_database_backend(), sql, values);
        connection.execute_raw(statement).await.while_doing(R::DOING)?;
        rows = rest;
    }
    Ok(())
}

/// The largest chunk of rows that one statement may hold; at least one row.
fn chunk_length<R: InsertRow>(rows: &[R], most_bytes: usize) -> usize {
    let mut length = 0;
    let mut bytes = 0;
    for chunk in CHUNKS.into_iter().take_while(|chunk| *chunk <= rows.len()) {
        bytes += rows.iter().take(chunk).skip(length).map(InsertRow::bytes).sum::<usize>();
        if length > 0 && bytes > most_bytes {
            break;
        }
        length = chunk;
    }
    length
}

fn insert_sql<R: InsertRow>(dialect: Dialect, rows: usize) -> String {
    let columns = [R::COLUMNS, R::NOW_COLUMNS].concat().join(", ");
    let marks = [vec!["?"; R::COLUMNS.len()], vec![dialect.now(); R::NOW_COLUMNS.len()]].concat().join(", ");
    let tuple = format!("({marks})");
    let tuples = vec![tuple.as_str(); rows].join(", ");
    format!("INSERT INTO {} ({columns}) VALUES {tuples}{}", R::TABLE, R::ending(dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(usize);

    impl InsertRow for Sized {
        const TABLE: &'static str = "t";
        const DOING: &'static str = "testing";
        const COLUMNS: &'static [&'static str] = &["a", "b"];
        const NOW_COLUMNS: &'static [&'static str] = &["c"];

        fn bytes(&self) -> usize {
            self.0
        }

        fn bind(&self, _: &WriteContext<'_>, _: &mut Vec<Value>) {}
    }

    fn chunks(sizes: &[usize], most_bytes: usize) -> Vec<usize> {
        let rows: Vec<Sized> = sizes.iter().copied().map(Sized).collect();
        let mut rest = rows.as_slice();
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let length = chunk_length(rest, most_bytes);
            lengths.push(length);
            rest = rest.get(length..).unwrap_or_default();
        }
        lengths
    }

    #[test]
    fn rows_go_in_few_statements_of_few_sizes_of_up_to_512() {
        assert_eq!(chunks(&[1; 3], 1_000_000), [3]);
        assert_eq!(chunks(&[1; 1_404], 1_000_000), [512, 512, 256, 96, 24, 4]);
    }

    #[test]
    fn a_statement_stays_below_its_bytes_unless_one_row_is_larger() {
        assert_eq!(chunks(&[40, 40, 40, 500, 10], 100), [2, 1, 1, 1]);
    }

    #[test]
    fn the_statement_names_bound_columns_first() {
        let sql = insert_sql::<Sized>(Dialect::MySql, 2);
        let tuple = "(?, ?, UTC_TIMESTAMP(6))";
        assert_eq!(sql, format!("INSERT INTO t (a, b, c) VALUES {tuple}, {tuple}"));
    }
}
