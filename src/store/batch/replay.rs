//! Replays dead letters: puts each through its flow as the flow is now, and deletes it, in one transaction.
//!
//! A step locks the rows of its letters first, and then the rows of the flows, both ascending by primary key. Workers
//! and delivery only insert dead letters, so the order of their locks is unaffected. The owner of new posts comes
//! before the posts, as in a claim. Two replays of the same letters
//! wait for each other, and the second one finds no rows. After a kill each letter is either replayed or unchanged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};

use super::BatchRules;
use super::counters::write_counters;
use super::insert::WriteContext;
use super::keys::load_keys;
use super::locked_flow::{IfLocked, SchemaCache, lock_flows, padded_to};
use super::part::{BatchPart, FlowScope};
use super::suspects::refusal_of;
use super::transaction::{commit, roll_back};
use super::writes::{DETAIL_CHARS, write_rows};
use crate::domain::batch::{BatchEntry, ProcessError, ProcessResult, Rejection};
use crate::domain::dead_letter::{DeadLetter, NotReplayable, ReplayOutcome, ReplayPath, ReplayedLetter};
use crate::domain::flow::Action;
use crate::domain::message::{Body, DeliveryFacts, FlowId, Record};
use crate::domain::processing::{
    DeadLetterRow, MessageProcessor, ParsedMessage, PoisonMessages, ProcessingOutcome,
};
use crate::domain::routing::RoutingTable;
use crate::store::connect::{Database, answer_timeout, with_timeout};
use crate::store::dead_letters::{LETTER_COLUMNS, dead_letter};
use crate::store::error::{ErrorClass, StoreError, While};
use crate::store::outbox::owner_insertion;
use crate::store::sentence::sentence;
use crate::store::statement::{marks, statement};

/// Most letters of one transaction.
const MAX_LETTERS: usize = 64;

/// Payload bytes of one transaction, unless one letter has more.
const MAX_BYTES: i64 = 4 << 20;

/// Attempts of a step that the database rolls back in favour of another transaction.
const MAX_DEADLOCKS: u32 = 10;

/// Replays dead letters by the rules of the workers.
#[derive(Debug)]
pub struct LetterReplay {
    database: Database,
    rules: BatchRules,
    /// The flows of letters without a flow.
    routes: RoutingTable,
    mode: ReplayMode,
    schemas: SchemaCache,
}

/// Whether a replay counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayMode {
    /// Each transaction is committed.
    Commit,
    /// Each transaction is rolled back: a rehearsal, which changes nothing.
    RollBack,
}

/// Ids of letters of one inbox, for one transaction.
#[derive(Debug, PartialEq, Eq)]
struct ReplayStep {
    inbox_id: Arc<str>,
    ids: Vec<i64>,
}

/// A letter as it is known before it is locked.
struct UnlockedLetter {
    id: i64,
    inbox_id: Arc<str>,
    bytes: i64,
}

/// A letter with the flows that it goes to.
struct Addressed {
    letter: DeadLetter,
    path: Result<ReplayPath, NotReplayable>,
    entry: BatchEntry,
}

impl LetterReplay {
    /// Replays with `rules`; the inbox of each letter replaces theirs. Letters without a flow go to `routes`.
    #[must_use]
    pub fn new(database: Database, rules: BatchRules, routes: RoutingTable, mode: ReplayMode) -> Self {
        Self { database, rules, routes, mode, schemas: SchemaCache::default() }
    }

    /// Replays the letters `ids` in transactions of bounded size, in ascending order, and calls `done` after each. The
    /// row of a flow or letter that is locked elsewhere is waited for as by a worker.
    ///
    /// # Errors
    /// The database failed, or a row stayed locked. The current transaction may have no effect, and those before it
    /// are reported to `done`. The same replay may be repeated.
    pub async fn replay(
        &mut self,
        ids: &[i64],
        done: &mut (dyn FnMut(Vec<ReplayedLetter>) + Send),
    ) -> Result<(), StoreError> {
        let wanted: BTreeSet<i64> = ids.iter().copied().collect();
        let known = with_timeout(answer_timeout(), self.read_known(&wanted)).await?;
        let gone = wanted.iter().filter(|id| !known.iter().any(|known| known.id == **id));
        let gone: Vec<ReplayedLetter> = gone.map(|id| replayed(*id, ReplayOutcome::Gone)).collect();
        if !gone.is_empty() {
            done(gone);
        }
        for step in steps(known) {
            self.replay_step(&step, done).await?;
        }
        Ok(())
    }

    async fn read_known(&self, ids: &BTreeSet<i64>) -> Result<Vec<UnlockedLetter>, StoreError> {
        const DOING: &str = "reading the dead letters";
        let dialect = self.database.dialect;
        let ids: Vec<i64> = ids.iter().copied().collect();
        let mut known = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LETTERS) {
            let sql = format!(
                "SELECT id, inbox_id, {} AS bytes FROM dead_letters WHERE id IN ({}) ORDER BY id",
                dialect.integer("LENGTH(payload)"),
                marks(chunk.len().next_power_of_two()),
            );
            let values = padded_to(chunk, chunk.len().next_power_of_two()).map(Value::from);
            let query = statement(dialect.backend(), sql, values);
            let rows = self.database.connection.query_all_raw(query).await.while_doing(DOING)?;
            let read = |row: &QueryResult| {
                let inbox_id: String = row.try_get("", "inbox_id")?;
                let (id, bytes) = (row.try_get("", "id")?, row.try_get("", "bytes")?);
                Ok(UnlockedLetter { id, inbox_id: inbox_id.into(), bytes })
            };
            known.extend(rows.iter().map(read).collect::<Result<Vec<_>, _>>().while_doing(DOING)?);
        }
        Ok(known)
    }

    /// Replays a step in one transaction. If the database rejects its rows, the letters are replayed one by one.
    async fn replay_step(
        &mut self,
        step: &ReplayStep,
        done: &mut (dyn FnMut(Vec<ReplayedLetter>) + Send),
    ) -> Result<(), StoreError> {
        match self.attempt(step, &PoisonMessages::new()).await {
            Ok(replayed) => done(replayed),
            Err(error) if error.class() == ErrorClass::Poison => {
                for id in &step.ids {
                    let step = ReplayStep { inbox_id: Arc::clone(&step.inbox_id), ids: vec![*id] };
                    let replayed = self.replay_single(&step).await?;
                    done(replayed);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn replay_single(&mut self, step: &ReplayStep) -> Result<Vec<ReplayedLetter>, StoreError> {
        let refusal = match self.attempt(step, &PoisonMessages::new()).await {
            Err(error) if error.class() == ErrorClass::Poison => error,
            attempted => return attempted,
        };
        let Some(poison) = self.examine(step, &refusal).await? else {
            let cause = NotReplayable::Database(refusal.to_string());
            let letter = |id: &i64| replayed(*id, ReplayOutcome::NotReplayable(cause.clone()));
            return Ok(step.ids.iter().map(letter).collect());
        };
        self.attempt(step, &poison).await
    }

    /// The flows for which the database rejects the only letter of a step, with the errors; `None` for a post.
    async fn examine(
        &mut self,
        step: &ReplayStep,
        refusal: &StoreError,
    ) -> Result<Option<PoisonMessages>, StoreError> {
        let rules = self.rules.with_inbox(&step.inbox_id);
        let letters = self.read(&self.database.connection, &step.ids, "").await?;
        let Some(letter) = letters.into_iter().map(|letter| self.address(letter)).next() else {
            return Ok(Some(PoisonMessages::new()));
        };
        if letter.entry.flows.is_empty() {
            return Ok(None);
        }
        let message = ParsedMessage::new(&letter.entry, &rules.processing.payload);
        let (no_flows, nothing) = (BTreeSet::new(), PoisonMessages::new());
        let mut poison = PoisonMessages::new();
        for flow in &letter.entry.flows {
            let part = BatchPart {
                scope: FlowScope::Only(*flow),
                ..part(std::slice::from_ref(&message), &no_flows, &nothing)
            };
            let tried =
                refusal_of(&self.database, &rules, &mut self.schemas, &part, *flow, answer_timeout()).await?;
            poison.extend(tried.map(|error| ((0, *flow), error.to_string())));
        }
        log::debug!("Dead letter {}: {refusal}", letter.letter.id);
        Ok(Some(poison))
    }

    /// Replays a step in one transaction.
    async fn attempt(
        &mut self,
        step: &ReplayStep,
        poison: &PoisonMessages,
    ) -> Result<Vec<ReplayedLetter>, StoreError> {
        let mut deadlocks = 0;
        loop {
            match with_timeout(answer_timeout(), self.try_once(step, poison)).await {
                Err(error) if error.class() == ErrorClass::Deadlock && deadlocks < MAX_DEADLOCKS => {
                    deadlocks += 1;
                }
                attempted => return attempted,
            }
        }
    }

    async fn try_once(
        &mut self,
        step: &ReplayStep,
        poison: &PoisonMessages,
    ) -> Result<Vec<ReplayedLetter>, StoreError> {
        let transaction = self.database.begin().await?;
        match self.replay_within(&transaction, step, poison).await {
            Ok(replayed) if self.mode == ReplayMode::Commit => {
                commit(transaction).await?;
                Ok(replayed)
            }
            not_committed => roll_back(transaction, not_committed).await,
        }
    }

    async fn replay_within(
        &mut self,
        transaction: &DatabaseTransaction,
        step: &ReplayStep,
        poison: &PoisonMessages,
    ) -> Result<Vec<ReplayedLetter>, StoreError> {
        let rules = self.rules.with_inbox(&step.inbox_id);
        let dialect = self.database.dialect;
        let letters = self.read(transaction, &step.ids, dialect.for_update()).await?;
        let letters: Vec<Addressed> = letters.into_iter().map(|letter| self.address(letter)).collect();
        let messages: Vec<ParsedMessage<'_>> = letters
            .iter()
            .map(|letter| ParsedMessage::new(&letter.entry, &rules.processing.payload))
            .collect();
        let flows: Vec<FlowId> =
            letters.iter().flat_map(Addressed::flows).collect::<BTreeSet<_>>().into_iter().collect();
        let locked = lock_flows(transaction, dialect, &flows, IfLocked::Wait, &mut self.schemas).await?;
        let waiting = self.count_waiting(transaction, &flows).await?;
        let no_flows = BTreeSet::new();
        let part = part(&messages, &no_flows, poison);
        let keys = load_keys(transaction, dialect, &locked, &part, rules.processing.key_retention).await?;
        let waiting = |flow| waiting.get(&flow).copied().unwrap_or(0);
        let mut processor = MessageProcessor::new(&rules.processing, locked, keys, poison, &waiting);
        for ((index, message), letter) in part.numbered_messages().zip(&letters) {
            letter.process(&mut processor, index, message);
        }
        let mut processed = processor.into_outcome();
        let (replayed, changes) = sort_results(&letters, &messages, &mut processed);
        if !processed.posts.is_empty() {
            // If its process is long gone, another one claims the posts.
            let owner = owner_insertion(dialect, &step.inbox_id, Duration::ZERO);
            transaction.execute_raw(owner).await.while_doing("adding the owner of posts")?;
        }
        write_rows(transaction, &WriteContext::new(&self.database, &rules), &processed).await?;
        write_counters(transaction, dialect, &processed.counters).await?;
        self.write_changes(transaction, &changes).await?;
        let found: BTreeSet<i64> = letters.iter().map(|letter| letter.letter.id).collect();
        let gone = step.ids.iter().filter(|id| !found.contains(id));
        Ok(replayed.into_iter().chain(gone.map(|id| self::replayed(*id, ReplayOutcome::Gone))).collect())
    }

    /// Reads the letters, ascending by primary key; `lock` ends the statement.
    async fn read(
        &self,
        connection: &impl ConnectionTrait,
        ids: &[i64],
        lock: &str,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let dialect = self.database.dialect;
        let padded = ids.len().next_power_of_two();
        let sql = format!(
            "SELECT {LETTER_COLUMNS} FROM dead_letters{} WHERE id IN ({}) ORDER BY id{lock}",
            dialect.by_primary_key(),
            marks(padded),
        );
        let query = statement(dialect.backend(), sql, padded_to(ids, padded).map(Value::from));
        let rows = connection.query_all_raw(query).await.while_doing("locking the dead letters")?;
        rows.iter().map(dead_letter).collect::<Result<_, _>>().while_doing("reading the dead letters")
    }

    fn address(&self, letter: DeadLetter) -> Addressed {
        let path = letter.replay_path();
        let flows = match path {
            Ok(ReplayPath::Flow(flow)) => vec![flow],
            Ok(ReplayPath::Topic) => self.routes.flows_of_topic(&letter.topic),
            Ok(ReplayPath::Post { .. }) | Err(_) => Vec::new(),
        };
        let path = match path {
            Ok(ReplayPath::Topic) if flows.is_empty() => Err(NotReplayable::NoFlow),
            path => path,
        };
        let record = Record {
            offset: letter.inbox_offset,
            received_at_us: letter.received_at_us,
            topic: letter.topic.clone(),
            body: Body::Whole(letter.payload.clone()),
            delivery: DeliveryFacts::default(),
        };
        let entry = BatchEntry { record: record.into(), flows, reports_invalid_payload: true };
        Addressed { letter, path, entry }
    }

    /// Counts the rows of the flows in the outbox. The owners lead to its index.
    async fn count_waiting(
        &self,
        transaction: &DatabaseTransaction,
        flows: &[FlowId],
    ) -> Result<HashMap<FlowId, u64>, StoreError> {
        const DOING: &str = "counting the outbox";
        if flows.is_empty() {
            return Ok(HashMap::new());
        }
        let padded = flows.len().next_power_of_two();
        let sql = format!(
            "SELECT flow_id, COUNT(*) AS row_count FROM outbox \
             WHERE owner IN (SELECT owner FROM outbox_owners) AND flow_id IN ({}) GROUP BY flow_id",
            marks(padded),
        );
        let values = padded_to(flows, padded).map(Value::from);
        let query = statement(self.database.dialect.backend(), sql, values);
        let rows = transaction.query_all_raw(query).await.while_doing(DOING)?;
        let count = |row: &QueryResult| {
            let rows: i64 = row.try_get("", "row_count")?;
            Ok((row.try_get("", "flow_id")?, rows.unsigned_abs()))
        };
        rows.iter().map(count).collect::<Result<_, sea_orm::DbErr>>().while_doing(DOING)
    }

    /// Deletes the letters that are done, and writes the new reasons of the others.
    async fn write_changes(
        &self,
        transaction: &DatabaseTransaction,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        const DOING: &str = "removing the dead letters";
        let dialect = self.database.dialect;
        if !changes.deleted.is_empty() {
            let padded = changes.deleted.len().next_power_of_two();
            let sql = format!("DELETE FROM dead_letters WHERE id IN ({})", marks(padded));
            let values = padded_to(&changes.deleted, padded).map(Value::from);
            transaction.execute_raw(statement(dialect.backend(), sql, values)).await.while_doing(DOING)?;
        }
        for (id, rejection) in &changes.refused {
            let sql = format!(
                "UPDATE dead_letters SET occurred_at = {}, flow_id = COALESCE(?, flow_id), \
                 flow_code = COALESCE(?, flow_code), message_id = COALESCE(?, message_id), reason = ?, detail = ? \
                 WHERE id = ?",
                dialect.now()
            );
            let flow = rejection.flow.as_ref();
            let values = [
                Value::from(flow.map(|(id, _)| *id)),
                Value::from(flow.and_then(|(_, code)| code.as_deref())),
                Value::from(rejection.message_id),
                Value::from(rejection.reason.as_str()),
                Value::from(sentence(&rejection.detail, DETAIL_CHARS)),
                Value::from(*id),
            ];
            transaction.execute_raw(statement(dialect.backend(), sql, values)).await.while_doing(DOING)?;
        }
        Ok(())
    }
}

impl Addressed {
    /// The flows to lock.
    fn flows(&self) -> Vec<FlowId> {
        match &self.path {
            Ok(ReplayPath::Post { flow, .. }) => vec![*flow],
            Ok(_) => self.entry.flows.clone(),
            Err(_) => Vec::new(),
        }
    }

    fn process<'a>(
        &'a self,
        processor: &mut MessageProcessor<'_, 'a>,
        index: usize,
        message: &'a ParsedMessage<'a>,
    ) {
        match &self.path {
            Ok(ReplayPath::Post { flow, message_id }) => {
                let code = self.letter.flow_code.as_deref().map(Arc::from);
                processor.post_again(&self.entry.record, *flow, *message_id, code);
            }
            Ok(_) => processor.process(index, message, message.flows.iter().copied()),
            Err(_) => {}
        }
    }

    /// Number of results that the rules give for it.
    fn result_count(&self, message: &ParsedMessage<'_>) -> usize {
        match (&self.path, &message.payload) {
            (Err(_), _) => 0,
            (Ok(ReplayPath::Post { .. }), _) | (Ok(_), Err(_)) => 1,
            (Ok(_), Ok(_)) => message.flows.len(),
        }
    }
}

/// The changes of the locked rows.
#[derive(Debug, Default)]
struct Changes {
    deleted: Vec<i64>,
    refused: Vec<(i64, Rejection)>,
}

/// Assigns the results to their letters. The first rejection of a letter replaces its reason, and the others become
/// dead letters of their flows.
fn sort_results<'a>(
    letters: &'a [Addressed],
    messages: &[ParsedMessage<'_>],
    processed: &mut ProcessingOutcome<'a>,
) -> (Vec<ReplayedLetter>, Changes) {
    let mut results = std::mem::take(&mut processed.results).into_iter();
    processed.dead_letters.clear();
    let (mut replayed, mut changes) = (Vec::with_capacity(letters.len()), Changes::default());
    for (letter, message) in letters.iter().zip(messages) {
        let id = letter.letter.id;
        if let Err(cause) = &letter.path {
            replayed.push(self::replayed(id, ReplayOutcome::NotReplayable(cause.clone())));
            continue;
        }
        let results: Vec<_> = results.by_ref().take(letter.result_count(message)).collect();
        let mut rejections = results.iter().filter_map(|result| match result {
            Err(ProcessError::Rejected(rejection)) => Some(rejection.clone()),
            _ => None,
        });
        match rejections.next() {
            Some(rejection) => changes.refused.push((id, rejection)),
            None => changes.deleted.push(id),
        }
        let record: &'a Record = &letter.entry.record;
        processed.dead_letters.extend(rejections.map(|rejection| DeadLetterRow { record, rejection }));
        replayed.push(ReplayedLetter { id, outcomes: results.into_iter().map(outcome).collect() });
    }
    (replayed, changes)
}

fn outcome(result: Result<ProcessResult, ProcessError>) -> ReplayOutcome {
    match result {
        Ok(ProcessResult { message_id, action: Action::StoreDb, .. }) => ReplayOutcome::Stored { message_id },
        Ok(ProcessResult { message_id, action: Action::PostEndpoint, .. }) => {
            ReplayOutcome::Posted { message_id }
        }
        Err(ProcessError::Repeated { message_id, .. }) => ReplayOutcome::Repeated { message_id },
        Err(ProcessError::Rejected(Rejection { reason, detail, .. })) => {
            ReplayOutcome::Refused { reason, detail }
        }
    }
}

fn replayed(id: i64, outcome: ReplayOutcome) -> ReplayedLetter {
    ReplayedLetter { id, outcomes: vec![outcome] }
}

/// All messages, for all their flows.
fn part<'a>(
    messages: &'a [ParsedMessage<'a>],
    no_flows: &'a BTreeSet<FlowId>,
    poison: &'a PoisonMessages,
) -> BatchPart<'a> {
    let range: Range<usize> = 0..messages.len();
    BatchPart {
        messages,
        range,
        scope: FlowScope::Except(no_flows),
        if_locked: IfLocked::Wait,
        poison,
        draft: None,
        waits: None,
    }
}

/// Divides the letters into transactions, each of one inbox: the inbox is part of the keys.
fn steps(known: Vec<UnlockedLetter>) -> Vec<ReplayStep> {
    let mut inboxes: BTreeMap<Arc<str>, Vec<(ReplayStep, i64)>> = BTreeMap::new();
    for UnlockedLetter { id, inbox_id, bytes } in known {
        let steps = inboxes.entry(Arc::clone(&inbox_id)).or_default();
        match steps.last_mut() {
            Some((step, total)) if step.ids.len() < MAX_LETTERS && *total + bytes <= MAX_BYTES => {
                step.ids.push(id);
                *total += bytes;
            }
            _ => steps.push((ReplayStep { inbox_id, ids: vec![id] }, bytes)),
        }
    }
    let mut steps: Vec<ReplayStep> = inboxes.into_values().flatten().map(|(step, _)| step).collect();
    steps.sort_by_key(|step| step.ids.first().copied());
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_hold_each_letter_once_and_stay_small(
            letters in prop::collection::vec((0..3_usize, 0..3 * MAX_BYTES / 2), 0..200),
        ) {
            let known = letters.iter().zip(1..).map(|((inbox, bytes), id)| UnlockedLetter {
                id,
                inbox_id: ["a", "b", "c"].get(*inbox).copied().unwrap_or_default().into(),
                bytes: *bytes,
            });
            let steps = steps(known.collect());
            let mut ids: Vec<i64> = Vec::new();
            for step in &steps {
                prop_assert!(step.ids.is_sorted() && step.ids.len() <= MAX_LETTERS);
                let letter = |id: &i64| letters.get(usize::try_from(*id - 1).unwrap_or(0)).copied().unwrap_or_default();
                let bytes: i64 = step.ids.iter().map(|id| letter(id).1).sum();
                prop_assert!(step.ids.len() == 1 || bytes <= MAX_BYTES);
                prop_assert!(step.ids.iter().all(|id| letter(id).0 == letter(&step.ids[0]).0));
                ids.extend(&step.ids);
            }
            ids.sort_unstable();
            prop_assert_eq!(ids, (1..=i64::try_from(letters.len()).unwrap_or(0)).collect::<Vec<_>>());
        }
    }
}
