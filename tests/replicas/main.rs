//! Many gateways on one database and one broker: in a group, in shards, restarted, added, ended for good.
//!
//! No published message may be lost, and the ids of each flow are 1 to n, whichever replica stored the messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../in_process/kept_table.rs"]
mod kept_table;

mod fleet;
mod group;
mod handover;
mod measure;
mod posts;
mod refusals;
mod retire;
mod rolling;
mod same_topic;
mod shards;
mod verdict;

/// How many messages the large variants publish; `REPLICAS_MESSAGES` says otherwise.
fn many_messages() -> u64 {
    std::env::var("REPLICAS_MESSAGES").map_or(100_000, |number| number.parse().unwrap())
}
