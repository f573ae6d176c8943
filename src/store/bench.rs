//! Database access for the benchmarks: a separate schema, the progress of the gateway, and the limits of the database.
//!
//! ```text
//!  schema.rs    makes the schema, with its flows and its broker, and drops it
//!  progress.rs  how far the flows are, and what is stored in the end
//!  rows.rs      rows of `data` as plainly and cheaply as they can be written
//!  insert.rs    how many of them go in a second
//!  outbox.rs    how many rows of `outbox` are written and deleted in a second
//!  commit.rs    how long one of them takes
//!  hold.rs      holds the gateway up
//! ```

pub mod commit;
pub(crate) mod hold;
pub mod insert;
pub mod outbox;
pub(crate) mod progress;
pub mod rows;
pub(crate) mod schema;
