//! Cost of a message outside the MQTT client and the SQL driver: routing, parsing, validation, the inbox and
//! statements. The benchmarks use no randomness, network or disk.
//!
//! `cargo bench --features bench-internals -- [NAME]` measures. `cargo test` runs each once.
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
