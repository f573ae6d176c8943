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
//! and told by one summary at its end. A window without any ends the episode. What was written and what summaries
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
pub(super) struct Kind {
    /// The place in the program.
    pub(super) site: u64,
    /// The place, and what it is about; the same as `site` if it is about nothing.
    pub(super) detailed: u64,
}

/// All kinds that were seen lately, each with a record of it as an example (`E`).
#[derive(Debug)]
pub(super) struct Repeats<E> {
    rule: Rule,
    max_detailed: usize,
    kinds: HashMap<u64, Episode<E>>,
    /// How many of the kinds are of a place, by its number.
    detailed: HashMap<u64, usize>,
}

#[derive(Debug)]
struct Episode<E> {
    example: E,
    /// The place that it is one of the kinds of; none if it is the place as a whole.
    detailed_of: Option<u64>,
    /// Kinds were counted here that found no room of their own.
    of_many: bool,
    began: Moment,
    last: Moment,
    window_began: Moment,
    /// Of this window.
    seen: u64,
    /// Of this window, counted and not written; and when the first of them was.
    unwritten: u64,
    unwritten_since: Moment,
    /// Of the whole episode, with this window.
    total: u64,
    total_unwritten: u64,
}

/// What to do about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it.
    Write,
    /// It is counted.
    Count,
    /// It is counted, and is a newer example than the one that is kept.
    CountAndKeep,
}

/// What is to be told of records that were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News<E> {
    /// A window is over, or the process is.
    Summary {
        /// One of them, or one of the same kind.
        example: E,
        /// How many were not written.
        repeated: u64,
        /// They are of several kinds, of which the example has one.
        of_many: bool,
        /// When the first of these came.
        since: Moment,
        /// When the last of these came.
        until: Moment,
    },
    /// Nothing came for a whole window, or the process ends.
    Over {
        /// As in the last summary.
        example: E,
        /// How many there were, written or not.
        total: u64,
        /// As in the last summary.
        of_many: bool,
        /// When the first came.
        since: Moment,
        /// When the last came.
        until: Moment,
    },
}

impl<E: Clone> Repeats<E> {
    /// Nothing was seen yet.
    pub(super) fn new(rule: Rule) -> Self {
        Self::of(rule, MAX_DETAILED)
    }

    fn of(rule: Rule, max_detailed: usize) -> Self {
        Self { rule, max_detailed, kinds: HashMap::new(), detailed: HashMap::new() }
    }

    /// Counts a record of a kind that is known; `None` for one that is not: it takes an example to know it.
    pub(super) fn record(&mut self, kind: Kind, now: Moment, news: &mut Vec<News<E>>) -> Option<Verdict> {
        let key = self.key_of(kind);
        let episode = self.kinds.get_mut(&key)?;
        let verdict = episode.record(self.rule, now, news);
        episode.of_many |= key != kind.detailed;
        Some(verdict)
    }

    /// Counts a record of a kind that may be new, with itself as the example.
    pub(super) fn admit(&mut self, kind: Kind, example: E, now: Moment, news: &mut Vec<News<E>>) -> Verdict {
        // Another thread may have been quicker.
        if let Some(verdict) = self.record(kind, now, news) {
            return verdict;
        }
        let key = self.key_of(kind);
        let detailed_of = Some(kind.site).filter(|site| *site != key);
        if let Some(site) = detailed_of {
            *self.detailed.entry(site).or_default() += 1;
        }
        let mut episode = Episode::new(example, detailed_of, now);
        episode.of_many = key != kind.detailed;
        let verdict = episode.record(self.rule, now, news);
        self.kinds.insert(key, episode);
        verdict
    }

    /// Keeps a newer example.
    pub(super) fn keep(&mut self, kind: Kind, example: E) {
        let key = self.key_of(kind);
        if let Some(episode) = self.kinds.get_mut(&key) {
            episode.example = example;
        }
    }

    /// Tells of the windows and episodes that are over by now.
    pub(super) fn look(&mut self, now: Moment) -> Vec<News<E>> {
        let mut news = Vec::new();
        let window = self.rule.window_ms;
        let Self { kinds, detailed, .. } = self;
        kinds.retain(|_, episode| {
            if now.saturating_sub(episode.window_began) >= window {
                episode.tell_window(&mut news);
            }
            let is_over = now.saturating_sub(episode.last) >= window;
            if is_over {
                episode.tell_end(&mut news);
                if let Some(site) = episode.detailed_of {
                    forget_one_of(site, detailed);
                }
            }
            !is_over
        });
        news
    }

    /// Tells of everything that was not told yet; nothing is known afterwards.
    pub(super) fn end(&mut self) -> Vec<News<E>> {
        let mut news = Vec::new();
        for (_, mut episode) in self.kinds.drain() {
            episode.tell_window(&mut news);
            episode.tell_end(&mut news);
        }
        self.detailed.clear();
        news
    }

    /// The detailed kind if it is known or can be, else the place.
    fn key_of(&self, kind: Kind) -> u64 {
        let detailed = self.detailed.get(&kind.site).copied().unwrap_or_default();
        let has_room = detailed < self.max_detailed || self.kinds.contains_key(&kind.detailed);
        if has_room { kind.detailed } else { kind.site }
    }
}

fn forget_one_of(site: u64, detailed: &mut HashMap<u64, usize>) {
    if let Entry::Occupied(mut count) = detailed.entry(site) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl<E: Clone> Episode<E> {
    fn new(example: E, detailed_of: Option<u64>, now: Moment) -> Self {
        Self {
            example,
            detailed_of,
            of_many: false,
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

    fn record(&mut self, rule: Rule, now: Moment, news: &mut Vec<News<E>>) -> Verdict {
        if now.saturating_sub(self.window_began) >= rule.window_ms {
            self.tell_window(news);
            self.window_began = now;
            self.seen = 0;
        }
        // Threads read the clock before they are let in, so it may step back a little.
        self.last = self.last.max(now);
        self.seen += 1;
        self.total += 1;
        if self.seen <= rule.burst {
            return Verdict::Write;
        }
        if self.unwritten == 0 {
            self.unwritten_since = now;
        }
        self.unwritten += 1;
        self.total_unwritten += 1;
        // To format each would cost what is to be saved; this is one of the later half, for a few.
        if self.unwritten.is_power_of_two() { Verdict::CountAndKeep } else { Verdict::Count }
    }

    fn tell_window(&mut self, news: &mut Vec<News<E>>) {
        let repeated = std::mem::take(&mut self.unwritten);
        if repeated > 0 {
            news.push(News::Summary {
                example: self.example.clone(),
                repeated,
                of_many: self.of_many,
                since: self.unwritten_since,
                until: self.last,
            });
        }
    }

    /// An episode of which every record was written needs no end.
    fn tell_end(&self, news: &mut Vec<News<E>>) {
        if self.total_unwritten > 0 {
            news.push(News::Over {
                example: self.example.clone(),
                total: self.total,
                of_many: self.of_many,
                since: self.began,
                until: self.last,
            });
        }
    }
}

#[cfg(test)]
#[path = "repeats/tests.rs"]
mod tests;
