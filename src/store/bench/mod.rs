//! What a measurement needs of the database.
//!
//! ```text
//!  rows.rs    rows of `data` as plainly and cheaply as they can be written
//!  insert.rs  how many of them go in a second
//!  commit.rs  how long one of them takes
//! ```

pub mod commit;
pub mod insert;
pub mod rows;
