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
use test_support::http::{Answer, admin_of, send};
use test_support::process::Gateway;
use test_support::world::{World, text_of};

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

/// A client of a gateway's API.
struct ApiClient<'g> {
    gateway: &'g Gateway,
    token: String,
}

impl<'g> ApiClient<'g> {
    /// With a new token of scope admin.
    fn new(world: &World, gateway: &'g Gateway) -> Self {
        let output = world.command(&["tokens", "add", "root", "--scope", "admin", "--json"]);
        assert!(output.status.success(), "{}", text_of(&output));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        Self { gateway, token: document["token"]["token"].as_str().unwrap().to_owned() }
    }

    fn send(&self, request: &str, body: &str) -> Answer {
        let address = admin_of(self.gateway);
        let token = &self.token;
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json"
        );
        send(address, &head, body.as_bytes())
    }

    /// The status of the answer to a request that reads flows.
    fn status(&self) -> u16 {
        self.send("GET /api/v1/flows", "").status
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
