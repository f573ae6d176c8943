//! Accidents with inbox and database: restored snapshots, copied volumes, restored and exchanged databases.
//!
//! Each accident is recovered without a loss, or refused before the first loss with the remedy in the message.

mod copies;
mod database_change;
mod inbox_change;
mod lock;
mod restore;

use std::path::Path;
use std::process::Command;

use test_support::eventually;
use test_support::process::{Gateway, Settings};
use test_support::sql::Sql;
use test_support::world::{Backend, World};

/// Every table that a gateway writes or reads.
const TABLES: [&str; 15] = [
    "data",
    "flows",
    "flow_revision",
    "mqtt_servers",
    "inbox_offsets",
    "inbox_lagging",
    "outbox",
    "outbox_owners",
    "outbox_pauses",
    "dead_letters",
    "message_keys",
    "gateway_members",
    "gateway_starts",
    "database_identity",
    "api_tokens",
];

/// Copies all tables within their database.
fn back_up(sql: &Sql) {
    for table in TABLES {
        sql.run(&format!("CREATE TABLE copy_of_{table} AS SELECT * FROM {table}"));
    }
}

/// As one transaction, so that a running gateway sees all of it or nothing.
fn restore(sql: &Sql) {
    sql.run("BEGIN");
    for table in TABLES {
        sql.run(&format!("DELETE FROM {table}"));
        sql.run(&format!("INSERT INTO {table} SELECT * FROM copy_of_{table}"));
    }
    sql.run("COMMIT");
}

/// Keeps the lanes from committing anything, until [`free_lanes`].
fn hold_lanes(world: &World) {
    world.sql.run("BEGIN");
    let lock = if world.backend == Backend::Sqlite {
        "UPDATE inbox_offsets SET lane = lane"
    } else {
        "SELECT lane FROM inbox_offsets FOR UPDATE"
    };
    world.sql.run(lock);
}

fn free_lanes(world: &World) {
    world.sql.run("COMMIT");
}

/// Copies a directory that may be in use. The copy fails if a file is deleted meanwhile, and is then made again.
fn copy_directory(from: &Path, to: &Path) {
    eventually("a whole copy", || {
        // The target does not exist yet at the first attempt.
        let _ = std::fs::remove_dir_all(to);
        Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success().then_some(())
    });
}

/// As a restore of a volume does it: the old directory is gone, the copy stands in its place.
fn put_back(copy: &Path, at: &Path) {
    std::fs::remove_dir_all(at).unwrap();
    copy_directory(copy, at);
}

/// The settings of the world with another inbox directory.
fn with_inbox(world: &World, inbox: &Path) -> Settings {
    let mut settings = world.settings.clone();
    settings.insert("INBOX_DIR".to_owned(), inbox.to_str().unwrap().to_owned());
    settings
}

/// Starts the gateway with these settings, which must be refused with a line that contains each of `words`.
fn is_refused(settings: &Settings, world: &World, words: &[&str]) {
    let mut gateway = Gateway::start(&[], settings, world.directory());
    assert_eq!(gateway.wait_for_exit().code(), Some(1), "{}", gateway.stderr());
    let line = gateway.wait_for_line("Fatal error during startup");
    for word in words {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}
