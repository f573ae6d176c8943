//! Decides which repeated records are written, and counts the others. Pure logic; the caller passes the time.
//!
//! ```text
//! window 1                      window 2                      quiet window
//! ├ written, …, written, ······┤├ written, …, written, ······┤├                           ┤
//!                     counted   ▲                    counted  ▲                            ▲
//!                       Summary::Window             Summary::Window              Summary::End (total)
//! ```
//!
//! The first records of each window are written at once. The others are counted, and one summary reports them when the
//! window ends. A window without records ends the series. Written plus summarised records equal the logged ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Maximum series of one place in the program that are separated by subject, such as a topic or a flow.
///
/// Publishers can invent topics, and each series costs memory and log lines. The limit applies to each place, so that
/// a flood at one place does not merge the series of another.
const MAX_DETAILED: usize = 128;

/// Milliseconds of a monotonic clock.
pub(super) type Millis = u64;

/// Limits for repeated records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Length of a window in milliseconds.
    pub(super) window_ms: u64,
    /// Records of a series that are written in each window.
    pub(super) burst: u64,
}

/// Identity of a record for counting. Records with equal keys are repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordKey {
    /// Hash of the place in the program.
    pub(super) site: u64,
    /// Hash of the place and the subject; equal to `site` if the record has no subject.
    pub(super) detailed: u64,
}

/// Active series of records, each with an example of type `E`.
#[derive(Debug)]
pub(super) struct RepeatLimiter<E> {
    rule: Rule,
    max_detailed: usize,
    series: HashMap<u64, Series<E>>,
    /// Number of detailed series, by place.
    detailed: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Series<E> {
    example: E,
    /// Place of a detailed series; none for the common series of a place.
    detailed_of: Option<u64>,
    /// The series counts records of several keys, because their place has reached its maximum.
    mixed: bool,
    began: Millis,
    last: Millis,
    window_began: Millis,
    /// Records in this window.
    seen: u64,
    /// Suppressed records in this window, and the time of the first one.
    unwritten: u64,
    unwritten_since: Millis,
    /// Records of the whole series, including this window.
    total: u64,
    total_unwritten: u64,
}

/// Decision about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Write the record.
    Write,
    /// Suppress the record.
    Count,
    /// Suppress the record, and keep it as the new example.
    CountAndKeep,
}

/// A summary of suppressed records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Summary<E> {
    /// The end of a window, or of the process.
    Window {
        /// One of the records, or an earlier one of the same series.
        example: E,
        /// Number of suppressed records.
        repeated: u64,
        /// Whether the records have several keys.
        mixed: bool,
        /// Time of the first suppressed record.
        since: Millis,
        /// Time of the last suppressed record.
        until: Millis,
    },
    /// The end of a series after a window without records, or of the process.
    End {
        /// One of the records.
        example: E,
        /// Number of records, written or suppressed.
        total: u64,
        /// Whether the records have several keys.
        mixed: bool,
        /// Time of the first record.
        since: Millis,
        /// Time of the last record.
        until: Millis,
    },
}

impl<E: Clone> RepeatLimiter<E> {
    /// Creates a limiter without series.
    pub(super) fn new(rule: Rule) -> Self {
        Self::with_max_detailed(rule, MAX_DETAILED)
    }

    fn with_max_detailed(rule: Rule, max_detailed: usize) -> Self {
        Self { rule, max_detailed, series: HashMap::new(), detailed: HashMap::new() }
    }

    /// Counts a record of an active series. Returns none if no series is active; [`Self::admit`] begins one.
    pub(super) fn record(
        &mut self,
        key: RecordKey,
        now: Millis,
        summaries: &mut Vec<Summary<E>>,
    ) -> Option<Decision> {
        let id = self.series_id(key);
        let series = self.series.get_mut(&id)?;
        let decision = series.record(self.rule, now, summaries);
        series.mixed |= id != key.detailed;
        Some(decision)
    }

    /// Counts a record, and begins a series with `example` if none is active.
    pub(super) fn admit(
        &mut self,
        key: RecordKey,
        example: E,
        now: Millis,
        summaries: &mut Vec<Summary<E>>,
    ) -> Decision {
        // Another thread may have begun the series in the meantime.
        if let Some(decision) = self.record(key, now, summaries) {
            return decision;
        }
        let id = self.series_id(key);
        let detailed_of = Some(key.site).filter(|site| *site != id);
        if let Some(site) = detailed_of {
            *self.detailed.entry(site).or_default() += 1;
        }
        let mut series = Series::new(example, detailed_of, now);
        series.mixed = id != key.detailed;
        let decision = series.record(self.rule, now, summaries);
        self.series.insert(id, series);
        decision
    }

    /// Replaces the example of a series.
    pub(super) fn keep(&mut self, key: RecordKey, example: E) {
        let id = self.series_id(key);
        if let Some(series) = self.series.get_mut(&id) {
            series.example = example;
        }
    }

    /// Returns summaries of the windows and series that have ended.
    pub(super) fn take_due(&mut self, now: Millis) -> Vec<Summary<E>> {
        let mut summaries = Vec::new();
        let window = self.rule.window_ms;
        let Self { series, detailed, .. } = self;
        series.retain(|_, series| {
            if now.saturating_sub(series.window_began) >= window {
                series.close_window(&mut summaries);
            }
            let is_over = now.saturating_sub(series.last) >= window;
            if is_over {
                series.close(&mut summaries);
                if let Some(site) = series.detailed_of {
                    release_detailed(site, detailed);
                }
            }
            !is_over
        });
        summaries
    }

    /// Ends all series and returns their summaries.
    pub(super) fn take_all(&mut self) -> Vec<Summary<E>> {
        let mut summaries = Vec::new();
        for (_, mut series) in self.series.drain() {
            series.close_window(&mut summaries);
            series.close(&mut summaries);
        }
        self.detailed.clear();
        summaries
    }

    /// Returns the detailed series if it exists or may be added, otherwise the common series of the place.
    fn series_id(&self, key: RecordKey) -> u64 {
        let detailed = self.detailed.get(&key.site).copied().unwrap_or_default();
        let has_room = detailed < self.max_detailed || self.series.contains_key(&key.detailed);
        if has_room { key.detailed } else { key.site }
    }
}

fn release_detailed(site: u64, detailed: &mut HashMap<u64, usize>) {
    if let Entry::Occupied(mut count) = detailed.entry(site) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl<E: Clone> Series<E> {
    fn new(example: E, detailed_of: Option<u64>, now: Millis) -> Self {
        Self {
            example,
            detailed_of,
            mixed: false,
            began: now,
            last: now,
            window_began: now,
            seen: 0,
            unwritten: 0,
            unwritten_since: now,
            total: 0,
            total_unwritten: 0,
        }
    }

    fn record(&mut self, rule: Rule, now: Millis, summaries: &mut Vec<Summary<E>>) -> Decision {
        if now.saturating_sub(self.window_began) >= rule.window_ms {
            self.close_window(summaries);
            self.window_began = now;
            self.seen = 0;
        }
        // Threads read the clock before they take the lock, so times may decrease slightly.
        self.last = self.last.max(now);
        self.seen += 1;
        self.total += 1;
        if self.seen <= rule.burst {
            return Decision::Write;
        }
        if self.unwritten == 0 {
            self.unwritten_since = now;
        }
        self.unwritten += 1;
        self.total_unwritten += 1;
        // Formatting every example would defeat the limiter. Powers of two keep a recent one at little cost.
        if self.unwritten.is_power_of_two() { Decision::CountAndKeep } else { Decision::Count }
    }

    fn close_window(&mut self, summaries: &mut Vec<Summary<E>>) {
        let repeated = std::mem::take(&mut self.unwritten);
        if repeated > 0 {
            summaries.push(Summary::Window {
                example: self.example.clone(),
                repeated,
                mixed: self.mixed,
                since: self.unwritten_since,
                until: self.last,
            });
        }
    }

    /// Adds the final summary, unless every record of the series was written.
    fn close(&self, summaries: &mut Vec<Summary<E>>) {
        if self.total_unwritten > 0 {
            summaries.push(Summary::End {
                example: self.example.clone(),
                total: self.total,
                mixed: self.mixed,
                since: self.began,
                until: self.last,
            });
        }
    }
}

#[cfg(test)]
#[path = "repeats/tests.rs"]
mod tests;
