//! One guarded step for each table, column and index.

use sea_orm::sea_query::{ColumnDef, IndexCreateStatement, TableAlterStatement, TableCreateStatement};
use sea_orm::{DbBackend, DbErr};
use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::tables::{TableDefinition, tables};

/// Adds a table, column or index unless it exists.
pub struct Step {
    /// Description of the addition, such as `column flows.enabled`.
    name: String,
    table: &'static str,
    addition: Addition,
}

enum Addition {
    Table(TableCreateStatement),
    Column(ColumnDef),
    Index { name: &'static str, create: IndexCreateStatement },
}

/// All steps to the complete schema, in order.
#[must_use]
pub fn steps(backend: DbBackend) -> Vec<Step> {
    tables(backend).into_iter().flat_map(steps_of).collect()
}

fn steps_of(definition: TableDefinition) -> Vec<Step> {
    let TableDefinition { table, create, index } = definition;
    let mut steps = Vec::new();
    let columns = create.get_columns().clone();
    steps.push(Step { name: format!("table {table}"), table, addition: Addition::Table(create) });
    for column in columns {
        let name = format!("column {table}.{}", column.get_column_name());
        steps.push(Step { name, table, addition: Addition::Column(column) });
    }
    if let Some((name, create)) = index {
        let addition = Addition::Index { name, create };
        steps.push(Step { name: format!("index {table}.{name}"), table, addition });
    }
    steps
}

impl Step {
    /// The table that it changes.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.table
    }

    /// Whether the step is needed. While a table is missing, the steps of its columns are not needed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_missing(&self, manager: &SchemaManager<'_>) -> Result<bool, DbErr> {
        let has_table = manager.has_table(self.table).await?;
        Ok(match &self.addition {
            Addition::Table(_) => !has_table,
            Addition::Column(column) => {
                has_table && !manager.has_column(self.table, column.get_column_name()).await?
            }
            Addition::Index { name, .. } => !manager.has_index(self.table, name).await?,
        })
    }

    async fn add(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        match &self.addition {
            Addition::Table(create) => manager.create_table(create.clone()).await,
            Addition::Column(column) if is_additive(column) => {
                let mut alter = TableAlterStatement::new();
                alter.table(self.table).add_column(column.clone());
                manager.alter_table(alter).await
            }
            Addition::Column(_) => Err(DbErr::Migration(format!(
                "the {} is missing, and neither NULL nor a default could stand for it in the rows that are \
                 there: is this a table of something else?",
                self.name
            ))),
            Addition::Index { create, .. } => manager.create_index(create.clone()).await,
        }
    }
}

/// Whether the column can be added to a table with rows, which other programs write without it.
fn is_additive(column: &ColumnDef) -> bool {
    let spec = column.get_column_spec();
    spec.nullable == Some(true) || spec.default.is_some()
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl MigrationTrait for Step {
    /// A lock covers one node of a cluster. At another node, another gateway may have added the same at this moment,
    /// which is no failure.
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !self.is_missing(manager).await? {
            return Ok(());
        }
        match self.add(manager).await {
            // On PostgreSQL a failed statement fails the transaction, so no further query is possible.
            Err(error) if !matches!(self.is_missing(manager).await, Ok(false)) => Err(error),
            _ => Ok(()),
        }
    }
}
