//! The routing table of each record.
//!
//! A new table applies to records that are appended later. Records in the inbox keep the table of their time, so a flow
//! with an edited topic still receives the messages of its old topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{FlowId, Offset};
use super::routing::RoutingTable;

/// Maximum number of filters in all tables together. It bounds the memory and the size of the file that is written at
/// each edit. Beyond it the oldest tables are dropped, and the next table applies to their records.
const MAX_FILTERS: usize = 250_000;

/// Minimum number of kept tables.
const MIN_TABLES: usize = 8;

const FORMAT: u32 = 1;

/// The tables that records of the inbox may need.
#[derive(Debug, Default)]
pub struct RoutingHistory {
    /// In ascending order of `from`.
    eras: Vec<Era>,
    /// Whether a table was read since the start of the process. Older tables apply to old records only.
    is_current: bool,
}

/// A table and its first offset.
#[derive(Debug)]
struct Era {
    from: Offset,
    table: Arc<RoutingTable>,
}

/// The flows of each filter.
type Routes = BTreeMap<String, Vec<FlowId>>;

#[derive(Serialize, Deserialize)]
struct StoredHistory {
    format: u32,
    tables: Vec<StoredEra>,
}

#[derive(Serialize, Deserialize)]
struct StoredEra {
    from: Offset,
    routes: Routes,
}

impl RoutingHistory {
    /// Adds a table for the records from offset `from` on. The first table applies to all earlier records too.
    pub fn push(&mut self, from: Offset, table: Arc<RoutingTable>) {
        let from = if self.eras.is_empty() { 0 } else { from };
        self.eras.retain(|era| era.from < from);
        self.eras.push(Era { from, table });
        self.drop_oldest();
        self.is_current = true;
    }

    /// Drops the oldest tables beyond the limit. A locked row can keep a record in the inbox while flows are edited
    /// often.
    fn drop_oldest(&mut self) {
        let mut filters = 0;
        let is_kept = |(place, era): &(usize, &Era)| {
            filters += era.table.filter_count();
            *place < MIN_TABLES || filters <= MAX_FILTERS
        };
        let kept = self.eras.iter().rev().enumerate().take_while(is_kept).count();
        self.eras.drain(..self.eras.len() - kept);
    }

    /// Returns the table for the record at `offset`, or `None` without any table.
    ///
    /// The oldest table applies to all earlier records too, because a lane may restart below the expected offset.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<&RoutingTable> {
        let era = self.eras.iter().rev().find(|era| era.from <= offset).or(self.eras.first());
        era.map(|era| &*era.table)
    }

    /// Drops the tables that only records below `offset` need.
    pub fn forget_below(&mut self, offset: Offset) {
        let current = self.eras.iter().rposition(|era| era.from <= offset);
        self.eras.drain(..current.unwrap_or(0));
    }

    /// Whether a table was read since the start of the process.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// The flows of the latest table, or `None` without any table.
    #[must_use]
    pub fn routed_last(&self) -> Option<BTreeSet<FlowId>> {
        let last = self.eras.last()?;
        Some(last.table.routes().flat_map(|(_, flows)| flows).copied().collect())
    }

    /// Serialises the history for the next start.
    #[must_use]
    pub fn to_text(&self) -> String {
        let tables = self.eras.iter().map(Era::to_stored).collect();
        // Strings and numbers always serialise.
        serde_json::to_string(&StoredHistory { format: FORMAT, tables }).unwrap_or_default()
    }

    /// Parses the text of [`Self::to_text`] of an earlier process. Returns `None` if the text is invalid.
    #[must_use]
    pub fn from_text(text: &str) -> Option<RoutingHistory> {
        let stored: StoredHistory =
            serde_json::from_str(text).ok().filter(|stored: &StoredHistory| stored.format == FORMAT)?;
        let mut eras: Vec<Era> = stored.tables.into_iter().map(Era::from_stored).collect();
        if let Some(oldest) = eras.first_mut() {
            oldest.from = 0;
        }
        Some(RoutingHistory { eras, is_current: false })
    }
}

impl Era {
    fn to_stored(&self) -> StoredEra {
        let routes = self.table.routes().map(|(filter, flows)| (filter.to_owned(), flows.to_vec())).collect();
        StoredEra { from: self.from, routes }
    }

    fn from_stored(stored: StoredEra) -> Era {
        Era { from: stored.from, table: Arc::new(RoutingTable::from_routes(stored.routes)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::flow::Flow;
    use super::super::message::SubscriptionId;
    use super::super::subscription_ids::Binding;
    use super::super::topic::tests::{all_topics, any_filter};
    use super::*;

    fn table(topics: &[(FlowId, &str)]) -> Arc<RoutingTable> {
        let flow = |&(id, topic): &(FlowId, &str)| Flow {
            id,
            code: format!("F{id}"),
            topic: topic.to_owned(),
            action: "STORE_DB".to_owned(),
            endpoint_url: None,
        };
        Arc::new(RoutingTable::new(topics.iter().map(flow).collect()).0)
    }

    /// The identifiers 1, 2 and 3 are bound to the filters `a`, `b` and `c`.
    fn routed(history: &RoutingHistory, offset: Offset, topic: &str, ids: &[SubscriptionId]) -> Vec<FlowId> {
        let filter_of = |id| ["a", "b", "c"].get(id as usize - 1).copied();
        let binding_of = |id| filter_of(id).map(|filter| Binding { filter, flows: &[] });
        let mut out = Vec::new();
        history.at(offset).unwrap().route(topic, ids, &binding_of, &mut out);
        out
    }

    #[test]
    fn record_uses_the_table_of_its_time() {
        let mut history = RoutingHistory::default();
        assert!(history.at(5).is_none() && !history.is_current());
        history.push(100, table(&[(1, "t")]));
        history.push(200, table(&[(2, "t")]));
        assert!(history.is_current());
        for (offset, expected) in [(5, 1), (199, 1), (200, 2), (900, 2)] {
            assert_eq!(routed(&history, offset, "t", &[]), [expected], "{offset}");
        }
    }

    #[test]
    fn unneeded_tables_are_dropped() {
        let mut history = RoutingHistory::default();
        history.push(0, table(&[(1, "t")]));
        history.push(200, table(&[(2, "t")]));
        history.forget_below(199);
        assert_eq!(history.eras.len(), 2);
        history.forget_below(200);
        assert_eq!(history.eras.len(), 1);
        assert_eq!(routed(&history, 300, "t", &[]), [2]);
        assert_eq!(routed(&history, 150, "t", &[]), [2], "the oldest table applies to earlier records");
    }

    #[test]
    fn restored_tables_serve_old_records_only() {
        let mut history = RoutingHistory::default();
        history.push(100, table(&[(7, "a")]));
        history.push(200, table(&[(7, "b")]));
        history.forget_below(200);

        let mut history = RoutingHistory::from_text(&history.to_text()).unwrap();
        assert!(!history.is_current());
        history.push(1 << 40, table(&[(7, "c")]));
        assert!(history.is_current());
        // Old records, at any offset.
        for offset in [1, 250, (1 << 40) - 1] {
            assert_eq!(routed(&history, offset, "b", &[]), [7], "{offset}");
        }
        assert!(routed(&history, 1 << 40, "b", &[]).is_empty());
        assert_eq!(routed(&history, 1 << 40, "c", &[]), [7]);
    }

    #[test]
    fn invalid_text_is_no_history() {
        for text in ["", "{}", r#"{"format":2,"tables":[]}"#] {
            assert!(RoutingHistory::from_text(text).is_none(), "{text}");
        }
    }

    #[test]
    fn remembered_filters_are_bounded() {
        let many: Vec<String> = (0..MAX_FILTERS / 20).map(|n| format!("t{n}")).collect();
        let many: Vec<(FlowId, &str)> = many.iter().map(|topic| (1, topic.as_str())).collect();
        let mut history = RoutingHistory::default();
        for turn in 0..30 {
            history.push(turn, table(&many));
        }
        assert_eq!(history.eras.len(), 20);
        let stored = RoutingHistory::from_text(&history.to_text()).unwrap();
        assert_eq!((stored.eras[0].from, stored.eras[1].from), (0, 11), "the newest");
    }

    proptest! {
        #[test]
        fn routing_survives_a_restart(
            turns in prop::collection::vec(
                prop::collection::vec((1..5_i64, any_filter()), 0..5), 1..30),
            topic in prop::sample::select(all_topics()),
        ) {
            let mut history = RoutingHistory::default();
            for (turn, flows) in (0..).zip(&turns) {
                let flows: Vec<_> = flows.iter().map(|(id, filter)| (*id, filter.as_str())).collect();
                history.push(turn, table(&flows));
            }
            let stored = RoutingHistory::from_text(&history.to_text()).unwrap();
            for offset in 0..turns.len() as Offset {
                for ids in [&[][..], &[1], &[2, 3]] {
                    prop_assert_eq!(
                        routed(&history, offset, &topic, ids),
                        routed(&stored, offset, &topic, ids)
                    );
                }
            }
        }
    }
}
