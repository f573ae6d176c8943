//! Faults of the database: kills, freezes, cuts, refusals, locks.

mod commit;
mod connection;
mod durability;
mod exhaustion;
mod failover;
mod lagging;
mod locks;
mod outage;
mod packets;
mod refusals;
mod rotation;
mod silence;
mod site_rules;
mod tables;

use test_support::eventually;
use test_support::world::World;

/// The test's own connection was cut as well; the pool finds that out at its next statement.
fn reconnected(world: &World) {
    eventually("the database", || world.sql.try_rows("SELECT 1", []).ok());
}

/// Ends all sessions of the gateway.
fn end_sessions(world: &World) {
    let user = world.name.as_str().into();
    for row in world.sql.rows("SELECT id FROM information_schema.processlist WHERE user = ?", [user]) {
        let id: i64 = row.try_get_by_index(0).unwrap();
        // It may have ended by itself.
        let _ = world.sql.try_run(&format!("KILL {id}"));
    }
}

/// Content of the inbox's segments.
fn inbox_bytes(world: &World) -> u64 {
    let entries = std::fs::read_dir(world.inbox_directory()).unwrap();
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// A text as SQL writes it.
fn sql_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}
