//! The messages received last, in order, no two with the same packet identifier.

use std::collections::{HashMap, HashSet, VecDeque};

use super::sighting::{Content, Sighting};
use super::{HALF_OF_ALL_IDS, LARGEST_ID, RECEIVE_MAXIMUM, TAIL_MESSAGES, VARIED_PAYLOADS};

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailEntry {
    /// As the broker numbered it.
    pub packet_id: u16,
    /// What it held.
    pub content: Content,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// Each with its step ahead of the one before.
    entries: VecDeque<(TailEntry, u16)>,
    /// Steps from the first to the last: below 65,535, so that all identifiers differ.
    span: u32,
    /// The topics whose payloads never repeat, once somebody has asked since the last change.
    varied: Option<HashSet<u64>>,
}

/// How a message goes on with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// Its identifier lies ahead of all others.
    Rising,
    /// It does not; the tail begins anew with it.
    SteppedBack,
}

impl Tail {
    pub(super) fn of(entries: Vec<TailEntry>) -> Tail {
        let mut tail = Tail::default();
        for entry in entries {
            tail.push(entry);
        }
        tail
    }

    pub(super) fn entries(&self) -> Vec<TailEntry> {
        self.entries.iter().map(|(entry, _)| *entry).collect()
    }

    pub(super) fn join(&mut self, sighting: &Sighting) -> Joined {
        self.push(TailEntry { packet_id: sighting.packet_id, content: sighting.content })
    }

    fn push(&mut self, entry: TailEntry) -> Joined {
        self.varied = None;
        let Some(last) = self.entries.back().map(|(last, _)| last.packet_id) else {
            self.begin(entry);
            return Joined::Rising;
        };
        let step = step_ahead(last, entry.packet_id);
        if self.entries.len() == TAIL_MESSAGES {
            self.forget_oldest();
        }
        self.make_room_for(step);
        match step {
            Some(step) if self.span + u32::from(step) < u32::from(LARGEST_ID) => {
                self.span += u32::from(step);
                self.entries.push_back((entry, step));
                Joined::Rising
            }
            _ => {
                self.begin(entry);
                Joined::SteppedBack
            }
        }
    }

    fn begin(&mut self, entry: TailEntry) {
        self.entries.clear();
        self.span = 0;
        self.entries.push_back((entry, 0));
    }

    /// Where identifiers are passed over, fewer messages fit on the circle: those count that have to be known, and the others
    /// make room.
    fn make_room_for(&mut self, step: Option<u16>) {
        let Some(step) = step else { return };
        while self.span + u32::from(step) >= u32::from(LARGEST_ID)
            && self.entries.len() > usize::from(RECEIVE_MAXIMUM)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.entries.pop_front();
        if let Some((_, step)) = self.entries.front_mut() {
            self.span -= u32::from(std::mem::take(step));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn position(&self, sighting: &Sighting) -> Option<usize> {
        (0..self.entries.len()).find(|index| self.is_at(*index, sighting))
    }

    pub(super) fn is_at(&self, index: usize, sighting: &Sighting) -> bool {
        let equal =
            |entry: &TailEntry| (entry.packet_id, &entry.content) == (sighting.packet_id, &sighting.content);
        self.entries.get(index).is_some_and(|(entry, _)| equal(entry))
    }

    /// Whether the topic, or all topics together, have many messages here, and no two of the same content.
    pub(super) fn is_varied(&mut self, topic: u64) -> bool {
        let Tail { entries, varied, .. } = self;
        varied.get_or_insert_with(|| varied_topics(entries)).contains(&topic)
    }
}

fn varied_topics(entries: &VecDeque<(TailEntry, u16)>) -> HashSet<u64> {
    let mut topics: HashMap<u64, Vec<u128>> = HashMap::new();
    for (TailEntry { content, .. }, _) in entries {
        topics.entry(content.topic).or_default().push(content.payload);
    }
    topics.retain(|_, payloads| payloads.iter().collect::<HashSet<_>>().len() == payloads.len());
    let without_repetition: usize = topics.values().map(Vec::len).sum();
    if without_repetition < entries.len() || entries.len() < VARIED_PAYLOADS {
        topics.retain(|_, payloads| payloads.len() >= VARIED_PAYLOADS);
    }
    topics.into_keys().collect()
}

/// How far `to` lies ahead of `from` on the circle of identifiers; `None` when it does not. A step of more than half a
/// circle could as well be one back.
fn step_ahead(from: u16, to: u16) -> Option<u16> {
    if from == 0 || to == 0 {
        return None;
    }
    let step = if to > from { to - from } else { LARGEST_ID - (from - to) };
    (from != to && step <= HALF_OF_ALL_IDS).then_some(step)
}
