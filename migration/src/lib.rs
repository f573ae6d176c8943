//! Adds missing tables, columns and indexes to a database.
//!
//! There is no table of applied migrations. Each step checks the schema, so all steps can run at every start: on tables
//! of another service, after an interrupted run (`MySQL` cannot roll back DDL), and beside a gateway of another
//! version. With a table of migrations, an older gateway would refuse an unknown entry, and a dropped table would go
//! unnoticed.
//!
//! Steps only add tables, indexes, and columns that are nullable or have a default. Other users of the database keep
//! working.
//!
//! To add a column or a table to the schema, add it to `tables.rs`: the steps follow from it.

mod steps;
mod tables;

pub use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};
pub use steps::{Step, steps};
