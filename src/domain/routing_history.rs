//! Which routing table is for which record.
//!
//! A table is for the records appended after it was swapped in. Records that were already in the
//! inbox keep the table of their time: a flow whose topic was edited still gets what the broker
//! handed over for its old one.

use std::sync::Arc;

use super::message::Offset;
use super::routing::RoutingTable;

/// The tables that records of the inbox may still need.
#[derive(Debug, Default)]
pub struct RoutingHistory {
    /// Each with the first offset it is for, ascending.
    tables: Vec<(Offset, Arc<RoutingTable>)>,
}

impl RoutingHistory {
    /// `table` is for records from `from` on. The first table is for everything before it, too.
    pub fn push(&mut self, from: Offset, table: Arc<RoutingTable>) {
        let from = if self.tables.is_empty() { 0 } else { from };
        self.tables.retain(|(since, _)| *since < from);
        self.tables.push((from, table));
    }

    /// The table for the record at `offset`; `None` until there is one.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<&Arc<RoutingTable>> {
        self.tables.iter().rev().find(|(from, _)| *from <= offset).map(|(_, table)| table)
    }

    /// No record below `watermark` will be asked for again.
    pub fn forget_below(&mut self, watermark: Offset) {
        let current = self.tables.iter().rposition(|(from, _)| *from <= watermark);
        self.tables.drain(..current.unwrap_or(0));
    }

    /// Whether there is a table at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Arc<RoutingTable> {
        Arc::new(RoutingTable::new(Vec::new()).0)
    }

    #[test]
    fn a_record_keeps_the_table_of_its_time() {
        let (first, second) = (table(), table());
        let mut history = RoutingHistory::default();
        assert!(history.at(5).is_none());
        history.push(100, Arc::clone(&first));
        history.push(200, Arc::clone(&second));
        for (offset, expected) in [(5, &first), (199, &first), (200, &second), (900, &second)] {
            assert!(history.at(offset).is_some_and(|table| Arc::ptr_eq(table, expected)), "{offset}");
        }
    }

    #[test]
    fn tables_that_no_record_needs_are_forgotten() {
        let (first, second) = (table(), table());
        let mut history = RoutingHistory::default();
        history.push(0, first);
        history.push(200, Arc::clone(&second));
        history.forget_below(199);
        assert_eq!(history.tables.len(), 2);
        history.forget_below(200);
        assert_eq!(history.tables.len(), 1);
        assert!(history.at(300).is_some_and(|table| Arc::ptr_eq(table, &second)));
    }
}
