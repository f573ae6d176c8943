//! Flows as code: compares a file with the tables, and applies it in one transaction.

mod effects;
mod servers;

use std::collections::{HashMap, HashSet};

use super::flows::WHAT;
use super::{Control, ControlError};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_file::{Exported, FileEntry, FileProblem, FlowFile};
use crate::domain::masking::MaskedFlow;
use crate::domain::message::FlowId;
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::problem::Problem;
use crate::domain::server_definition::{ServerDefinition, ServerRecord};
use crate::store::{self, FlowTransaction};

pub use self::effects::PlanEffects;

/// The difference between a file and the tables.
#[derive(Debug, Default)]
pub struct FilePlan {
    /// Changes of flows: those to remove first, then the others in the order of the file.
    pub flows: Vec<PlannedChange<FlowRecord, FlowDefinition>>,
    /// Changes of brokers.
    pub servers: Vec<PlannedChange<ServerRecord, ServerDefinition>>,
    /// Flows and brokers of the tables that the file lacks and that stay.
    pub kept: usize,
    /// Problems of the changes, in the order of the file.
    pub problems: Vec<FileProblem>,
}

/// A change of one row. One of the two is there, or both.
#[derive(Debug)]
pub struct PlannedChange<Row, New> {
    /// The row as it was read.
    pub old: Option<Row>,
    /// The columns that it is to get; `None` for a row to remove.
    pub new: Option<New>,
    /// The first sequence number of a flow that the change concerns.
    pub counts_from: i64,
}

impl FilePlan {
    /// Whether the tables are as the file says.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.servers.is_empty()
    }

    /// The number of rows to remove.
    #[must_use]
    pub fn removals(&self) -> usize {
        let flows = self.flows.iter().filter(|change| change.new.is_none()).count();
        flows + self.servers.iter().filter(|change| change.new.is_none()).count()
    }
}

impl PlannedChange<FlowRecord, FlowDefinition> {
    /// Code of the flow.
    #[must_use]
    pub fn code(&self) -> &str {
        let old = self.old.as_ref().map(|row| &row.definition);
        self.new.as_ref().or(old).map_or("", |flow| &flow.code)
    }
}

/// The problems of a file by itself. Needs no database. `***` counts as a value.
#[must_use]
pub fn check_file(file: &FlowFile, networks: &EndpointNetworks) -> Vec<FileProblem> {
    let mut problems = file.check(networks);
    for entry in file.all_servers() {
        let server = ServerRecord { id: 0, definition: entry.value.as_given() };
        problems.extend(servers::unusable(&server).map(|problem| entry.located(&problem)));
    }
    problems.sort_by_key(|problem| problem.at);
    problems
}

impl Control {
    /// All flows, or those with these codes, and all brokers if they are wanted, as a file without secrets.
    pub async fn export_file(&self, codes: &[String], with_servers: bool) -> Result<Exported, ControlError> {
        let flows = self.flows().await?;
        let chosen: Vec<&FlowRecord> = match codes {
            [] => flows.iter().collect(),
            codes => codes.iter().map(|code| super::flows::find(&flows, code)).collect::<Result<_, _>>()?,
        };
        let servers = if with_servers { Some(self.servers().await?) } else { None };
        Ok(Exported::new(chosen, servers.as_deref()))
    }

    /// Compares a file with the tables. With `prune`, rows that the file lacks are to be removed, as far as the file has
    /// such a list.
    pub async fn plan_file(&self, file: &FlowFile, prune: bool) -> Result<FilePlan, ControlError> {
        let mut plan = FilePlan::default();
        self.plan_flows(file, prune, &mut plan).await?;
        self.plan_servers(file, prune, &mut plan).await?;
        plan.problems.sort_by_key(|problem| problem.at);
        Ok(plan)
    }

    async fn plan_flows(
        &self,
        file: &FlowFile,
        prune: bool,
        plan: &mut FilePlan,
    ) -> Result<(), ControlError> {
        let rows = self.flows().await?;
        let by_code: HashMap<&str, &FlowRecord> =
            rows.iter().map(|row| (row.definition.code.as_str(), row)).collect();
        let named: HashSet<&str> = file.all_flows().map(|entry| entry.value.code.as_str()).collect();
        let missing = rows.iter().filter(|row| !named.contains(row.definition.code.as_str()));
        let removed: Vec<&FlowRecord> = if prune && file.flows.is_some() {
            missing.collect()
        } else {
            plan.kept += missing.count();
            Vec::new()
        };
        plan.flows.extend(removed.iter().map(|row| PlannedChange {
            counts_from: row.next_msg_id(),
            old: Some((*row).clone()),
            new: None,
        }));

        let new_codes: Vec<String> =
            named.iter().filter(|code| !by_code.contains_key(*code)).map(|code| (*code).to_owned()).collect();
        let last_numbers = store::last_removals(&self.database, &new_codes).await?;
        let mut changed = Vec::new();
        for entry in file.all_flows() {
            let row = by_code.get(entry.value.code.as_str()).copied();
            match restored(entry, row) {
                Ok(new) if row.is_some_and(|row| row.definition == new) => {}
                Ok(new) => changed.push((entry, row, new)),
                Err(problems) => plan.problems.extend(problems),
            }
        }
        self.check_changed(&rows, &removed, &changed, plan);
        for (_, row, new) in changed {
            let last = last_numbers.get(&new.code).copied().unwrap_or(0);
            let counts_from = row.map_or(last.saturating_add(1), FlowRecord::next_msg_id);
            plan.flows.push(PlannedChange { old: row.cloned(), new: Some(new), counts_from });
        }
        Ok(())
    }

    /// Checks the changed flows among all flows as they are going to be.
    fn check_changed(
        &self,
        rows: &[FlowRecord],
        removed: &[&FlowRecord],
        changed: &[(&FileEntry<MaskedFlow>, Option<&FlowRecord>, FlowDefinition)],
        plan: &mut FilePlan,
    ) {
        let replaced: HashSet<FlowId> = changed
            .iter()
            .filter_map(|(_, row, _)| *row)
            .chain(removed.iter().copied())
            .map(|row| row.id)
            .collect();
        let staying = rows.iter().filter(|row| !replaced.contains(&row.id)).map(|row| &row.definition);
        let set = FlowSet::new(staying.chain(changed.iter().map(|(_, _, new)| new)));
        for (entry, row, new) in changed {
            if row.is_some_and(|row| only_disables(&row.definition, new)) {
                continue;
            }
            let problems = check_flow(new, &set, &self.settings.http_route.networks);
            plan.problems.extend(problems.iter().map(|problem| entry.located(problem)));
        }
    }

    /// Makes the changes of a plan, all or none. Fails if a row has changed since the plan was made. Returns the first
    /// sequence number that each change of a flow concerns.
    pub async fn apply_plan(&self, plan: &FilePlan) -> Result<Vec<i64>, ControlError> {
        if plan.problems.iter().any(FileProblem::is_error) {
            let problems = plan.problems.iter().map(|problem| Problem {
                level: problem.level,
                field: "file",
                problem: format!("line {}: {}: {}", problem.at.line, problem.subject, problem.problem),
                remedy: problem.remedy.clone(),
            });
            return Err(ControlError::Invalid { problems: problems.collect() });
        }
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        let locked = lock_all_unchanged(&transaction, &plan.flows).await?;
        let mut counts_from = Vec::with_capacity(plan.flows.len());
        for change in &plan.flows {
            let row = change.old.as_ref().and_then(|old| locked.get(&old.id));
            let written = match (row, &change.new) {
                (Some(row), Some(new)) => transaction.update(row, new).await,
                (Some(row), None) => transaction.delete(row).await,
                (None, Some(new)) => transaction.insert(new, change.counts_from.saturating_sub(1)).await,
                (None, None) => Ok(()),
            };
            written.map_err(|error| refused("flow", change.code(), error))?;
            counts_from.push(row.map_or(change.counts_from, FlowRecord::next_msg_id));
        }
        self.apply_servers(&mut transaction, &plan.servers).await?;
        if !transaction.is_empty() {
            transaction.commit(&self.origin).await?;
        }
        Ok(counts_from)
    }
}

/// Locks the rows of the changes. A row that changed since the plan is a conflict. The gateway may have
/// raised the counters meanwhile.
async fn lock_all_unchanged(
    transaction: &FlowTransaction,
    changes: &[PlannedChange<FlowRecord, FlowDefinition>],
) -> Result<HashMap<FlowId, FlowRecord>, ControlError> {
    let mut read: Vec<&FlowRecord> = changes.iter().filter_map(|change| change.old.as_ref()).collect();
    read.sort_by_key(|row| row.id);
    let ids: Vec<FlowId> = read.iter().map(|row| row.id).collect();
    let locked = transaction.lock_all(&ids).await?;
    let locked: HashMap<FlowId, FlowRecord> = locked.into_iter().map(|row| (row.id, row)).collect();
    let is_same = |row: &&FlowRecord| locked.get(&row.id).is_some_and(|now| now.definition == row.definition);
    match read.into_iter().find(|row| !is_same(row)) {
        Some(row) => Err(ControlError::Conflict { what: WHAT, name: row.definition.code.clone() }),
        None => Ok(locked),
    }
}

/// The flow of the file, in the form of its row.
fn restored(
    entry: &FileEntry<MaskedFlow>,
    row: Option<&FlowRecord>,
) -> Result<FlowDefinition, Vec<FileProblem>> {
    let row = row.map(|row| &row.definition);
    let flow = entry.value.restore(row);
    let flow =
        flow.map_err(|problems| problems.iter().map(|problem| entry.located(problem)).collect::<Vec<_>>())?;
    Ok(match row {
        Some(row) => flow.in_form_of(row),
        None => flow,
    })
}

/// Disabling alone is always possible.
fn only_disables(row: &FlowDefinition, new: &FlowDefinition) -> bool {
    !new.is_enabled() && FlowDefinition { enabled: new.enabled, ..row.clone() } == *new
}

/// Names the row that the database refuses.
fn refused(kind: &str, name: &str, error: store::StoreError) -> ControlError {
    match ControlError::refused(error) {
        ControlError::Invalid { mut problems } => {
            for problem in &mut problems {
                problem.problem = format!("{kind} {name}: {}", problem.problem);
            }
            ControlError::Invalid { problems }
        }
        error => error,
    }
}
