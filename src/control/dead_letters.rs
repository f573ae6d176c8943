//! Reads, replays and discards dead letters.

use std::sync::Arc;

use super::{Control, ControlError};
use crate::domain::dead_letter::{DeadLetter, LetterFilter, ReplayedLetter};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::processing::ProcessingRules;
use crate::domain::routing::RoutingTable;
use crate::store::{
    self, BatchRules, Database, LetterCount, LetterReplay, LetterSummary, OutboxGauge, ReplayMode,
};

const WHAT: &str = "dead letter";

/// Letters that a page counts or searches: more take longer than a person waits.
pub const NEWEST_LETTERS: u64 = 10_000;

/// Letters that are exported at once: their payloads are in memory.
const EXPORT_LETTERS: usize = 32;

/// The dead letters that a use case works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterSelection {
    /// Those with these ids.
    Ids(Vec<i64>),
    /// Those that a filter selects when the use case begins.
    Filter(LetterFilter),
}

impl Control {
    /// The dead letters that `filter` selects and whose id is below `before`, the newest first.
    pub async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<LetterSummary>, ControlError> {
        Ok(store::list_letters(&self.database, filter, before, limit).await?)
    }

    /// The number of selected dead letters by flow and reason.
    pub async fn dead_letter_counts(&self, filter: &LetterFilter) -> Result<Vec<LetterCount>, ControlError> {
        Ok(store::count_letters(&self.database, filter).await?)
    }

    /// The filter for only the [newest](NEWEST_LETTERS) letters below `before`, of its flow if it has one. Without `above`
    /// these are all.
    pub async fn among_newest(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
    ) -> Result<LetterFilter, ControlError> {
        let flow = filter.flow.as_deref();
        let above = store::letter_before_newest(&self.database, flow, before, NEWEST_LETTERS).await?;
        Ok(LetterFilter { above, ..filter.clone() })
    }

    /// The highest id of a dead letter, 0 without any.
    pub async fn last_dead_letter(&self) -> Result<i64, ControlError> {
        Ok(store::last_letter(&self.database).await?)
    }

    /// One dead letter with its payload.
    pub async fn dead_letter(&self, id: i64) -> Result<DeadLetter, ControlError> {
        let letter = store::read_letters(&self.database, &[id]).await?.pop();
        let remedy = "`mqtt-gateway dead-letters list` shows the ids";
        letter.ok_or_else(|| ControlError::not_found(WHAT, &id.to_string(), remedy))
    }

    /// The dead letter with this id, and its flow, if that is there.
    pub async fn letter_with_flow(&self, id: i64) -> Result<(DeadLetter, Option<FlowRecord>), ControlError> {
        let letter = self.dead_letter(id).await?;
        let flow = match letter.flow_id {
            Some(flow) => store::read_these_flows(&self.database, &[flow]).await?.pop(),
            None => None,
        };
        Ok((letter, flow))
    }

    /// Upper bound of the number of selected dead letters.
    pub async fn count_selected(&self, selection: &LetterSelection) -> Result<u64, ControlError> {
        Ok(match selection {
            LetterSelection::Ids(ids) => ids.len() as u64,
            LetterSelection::Filter(filter) => {
                self.dead_letter_counts(filter).await?.iter().map(|count| count.rows).sum()
            }
        })
    }

    /// Replays dead letters in small transactions, the oldest first, and calls `done` after each. A letter that is
    /// refused again is tried once: later dead letters are not part of the selection.
    pub async fn replay(
        &self,
        selection: &LetterSelection,
        mode: ReplayMode,
        done: &mut (dyn FnMut(Vec<ReplayedLetter>) + Send),
    ) -> Result<(), ControlError> {
        let settings = &self.settings;
        let database = Database::connect_with(&settings.database, 2, settings.flow_lock_wait).await?;
        let processing = ProcessingRules::new(
            Arc::from(""),
            settings.value_style,
            settings.limits,
            store::load_limits(&database).await?,
            settings.outbox.max_rows_per_flow,
            settings.keys_known_for,
        );
        let rules = BatchRules { processing, gauge: Arc::new(OutboxGauge::default()) };
        let (routes, _) = RoutingTable::new(store::load_flows(&database).await?);
        let mut replay = LetterReplay::new(database, rules, routes, mode);
        self.for_each_page(selection, async |ids| Ok(replay.replay(ids, done).await?)).await
    }

    /// Deletes dead letters, and returns how many there were. Calls `done` with the number of each step.
    pub async fn discard(
        &self,
        selection: &LetterSelection,
        done: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ControlError> {
        self.for_each_page(selection, async |ids| {
            done(store::discard_letters(&self.database, ids).await?);
            Ok(())
        })
        .await
    }

    /// Reads all selected dead letters with their payloads, the oldest first. `take` returns whether it wants more.
    pub async fn export(
        &self,
        filter: &LetterFilter,
        mut take: impl AsyncFnMut(DeadLetter) -> bool,
    ) -> Result<(), ControlError> {
        let mut wants_more = true;
        self.for_each_page(&LetterSelection::Filter(filter.clone()), async |ids| {
            for chunk in ids.chunks(EXPORT_LETTERS) {
                if !wants_more {
                    break;
                }
                for letter in store::read_letters(&self.database, chunk).await? {
                    wants_more = wants_more && take(letter).await;
                }
            }
            Ok(())
        })
        .await
    }

    /// Calls `work` with the ids of the selection, page by page, ascending.
    async fn for_each_page(
        &self,
        selection: &LetterSelection,
        mut work: impl AsyncFnMut(&[i64]) -> Result<(), ControlError>,
    ) -> Result<(), ControlError> {
        let filter = match selection {
            LetterSelection::Ids(ids) => return work(ids).await,
            LetterSelection::Filter(filter) => filter,
        };
        let last = store::last_letter(&self.database).await?;
        let mut after = Some(0);
        while let Some(start) = after {
            let (ids, next) = store::select_letters(&self.database, filter, (start, last)).await?;
            work(&ids).await?;
            after = next;
        }
        Ok(())
    }
}
