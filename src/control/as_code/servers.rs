//! The brokers of a file. They have no names, so host and port say which row is meant.

use std::collections::HashMap;

use super::{FilePlan, PlannedChange, refused};
use crate::control::servers::lock_server_unchanged;
use crate::control::{Control, ControlError, servers as rows};
use crate::domain::flow_file::{FileEntry, FlowFile};
use crate::domain::masking::MaskedServer;
use crate::domain::problem::Problem;
use crate::domain::server_definition::{ServerDefinition, ServerRecord};
use crate::store::{self, FlowTransaction};

/// Why the gateway would skip the broker.
pub(super) fn unusable(server: &ServerRecord) -> Option<Problem> {
    store::broker_of(server).err().map(|error| rows::unusable(&error))
}

impl Control {
    pub(super) async fn plan_servers(
        &self,
        file: &FlowFile,
        prune: bool,
        plan: &mut FilePlan,
    ) -> Result<(), ControlError> {
        let Some(entries) = &file.servers else { return Ok(()) };
        let rows = self.servers().await?;
        let pairs = pairs(entries, &rows);
        let is_missing = |place: &usize| !pairs.contains(&Some(*place));
        let missing = (0..rows.len()).filter(is_missing).filter_map(|place| rows.get(place));
        if prune {
            plan.servers.extend(missing.map(|row| PlannedChange {
                old: Some(row.clone()),
                new: None,
                counts_from: 0,
            }));
        } else {
            plan.kept += missing.count();
        }
        for (entry, pair) in entries.iter().zip(&pairs) {
            let row = pair.and_then(|place| rows.get(place));
            let new = match entry.value.restore(row.map(|row| &row.definition)) {
                Ok(new) => row.map_or(new.clone(), |row| new.in_form_of(&row.definition)),
                Err(problem) => {
                    plan.problems.push(entry.located(&problem));
                    continue;
                }
            };
            if row.is_some_and(|row| row.definition == new) {
                continue;
            }
            let record = ServerRecord { id: 0, definition: new };
            let problems = record.definition.check().into_iter().chain(unusable(&record));
            plan.problems.extend(problems.map(|problem| entry.located(&problem)));
            let new = Some(record.definition);
            plan.servers.push(PlannedChange { old: row.cloned(), new, counts_from: 0 });
        }
        Ok(())
    }

    pub(super) async fn apply_servers(
        &self,
        transaction: &mut FlowTransaction,
        changes: &[PlannedChange<ServerRecord, ServerDefinition>],
    ) -> Result<(), ControlError> {
        let mut locked = HashMap::new();
        let mut read: Vec<&ServerRecord> = changes.iter().filter_map(|change| change.old.as_ref()).collect();
        read.sort_by_key(|row| row.id);
        for row in read {
            locked.insert(row.id, lock_server_unchanged(transaction, row).await?);
        }
        for change in changes {
            let row = change.old.as_ref().and_then(|old| locked.get(&old.id));
            let written = match (row, &change.new) {
                (Some(row), Some(new)) => transaction.update_server(row, new).await,
                (Some(row), None) => transaction.delete_server(row).await,
                (None, Some(new)) => transaction.insert_server(new).await.map(|_| ()),
                (None, None) => Ok(()),
            };
            let name = change.new.as_ref().map_or("", |new| new.host.as_str());
            written.map_err(|error| refused("server", name, error))?;
        }
        Ok(())
    }
}

/// The place of the row of each entry: that with the same host and port, or else the only one left of the host if there
/// is only one such entry.
fn pairs(entries: &[FileEntry<MaskedServer>], rows: &[ServerRecord]) -> Vec<Option<usize>> {
    let mut free: Vec<usize> = (0..rows.len()).collect();
    let mut pairs: Vec<Option<usize>> = Vec::with_capacity(entries.len());
    for entry in entries {
        let is_same = |row: &ServerDefinition| row.host == entry.value.host && row.port == entry.value.port;
        let found =
            free.iter().position(|place| rows.get(*place).is_some_and(|row| is_same(&row.definition)));
        pairs.push(found.map(|position| free.remove(position)));
    }
    for (number, entry) in entries.iter().enumerate() {
        let host = &entry.value.host;
        let is_alone = |(pair, other): (&Option<usize>, &FileEntry<MaskedServer>)| {
            pair.is_none() && other.value.host == *host
        };
        let rivals = pairs.iter().zip(entries).filter(|pair| is_alone(*pair)).count();
        let of_host: Vec<usize> = free
            .iter()
            .copied()
            .filter(|place| rows.get(*place).is_some_and(|row| row.definition.host == *host))
            .collect();
        if let (Some(pair @ None), 1, [only]) = (pairs.get_mut(number), rivals, of_host.as_slice()) {
            *pair = Some(*only);
            free.retain(|place| place != only);
        }
    }
    pairs
}
