//! What an operator asks first: whether the gateway works, and what is in its way.

mod database;
mod gateway;
mod problems;
mod replicas;
mod waits;

use serde::Serialize;
use utoipa::ToSchema;

pub(super) use database::RejectedFlows;
pub use database::{DatabaseStatus, FlowsStatus, OutboxRows, RecentLetters};
pub use gateway::{ActorStatus, BreakerStatus, BrokerStatus, GatewayStatus, InboxStatus, OutboxStatus};
pub use problems::{StatusProblem, find_problems};
pub use replicas::ReplicaStatus;
pub use waits::{HolderStatus, WaitStatus};

/// The state of a gateway and of what all gateways share.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    /// Whether there is no problem.
    pub ok: bool,
    /// What is in the way, each with its remedy.
    pub problems: Vec<StatusProblem>,
    /// The gateway that was asked; null if none answered.
    pub gateway: Option<GatewayStatus>,
    /// What the database has; null if it cannot be read.
    pub database: Option<DatabaseStatus>,
}

impl StatusView {
    /// The document of both parts, each of which may be missing for a reason.
    #[must_use]
    pub fn new(gateway: Result<GatewayStatus, String>, database: Result<DatabaseStatus, String>) -> Self {
        let problems = find_problems(gateway.as_ref(), database.as_ref());
        Self { ok: problems.is_empty(), problems, gateway: gateway.ok(), database: database.ok() }
    }
}
