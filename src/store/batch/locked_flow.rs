//! Locks and reads the rows of the flows of a batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, QueryResult, Value};

use crate::domain::flow::{Action, endpoint_url};
use crate::domain::flow_options::{FlowOptions, SharedOptions, UnusableOptions};
use crate::domain::message::FlowId;
use crate::domain::message_key::MessageKey;
use crate::domain::processing::FlowState;
use crate::domain::schema::{PayloadSchema, SchemaError};
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::{marks, statement};

/// Options as parsed from a row.
type ParsedOptions = Result<SharedOptions, UnusableOptions>;

/// Most flows in a cache. Beyond it the cache starts again, so that deleted flows do not stay for ever.
const MAX_CACHED: usize = 16_384;

/// Compiled schemas and parsed options, by flow. They are compiled again after the text has changed.
#[derive(Debug, Default)]
pub(super) struct SchemaCache {
    compiled: HashMap<FlowId, (String, Arc<Result<PayloadSchema, SchemaError>>)>,
    /// With the action and the text from which they were parsed.
    options: HashMap<FlowId, (String, String, ParsedOptions)>,
}

impl SchemaCache {
    fn compiled(&mut self, flow: FlowId, text: String) -> Arc<Result<PayloadSchema, SchemaError>> {
        if let Some((known, schema)) = self.compiled.get(&flow)
            && *known == text
        {
            return Arc::clone(schema);
        }
        let schema = Arc::new(PayloadSchema::compile(&text));
        insert_bounded(&mut self.compiled, flow, (text, Arc::clone(&schema)));
        schema
    }

    fn options(&mut self, flow: FlowId, action: &str, text: Option<String>) -> ParsedOptions {
        let Some(text) = text else { return Ok(SharedOptions::default()) };
        match self.options.get(&flow) {
            Some((of_action, known, options)) if *of_action == *action && *known == text => options.clone(),
            _ => {
                let options = FlowOptions::parse_for(action, Some(&text)).map(FlowOptions::shared);
                insert_bounded(&mut self.options, flow, (action.to_owned(), text, options.clone()));
                options
            }
        }
    }
}

fn insert_bounded<T>(cache: &mut HashMap<FlowId, T>, flow: FlowId, parsed: T) {
    if cache.len() >= MAX_CACHED && !cache.contains_key(&flow) {
        cache.clear();
    }
    cache.insert(flow, parsed);
}

/// Most ids of one statement.
const CHUNK_IDS: usize = 512;

/// What happens if another client has locked a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfLocked {
    /// The statement waits for the row.
    Wait,
    /// The statement fails at once, with a lock timeout.
    Fail,
}

/// Locks the rows of `ids` and reads them. The ids are ascending, so that two transactions cannot deadlock. Missing
/// rows are left out.
pub(super) async fn lock_flows(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    ids: &[FlowId],
    if_locked: IfLocked,
    schemas: &mut SchemaCache,
) -> Result<BTreeMap<FlowId, FlowState>, StoreError> {
    let lock = match if_locked {
        IfLocked::Wait => dialect.for_update(),
        IfLocked::Fail => dialect.for_update_nowait(),
    };
    let mut flows = BTreeMap::new();
    for chunk in ids.chunks(CHUNK_IDS) {
        let padded = chunk.len().next_power_of_two();
        let values = padded_to(chunk, padded).map(Value::from);
        let statement = statement(connection.get_database_backend(), lock_sql(dialect, padded, lock), values);
        let rows = connection.query_all_raw(statement).await.while_doing("locking the flows")?;
        for row in rows {
            let flow = locked_flow(&row, schemas).while_doing("reading the locked flows")?;
            flows.insert(flow.id, flow);
        }
    }
    Ok(flows)
}

/// Repeats the last item, which keeps the number of statement shapes small.
pub(super) fn padded_to<T: Copy>(items: &[T], length: usize) -> impl Iterator<Item = T> {
    items.iter().copied().chain(items.last().copied().into_iter().cycle()).take(length)
}

/// Locks by primary key: on a small table the optimiser would prefer a scan, and lock every flow.
fn lock_sql(dialect: Dialect, ids: usize, lock: &str) -> String {
    format!(
        "SELECT {columns} FROM flows {index} WHERE id IN ({marks}) ORDER BY flows.id {lock}",
        columns = flow_columns(dialect, ""),
        index = dialect.by_primary_key(),
        marks = marks(ids),
    )
}

/// The columns of a flow; `of` precedes each of them.
pub(in crate::store) fn flow_columns(dialect: Dialect, of: &str) -> String {
    format!(
        "{id} AS id, {of}code, {of}action, {schema} AS payload_schema, {of}endpoint_url, {last} AS last_msg_id, \
         {enabled} AS enabled, {of}message_key, {options} AS options",
        id = dialect.wide(&format!("{of}id")),
        last = dialect.wide(&format!("{of}last_msg_id")),
        enabled = dialect.flag(&format!("{of}enabled")),
        schema = dialect.json_text(&format!("{of}payload_schema")),
        options = dialect.json_text(&format!("{of}options")),
    )
}

/// Reads a flow from a row with these columns.
pub(super) fn locked_flow(row: &QueryResult, schemas: &mut SchemaCache) -> Result<FlowState, sea_orm::DbErr> {
    let id: i64 = row.try_get("", "id")?;
    let schema: Option<String> = row.try_get("", "payload_schema")?;
    let url: Option<String> = row.try_get("", "endpoint_url")?;
    let message_key: Option<String> = row.try_get("", "message_key")?;
    let options: Option<String> = row.try_get("", "options")?;
    let action: String = row.try_get("", "action")?;
    let endpoint_url = endpoint_url(url.as_deref()).map(|url| Arc::from(url.as_str()));
    Ok(FlowState {
        id,
        code: row.try_get::<String>("", "code")?.into(),
        action: Action::parse(&action),
        schema: schemas.compiled(id, schema.unwrap_or_default()),
        endpoint_url,
        options: schemas.options(id, &action, options),
        last_message_id: row.try_get::<Option<i64>>("", "last_msg_id")?.unwrap_or(0),
        enabled: row.try_get::<Option<bool>>("", "enabled")?.unwrap_or(false),
        message_key: MessageKey::parse(message_key.as_deref()),
        taken: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_flows_do_not_stay_cached() {
        let mut cache = SchemaCache::default();
        let options = || Some("{}".to_owned());
        for flow in (0..).take(MAX_CACHED) {
            cache.compiled(flow, "{}".to_owned());
            assert!(cache.options(flow, "STORE_DB", options()).is_ok());
        }
        let kept = cache.compiled(0, "{}".to_owned());
        assert!(Arc::ptr_eq(&kept, &cache.compiled(0, "{}".to_owned())));
        cache.compiled(0, r#"{"n": "number"}"#.to_owned());
        assert_eq!((cache.compiled.len(), cache.options.len()), (MAX_CACHED, MAX_CACHED));
        cache.compiled(-1, "{}".to_owned());
        assert!(cache.options(-1, "STORE_DB", options()).is_ok());
        assert_eq!((cache.compiled.len(), cache.options.len()), (1, 1));
    }
}
