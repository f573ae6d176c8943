//! An unusable directory is reported at the start, with the remedy.

use std::path::Path;

use super::volume::Memory;
use crate::backlog;

/// Starts with this variable pointing there; the gateway has to end, naming both.
fn is_refused(variable: &str, directory: &Path) {
    let mut world = backlog::world();
    world.set(variable, directory.to_str().unwrap());
    let mut gateway = world.start();
    assert_eq!(gateway.wait_for_exit().code(), Some(1), "{variable}");
    let line = gateway.wait_for_line("Fatal error during startup: ");
    assert!(line.contains(directory.to_str().unwrap()), "{line}");
    assert!(line.contains(&format!("set {variable} to another")), "{line}");
}

#[test]
fn read_only_directory_is_named_with_remedy() {
    let volume = Memory::of_mebibytes(1);
    for directory in ["there", "log"] {
        std::fs::create_dir(volume.path().join(directory)).unwrap();
    }
    volume.make_read_only();
    is_refused("INBOX_DIR", &volume.path().join("there"));
    is_refused("INBOX_DIR", &volume.path().join("missing"));
    is_refused("LOG_DIR", &volume.path().join("log"));
    is_refused("LOG_DIR", &volume.path().join("missing"));
}

#[test]
fn file_as_directory_is_named_with_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    is_refused("INBOX_DIR", file.path());
    is_refused("LOG_DIR", file.path());
}
