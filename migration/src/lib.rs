//! Brings a database's schema up to what the gateway needs.
//!
//! The schema itself is the record of what has been done: every step looks whether what it adds is
//! there, so all of them can run at every start, on tables that another service made, on what a
//! broken-off run left behind (`MySQL` keeps DDL that a failing migration has run), and beside a
//! gateway of another version. A table of applied migrations could not: an older gateway refuses to
//! start over an entry it does not know, and none of them would see that a table was dropped.
//!
//! Steps only ever add: tables, indexes, and columns that are nullable or have a default, so that
//! whatever else uses the database goes on working.
//!
//! To add a column or a table to the schema, add it to `tables.rs`: the steps follow from it.

mod steps;
mod tables;

pub use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};
pub use steps::{Step, steps};
