//! Which routing table is for which record.
//!
//! A table is for the records appended after it was swapped in. Records that were already in the
//! inbox keep the table of their time: a flow whose topic was edited still gets what the broker
//! handed over for its old one.
//!
//! The broker, too, may still hold messages of a filter that is unsubscribed by now: UNSUBACK ends
//! the matching, not the queue. They name the filter by its identifier, so each table comes with the
//! filters that no flow has any more, and with the flows that had them last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{FlowId, Offset, SubscriptionId};
use super::routing::{RoutingTable, sort_and_deduplicate_from};

/// Most filters that are remembered after their end. Beyond it only those that ended last are.
const MAX_FORMER: usize = 50_000;

/// Filters that are remembered, those of all tables counted together: it bounds the memory, and the size of a text
/// that is written at each edit. Where there are more, the oldest table that is left stands for those before it.
const MAX_FILTERS: usize = 250_000;

/// Tables that are remembered in any case.
const MIN_TABLES: usize = 8;

const FORMAT: u32 = 1;

/// The tables that records of the inbox may still need.
#[derive(Debug, Default)]
pub struct RoutingHistory {
    /// Ascending.
    eras: Vec<Era>,
    /// A table was read since the process has started; what is from before it is for old records.
    is_current: bool,
}

/// A table and the first offset it is for.
#[derive(Debug)]
pub struct Era {
    from: Offset,
    table: Arc<RoutingTable>,
    former: Routes,
}

/// The flows of each filter.
type Routes = BTreeMap<String, Vec<FlowId>>;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    tables: Vec<KeptEra>,
}

#[derive(Serialize, Deserialize)]
struct KeptEra {
    from: Offset,
    routes: Routes,
    former: Routes,
}

impl RoutingHistory {
    /// `table` is for records from `from` on. The first table is for everything before it, too.
    pub fn push(&mut self, from: Offset, table: Arc<RoutingTable>) {
        let from = if self.eras.is_empty() { 0 } else { from };
        let former = self.eras.last().map_or_else(Routes::default, |last| last.former_under(&table));
        self.eras.retain(|era| era.from < from);
        self.eras.push(Era { from, table, former });
        self.forget_beyond_the_bound();
        self.is_current = true;
    }

    /// A record may be needed for as long as a row stays locked, and be edited around all that time.
    fn forget_beyond_the_bound(&mut self) {
        let mut filters = 0;
        let is_kept = |(place, era): &(usize, &Era)| {
            filters += era.filters();
            *place < MIN_TABLES || filters <= MAX_FILTERS
        };
        let kept = self.eras.iter().rev().enumerate().take_while(is_kept).count();
        self.eras.drain(..self.eras.len() - kept);
    }

    /// The table for the record at `offset`; `None` until there is one. The oldest that is left is for everything
    /// before it, too: a lane may begin again below all that was thought to be done.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<&Era> {
        self.eras.iter().rev().find(|era| era.from <= offset).or(self.eras.first())
    }

    /// No record below `offset` will be asked for again.
    pub fn forget_below(&mut self, offset: Offset) {
        let current = self.eras.iter().rposition(|era| era.from <= offset);
        self.eras.drain(..current.unwrap_or(0));
    }

    /// Whether a table was read since the process has started.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// The flows of the latest table; none where there never was one.
    #[must_use]
    pub fn routed_last(&self) -> Option<BTreeSet<FlowId>> {
        let last = self.eras.last()?;
        Some(last.table.routes().flat_map(|(_, flows)| flows).copied().collect())
    }

    /// All of it as a text, for the next start.
    #[must_use]
    pub fn to_text(&self) -> String {
        let tables = self.eras.iter().map(Era::to_kept).collect();
        // Texts and numbers can always be written.
        serde_json::to_string(&Kept { format: FORMAT, tables }).unwrap_or_default()
    }

    /// What [`Self::to_text`] gave to an earlier process: for the records that are still there from
    /// its time. `None` when it is no such text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<RoutingHistory> {
        let kept: Kept = serde_json::from_str(text).ok().filter(|kept: &Kept| kept.format == FORMAT)?;
        let mut eras: Vec<Era> = kept.tables.into_iter().map(Era::from_kept).collect();
        if let Some(oldest) = eras.first_mut() {
            oldest.from = 0;
        }
        Some(RoutingHistory { eras, is_current: false })
    }
}

impl Era {
    /// As [`RoutingTable::route`]; a copy that came by a filter which no flow has any more belongs to
    /// the flows that had it last.
    pub fn route<'f>(
        &self,
        topic: &str,
        ids: &[SubscriptionId],
        filter_of: &dyn Fn(SubscriptionId) -> Option<&'f str>,
        out: &mut Vec<FlowId>,
    ) {
        let start = out.len();
        self.table.route(topic, ids, filter_of, out);
        if self.former.is_empty() {
            return;
        }
        let filters: Option<Vec<&str>> = ids.iter().map(|id| filter_of(*id)).collect();
        let before_former = out.len();
        for filter in filters.unwrap_or_default() {
            out.extend(self.former.get(filter).into_iter().flatten());
        }
        if out.len() > before_former {
            sort_and_deduplicate_from(start, out);
        }
    }

    /// The filters that are former ones once `next` has followed.
    fn former_under(&self, next: &RoutingTable) -> Routes {
        let is_over = |filter: &str| next.flows_of_filter(filter).is_empty();
        let ending = self.table.routes().filter(|(filter, _)| is_over(filter));
        let mut former: Routes = ending.map(|(filter, flows)| (filter.to_owned(), flows.to_vec())).collect();
        if former.len() + self.former.len() <= MAX_FORMER {
            let longer_over = self.former.iter().filter(|(filter, _)| is_over(filter));
            former.extend(longer_over.map(|(filter, flows)| (filter.clone(), flows.clone())));
        }
        former
    }

    fn filters(&self) -> usize {
        self.table.filter_count() + self.former.len()
    }

    fn to_kept(&self) -> KeptEra {
        let routes = self.table.routes().map(|(filter, flows)| (filter.to_owned(), flows.to_vec())).collect();
        KeptEra { from: self.from, routes, former: self.former.clone() }
    }

    fn from_kept(kept: KeptEra) -> Era {
        let table = RoutingTable::from_routes(kept.routes);
        Era { from: kept.from, table: Arc::new(table), former: kept.former }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::flow::Flow;
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

    /// The identifiers 1, 2 and 3 stand for `a`, `b` and `c`.
    fn routed(history: &RoutingHistory, offset: Offset, topic: &str, ids: &[SubscriptionId]) -> Vec<FlowId> {
        let filter_of = |id| ["a", "b", "c"].get(id as usize - 1).copied();
        let mut out = Vec::new();
        history.at(offset).unwrap().route(topic, ids, &filter_of, &mut out);
        out
    }

    #[test]
    fn a_record_keeps_the_table_of_its_time() {
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
    fn tables_that_no_record_needs_are_forgotten() {
        let mut history = RoutingHistory::default();
        history.push(0, table(&[(1, "t")]));
        history.push(200, table(&[(2, "t")]));
        history.forget_below(199);
        assert_eq!(history.eras.len(), 2);
        history.forget_below(200);
        assert_eq!(history.eras.len(), 1);
        assert_eq!(routed(&history, 300, "t", &[]), [2]);
        assert_eq!(
            routed(&history, 150, "t", &[]),
            [2],
            "the oldest that is left stands for those before it"
        );
    }

    #[test]
    fn what_the_broker_had_queued_for_an_old_topic_goes_to_the_flow_that_had_it() {
        let mut history = RoutingHistory::default();
        for (from, topic) in [(0, "a"), (10, "b"), (20, "c"), (30, "b")] {
            history.push(from, table(&[(7, topic)]));
        }
        for id in [1, 2, 3] {
            assert_eq!(routed(&history, 99, "x", &[id]), [7], "{id}");
        }
        assert_eq!(routed(&history, 99, "x", &[1, 2]), [7], "once, also for two of its filters");
        assert!(routed(&history, 99, "a", &[]).is_empty(), "a topic alone tells nothing of when it was sent");
        assert!(history.eras.last().unwrap().former.keys().eq(["a", "c"]));
    }

    #[test]
    fn a_filter_that_another_flow_has_taken_over_is_that_flows() {
        let mut history = RoutingHistory::default();
        history.push(0, table(&[(7, "a")]));
        history.push(10, table(&[(7, "b"), (8, "a")]));
        assert_eq!(routed(&history, 99, "a", &[1]), [8]);
        assert_eq!(routed(&history, 9, "a", &[1]), [7]);
    }

    #[test]
    fn tables_of_an_earlier_process_are_for_its_records_alone() {
        let mut history = RoutingHistory::default();
        history.push(100, table(&[(7, "a")]));
        history.push(200, table(&[(7, "b")]));
        history.forget_below(200);

        let mut history = RoutingHistory::from_text(&history.to_text()).unwrap();
        assert!(!history.is_current());
        history.push(1 << 40, table(&[(7, "c")]));
        assert!(history.is_current());
        // Old records, whatever their offsets were.
        for offset in [1, 250, (1 << 40) - 1] {
            assert_eq!(routed(&history, offset, "b", &[]), [7], "{offset}");
        }
        assert!(routed(&history, 1 << 40, "b", &[]).is_empty());
        assert_eq!(routed(&history, 1 << 40, "c", &[]), [7]);
        assert_eq!(routed(&history, 1 << 40, "x", &[1]), [7], "a former filter stays known");
    }

    #[test]
    fn what_is_no_history_is_none() {
        for text in ["", "{}", r#"{"format":2,"tables":[]}"#] {
            assert!(RoutingHistory::from_text(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_bounded_number_of_filters_is_remembered_and_kept() {
        let many: Vec<String> = (0..MAX_FILTERS / 20).map(|n| format!("t{n}")).collect();
        let many: Vec<(FlowId, &str)> = many.iter().map(|topic| (1, topic.as_str())).collect();
        let mut history = RoutingHistory::default();
        for turn in 0..30 {
            history.push(turn, table(&many));
        }
        assert_eq!(history.eras.len(), 20);
        let kept = RoutingHistory::from_text(&history.to_text()).unwrap();
        assert_eq!((kept.eras[0].from, kept.eras[1].from), (0, 11), "the newest");
        let last = kept.eras.last().unwrap();
        let full: Routes = (0..MAX_FORMER).map(|n| (format!("f{n}"), vec![1])).collect();
        let era = Era { from: 0, table: Arc::clone(&last.table), former: full };
        assert_eq!(era.former_under(&table(&[])).len(), many.len());
    }

    proptest! {
        #[test]
        fn over_a_restart_every_record_goes_where_it_would_have_gone(
            turns in prop::collection::vec(
                prop::collection::vec((1..5_i64, any_filter()), 0..5), 1..30),
            topic in prop::sample::select(all_topics()),
        ) {
            let mut history = RoutingHistory::default();
            for (turn, flows) in (0..).zip(&turns) {
                let flows: Vec<_> = flows.iter().map(|(id, filter)| (*id, filter.as_str())).collect();
                history.push(turn, table(&flows));
            }
            let kept = RoutingHistory::from_text(&history.to_text()).unwrap();
            for offset in 0..turns.len() as Offset {
                for ids in [&[][..], &[1], &[2, 3]] {
                    prop_assert_eq!(
                        routed(&history, offset, &topic, ids),
                        routed(&kept, offset, &topic, ids)
                    );
                }
            }
        }
    }
}
