//! What a measurement needs of the database: a schema of its own, and a look at how far it is.
//!
//! ```text
//!  schema.rs    makes the schema, with its flows and its broker, and drops it
//!  progress.rs  how far the flows are, and what is stored in the end
//! ```

pub(crate) mod progress;
pub(crate) mod schema;
