//! The structure of the crate, held by reading its sources: imports, SQL, comments, names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

mod circles;
mod comments;
mod layers;
mod log_lines;
mod source;
mod sql;
mod type_names;

use std::fs;

use source::root;

#[test]
fn no_authority_is_trusted_by_default() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lists: Vec<&str> =
        lock.split("[[package]]").filter(|package| package.contains("name = \"webpki-roots\"")).collect();
    // Ours, from a directory of this repository.
    assert!(matches!(lists[..], [list] if !list.contains("source = ")), "{lists:?}");
}

#[test]
fn main_file_is_short() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 40);
}
