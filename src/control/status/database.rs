//! What the database has, for all gateways.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{MutexGuard, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use super::replicas::ReplicaStatus;
use crate::control::time_text::{parse_time, shown_time};
use crate::control::view::{FlowVerdictView, LetterCountView};
use crate::control::{CheckedFlow, Control, ControlError, NEWEST_LETTERS};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::problem::Problem;
use crate::inbox::avoided_filters;
use crate::store;

/// Most flows that are named.
const MAX_NAMED: usize = 100;

/// What the database has.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DatabaseStatus {
    /// The flows.
    pub flows: FlowsStatus,
    /// Number of enabled brokers.
    pub enabled_brokers: usize,
    /// Posts that wait.
    pub outbox: OutboxRows,
    /// Dead letters of the last 24 hours.
    pub dead_letters: RecentLetters,
    /// The gateways on this database.
    pub replicas: Vec<ReplicaStatus>,
}

/// The flows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FlowsStatus {
    /// Number of enabled flows.
    pub enabled: usize,
    /// Number of disabled flows.
    pub disabled: usize,
    /// Number of enabled flows that cannot work.
    pub unusable: usize,
    /// The first 100 of them, with their problems.
    pub rejected: Vec<FlowVerdictView>,
    /// Filters that the broker refuses, as far as this machine has the inbox.
    pub refused_filters: Vec<String>,
}

/// The flows that cannot work, by the last check. A check of 10,000 flows takes a fifth of a second, and an open
/// overview asks every few seconds.
#[derive(Debug, Default)]
pub(in crate::control) struct RejectedFlows {
    hasher: RandomState,
    /// Hash of the flows; `None` before the first check.
    flows: Option<u64>,
    /// Errors of each enabled flow, by the hash of what they depend on.
    errors: HashMap<u64, Vec<Problem>>,
    codes: HashSet<String>,
    named: Vec<FlowVerdictView>,
}

impl RejectedFlows {
    /// Checks the flows that have changed since the last check.
    fn check(&mut self, flows: &[FlowRecord], networks: &EndpointNetworks) {
        let definitions: Vec<&FlowDefinition> = flows.iter().map(|flow| &flow.definition).collect();
        let found = Some(self.hasher.hash_one(&definitions));
        if self.flows == found {
            return;
        }
        let set = FlowSet::new(definitions);
        let mut known = std::mem::take(&mut self.errors);
        (self.flows, self.codes, self.named) = (found, HashSet::new(), Vec::new());
        for flow in flows.iter().filter(|flow| flow.definition.is_enabled()) {
            let definition = &flow.definition;
            let hash = self.hasher.hash_one((definition, set.has_code_twice(definition)));
            let errors = known.remove(&hash).unwrap_or_else(|| {
                let mut problems = check_flow(definition, &set, networks);
                problems.retain(Problem::is_error);
                problems
            });
            if !errors.is_empty() {
                self.codes.insert(definition.code.clone());
                if self.named.len() < MAX_NAMED {
                    let problems = errors.clone();
                    self.named.push(FlowVerdictView::new(&CheckedFlow { flow: flow.clone(), problems }));
                }
            }
            self.errors.insert(hash, errors);
        }
    }
}

/// Posts that wait.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OutboxRows {
    /// Their number.
    pub posts: u64,
    /// When the oldest was numbered.
    pub oldest_at: Option<String>,
}

/// Dead letters of the last 24 hours.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RecentLetters {
    /// Their number by reason.
    pub counts: Vec<LetterCountView>,
    /// Whether there may be more: only the newest 10,000 are counted.
    pub at_least: bool,
}

impl Control {
    /// What the database has.
    pub async fn database_status(&self) -> Result<DatabaseStatus, ControlError> {
        let (posts, oldest) = store::outbox::count_waiting(&self.database).await?;
        let since = parse_time("24h").unwrap_or_default();
        let (counts, counted) = store::count_recent_letters(&self.database, since, NEWEST_LETTERS).await?;
        let flows = self.flows().await?;
        let mut replicas = self.replicas_of(&flows).await?;
        replicas.truncate(MAX_NAMED);
        Ok(DatabaseStatus {
            flows: self.flows_status(&flows),
            enabled_brokers: self.servers().await?.iter().filter(|broker| broker.is_enabled()).count(),
            outbox: OutboxRows { posts, oldest_at: oldest.map(shown_time) },
            dead_letters: RecentLetters {
                counts: counts.iter().map(LetterCountView::new).collect(),
                at_least: counted >= NEWEST_LETTERS,
            },
            replicas,
        })
    }

    /// The codes of the enabled flows that cannot work.
    pub(in crate::control) fn rejected_codes(&self, flows: &[FlowRecord]) -> HashSet<String> {
        self.checked(flows).codes.clone()
    }

    fn checked(&self, flows: &[FlowRecord]) -> MutexGuard<'_, RejectedFlows> {
        let mut rejected = self.rejected_flows.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.check(flows, &self.settings.http_route.networks);
        rejected
    }

    fn flows_status(&self, flows: &[FlowRecord]) -> FlowsStatus {
        let rejected = self.checked(flows);
        let enabled = flows.iter().filter(|flow| flow.definition.is_enabled()).count();
        FlowsStatus {
            enabled,
            disabled: flows.len().saturating_sub(enabled),
            unusable: rejected.codes.len(),
            rejected: rejected.named.clone(),
            refused_filters: avoided_filters(&self.settings.inbox.dir)
                .unwrap_or_default()
                .into_iter()
                .take(MAX_NAMED)
                .collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
