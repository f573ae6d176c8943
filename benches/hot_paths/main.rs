//! What every message costs outside of MQTT client and SQL driver: routing, reading and validating, the inbox,
//! building statements. Nothing is random, and nothing waits for a network or a disk.
//!
//! `cargo bench --features bench-internals -- [NAME]` measures; under `cargo test` each runs once.
#![allow(clippy::unwrap_used)]

mod inbox;
mod payloads;
mod routing;
mod statements;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routing::bench(&mut criterion);
    payloads::bench(&mut criterion);
    inbox::bench(&mut criterion);
    statements::bench(&mut criterion);
    criterion.final_summary();
}
