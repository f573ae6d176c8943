//! Which of many records of the same kind are written, and how many were not: pure counting, the
//! time is passed in.
//!
//! ```text
//! window 1                      window 2                      quiet window
//! ├ written, …, written, ······┤├ written, …, written, ······┤├                           ┤
//!                     counted   ▲                    counted  ▲                            ▲
//!                        Summary (so many in this window)  Summary                 Over (so many in all)
//! ```
//!
//! The first of a kind is written at once, and so are the next few of each window; the rest of the window is counted
//! and told by one summary at its end. A window without any ends the series. What was written and what summaries
//! tell is together exactly what there was.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Kinds of one place in the program that are told apart by what they are about (a topic, a flow): whoever can publish can
/// invent topics, and each costs memory and lines. Each place has as many, so that a flood at one leaves the others as
/// clear as they were; places are few.
const MAX_DETAILED: usize = 128;

/// Milliseconds of a clock that does not go back.
pub(super) type Moment = u64;

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Length of a window in milliseconds.
    pub(super) window_ms: u64,
    /// Records of a kind that are written in each window.
    pub(super) burst: u64,
}

/// What makes two records the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordKey {
    /// The place in the program.
    pub(super) site: u64,
    /// The place, and what it is about; the same as `site` if it is about nothing.
    pub(super) detailed: u64,
}

/// All series that were seen lately, each with a record of it as an example (`E`).
#[derive(Debug)]
pub(super) struct RepeatLimiter<E> {
    rule: Rule,
    max_detailed: usize,
    series: HashMap<u64, Series<E>>,
    /// How many of the series are of a place, by its number.
    detailed: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Series<E> {
    example: E,
    /// The place that it is one of the series of; none if it is the place as a whole.
    detailed_of: Option<u64>,
    /// Kinds were counted here that found no room of their own.
    mixed: bool,
    began: Moment,
    last: Moment,
    window_began: Moment,
    /// Of this window.
    seen: u64,
    /// Of this window, counted and not written; and when the first of them was.
    unwritten: u64,
    unwritten_since: Moment,
    /// Of the whole series, with this window.
    total: u64,
    total_unwritten: u64,
}

/// What to do about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Write it.
    Write,
    /// It is counted.
    Count,
    /// It is counted, and is a newer example than the one that is kept.
    CountAndKeep,
}

/// What is to be told of records that were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Summary<E> {
    /// A window is over, or the process is.
    Window {
        /// One of them, or one of the same kind.
        example: E,
        /// How many were not written.
        repeated: u64,
        /// They are of several series, of which the example has one.
        mixed: bool,
        /// When the first of these came.
        since: Moment,
        /// When the last of these came.
        until: Moment,
    },
    /// Nothing came for a whole window, or the process ends.
    End {
        /// As in the last summary.
        example: E,
        /// How many there were, written or not.
        total: u64,
        /// As in the last summary.
        mixed: bool,
        /// When the first came.
        since: Moment,
        /// When the last came.
        until: Moment,
    },
}

impl<E: Clone> RepeatLimiter<E> {
    /// Nothing was seen yet.
    pub(super) fn new(rule: Rule) -> Self {
        Self::with_max_detailed(rule, MAX_DETAILED)
    }

    fn with_max_detailed(rule: Rule, max_detailed: usize) -> Self {
        Self { rule, max_detailed, series: HashMap::new(), detailed: HashMap::new() }
    }

    /// Counts a record of a kind that is known; `None` for one that is not: it takes an example to know it.
    pub(super) fn record(
        &mut self,
        key: RecordKey,
        now: Moment,
        summaries: &mut Vec<Summary<E>>,
    ) -> Option<Decision> {
        let id = self.series_id(key);
        let series = self.series.get_mut(&id)?;
        let decision = series.record(self.rule, now, summaries);
        series.mixed |= id != key.detailed;
        Some(decision)
    }

    /// Counts a record of a kind that may be new, with itself as the example.
    pub(super) fn admit(
        &mut self,
        key: RecordKey,
        example: E,
        now: Moment,
        summaries: &mut Vec<Summary<E>>,
    ) -> Decision {
        // Another thread may have been quicker.
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

    /// Keeps a newer example.
    pub(super) fn keep(&mut self, key: RecordKey, example: E) {
        let id = self.series_id(key);
        if let Some(series) = self.series.get_mut(&id) {
            series.example = example;
        }
    }

    /// Tells of the windows and episodes that are over by now.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Summary<E>> {
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

    /// Tells of everything that was not told yet; nothing is known afterwards.
    pub(super) fn take_all(&mut self) -> Vec<Summary<E>> {
        let mut summaries = Vec::new();
        for (_, mut series) in self.series.drain() {
            series.close_window(&mut summaries);
            series.close(&mut summaries);
        }
        self.detailed.clear();
        summaries
    }

    /// The detailed kind if it is known or can be, else the place.
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
    fn new(example: E, detailed_of: Option<u64>, now: Moment) -> Self {
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

    fn record(&mut self, rule: Rule, now: Moment, summaries: &mut Vec<Summary<E>>) -> Decision {
        if now.saturating_sub(self.window_began) >= rule.window_ms {
            self.close_window(summaries);
            self.window_began = now;
            self.seen = 0;
        }
        // Threads read the clock before they are let in, so it may step back a little.
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
        // To format each would cost what is to be saved; this is one of the later half, for a few.
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

    /// An series of which every record was written needs no end.
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
