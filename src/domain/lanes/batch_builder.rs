//! Collects the entries of a batch up to its limits.

use super::super::batch::BatchEntry;

/// The entries of a batch and their size.
pub(super) struct BatchBuilder {
    entries: Vec<BatchEntry>,
    pairs: usize,
    bytes: usize,
    max_pairs: usize,
    max_bytes: usize,
}

impl BatchBuilder {
    pub(super) fn new(max_pairs: usize, max_bytes: usize) -> Self {
        Self { entries: Vec::new(), pairs: 0, bytes: 0, max_pairs, max_bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `entry` fits into the limits. The first entry always fits.
    pub(super) fn fits(&self, entry: &BatchEntry) -> bool {
        let (pairs, bytes) = size_of_entry(entry);
        self.is_empty() || (self.pairs + pairs <= self.max_pairs && self.bytes + bytes <= self.max_bytes)
    }

    pub(super) fn push(&mut self, entry: BatchEntry) {
        let (pairs, bytes) = size_of_entry(&entry);
        self.pairs += pairs;
        self.bytes += bytes;
        self.entries.push(entry);
    }

    pub(super) fn into_entries(self) -> Vec<BatchEntry> {
        self.entries
    }
}

/// Returns the number of messages, counted once for each flow, and their payload bytes.
fn size_of_entry(entry: &BatchEntry) -> (usize, usize) {
    let pairs = entry.flows.len().max(1);
    (pairs, pairs * entry.record.body.as_bytes().len())
}
