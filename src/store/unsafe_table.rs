//! A table whose storage engine has no transactions.

/// A table of the gateway whose engine has no transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsafeTable {
    /// Its name.
    pub table: String,
    /// Its storage engine.
    pub engine: String,
}

/// Names each table with its engine, and the statement that fixes it.
pub(super) fn describe(tables: &[UnsafeTable]) -> String {
    let each = tables.iter().map(|UnsafeTable { table, engine }| {
        format!("{table} has the storage engine {engine}: ALTER TABLE {table} ENGINE=InnoDB")
    });
    each.collect::<Vec<_>>().join("; ")
}
