//! Clients that do not read what they asked for.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use test_support::world::Backend;

use super::{Served, problem};

/// Number of long answers at the same time.
const MAX_LONG: usize = 4;

/// Bytes of each payload, and their number: more than the buffers of a connection hold.
const PAYLOAD_BYTES: usize = 500_000;
const LETTERS: i64 = 60;

/// More than the time after which such a client is cut off.
const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn clients_that_do_not_read_are_cut_off() {
    let world = crate::commands::world(Backend::Sqlite);
    let flow = world.flow("f", "t").insert(&world.sql);
    crate::contract::dead_letters::insert_letters(&world, flow, LETTERS);
    world.sql.run(&format!("UPDATE dead_letters SET payload = '{}'", "x".repeat(PAYLOAD_BYTES)));
    let served = Served::new(world);
    let stalled: Vec<TcpStream> = (0..MAX_LONG).map(|_| begin_export(&served)).collect();

    let none = json!({"filter": {"flow": "nobody"}});
    let replay = || served.admin.call("POST", "/dead-letters/replay", &none);
    test_support::eventually("all long answers to be under way", || (replay().status == 503).then_some(()));
    problem(&replay(), 503, "busy");
    test_support::eventually_within(PATIENCE, "a free turn", || (replay().status == 200).then_some(()));
    drop(stalled);
}

/// Asks for all dead letters, and reads nothing.
fn begin_export(served: &Served) -> TcpStream {
    let mut stream = TcpStream::connect(served.admin.address).unwrap();
    let head = format!(
        "GET /api/v1/dead-letters/export HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        served.admin.address, served.admin.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}
