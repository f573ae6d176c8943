//! The pure core: decisions without clocks, randomness, sockets or files.

pub mod audit;
pub mod batch;
pub mod flow;
pub mod flow_diff;
pub mod identity;
pub mod invisible;
mod json;
pub mod lanes;
pub mod message;
pub mod message_key;
pub mod outbox;
pub mod outbox_work;
pub mod payload;
pub mod redelivery;
pub mod replicas;
pub mod restart_budget;
pub mod retry;
pub mod routing;
pub mod routing_history;
pub mod schema;
mod stable_hash;
pub mod subscription_ids;
pub mod subscription_plan;
pub mod topic;
pub mod trie;
pub mod value_style;
pub mod vigil;
