//! What the database has, for all gateways.

use serde::Serialize;
use utoipa::ToSchema;

use super::replicas::ReplicaStatus;
use crate::control::time_text::{parse_time, shown_time};
use crate::control::view::{FlowVerdictView, LetterCountView};
use crate::control::{CheckedFlow, Control, ControlError, NEWEST_LETTERS};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::problem::Problem;
use crate::inbox::avoided_filters;
use crate::store;

/// Most flows that are named.
const MAX_NAMED: usize = 100;

/// What the database has.
#[derive(Debug, Serialize, ToSchema)]
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
#[derive(Debug, Serialize, ToSchema)]
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

/// Posts that wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutboxRows {
    /// Their number.
    pub posts: u64,
    /// When the oldest was numbered.
    pub oldest_at: Option<String>,
}

/// Dead letters of the last 24 hours.
#[derive(Debug, Serialize, ToSchema)]
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

    fn flows_status(&self, flows: &[FlowRecord]) -> FlowsStatus {
        let set = FlowSet::new(flows.iter().map(|flow| &flow.definition));
        let networks = &self.settings.http_route.networks;
        let enabled = flows.iter().filter(|flow| flow.definition.is_enabled());
        let mut status = FlowsStatus {
            enabled: enabled.clone().count(),
            disabled: flows.iter().filter(|flow| !flow.definition.is_enabled()).count(),
            unusable: 0,
            rejected: Vec::new(),
            refused_filters: avoided_filters(&self.settings.inbox.dir)
                .unwrap_or_default()
                .into_iter()
                .take(MAX_NAMED)
                .collect(),
        };
        for flow in enabled {
            let mut problems = check_flow(&flow.definition, &set, networks);
            problems.retain(Problem::is_error);
            if !problems.is_empty() {
                status.unusable += 1;
                if status.rejected.len() < MAX_NAMED {
                    status.rejected.push(FlowVerdictView::new(&CheckedFlow { flow: flow.clone(), problems }));
                }
            }
        }
        status
    }
}
