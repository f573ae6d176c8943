//! The messages received last, in order, no two with the same packet identifier.

use std::collections::{HashMap, HashSet, VecDeque};

use super::fingerprint::{Content, Fingerprint};
use super::{HALF_ID_SPACE, MAX_PACKET_ID, MAX_WINDOW_MESSAGES, RECEIVE_MAXIMUM, VARIED_PAYLOADS};

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowEntry {
    /// As the broker numbered it.
    pub packet_id: u16,
    /// What it held.
    pub content: Content,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RecentWindow {
    /// Each with its step ahead of the one before.
    entries: VecDeque<(WindowEntry, u16)>,
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

impl RecentWindow {
    pub(super) fn from_entries(entries: Vec<WindowEntry>) -> RecentWindow {
        let mut window = RecentWindow::default();
        for entry in entries {
            window.push(entry);
        }
        window
    }

    pub(super) fn entries(&self) -> Vec<WindowEntry> {
        self.entries.iter().map(|(entry, _)| *entry).collect()
    }

    pub(super) fn join(&mut self, fingerprint: &Fingerprint) -> Joined {
        self.push(WindowEntry { packet_id: fingerprint.packet_id, content: fingerprint.content })
    }

    fn push(&mut self, entry: WindowEntry) -> Joined {
        self.varied = None;
        let Some(last) = self.entries.back().map(|(last, _)| last.packet_id) else {
            self.begin(entry);
            return Joined::Rising;
        };
        let step = step_ahead(last, entry.packet_id);
        if self.entries.len() == MAX_WINDOW_MESSAGES {
            self.forget_oldest();
        }
        self.make_room_for(step);
        match step {
            Some(step) if self.span + u32::from(step) < u32::from(MAX_PACKET_ID) => {
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

    fn begin(&mut self, entry: WindowEntry) {
        self.entries.clear();
        self.span = 0;
        self.entries.push_back((entry, 0));
    }

    /// Where identifiers are passed over, fewer messages fit on the circle: those count that have to be known, and the others
    /// make room.
    fn make_room_for(&mut self, step: Option<u16>) {
        let Some(step) = step else { return };
        while self.span + u32::from(step) >= u32::from(MAX_PACKET_ID)
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

    pub(super) fn position(&self, fingerprint: &Fingerprint) -> Option<usize> {
        (0..self.entries.len()).find(|index| self.is_at(*index, fingerprint))
    }

    pub(super) fn is_at(&self, index: usize, fingerprint: &Fingerprint) -> bool {
        let equal = |entry: &WindowEntry| {
            (entry.packet_id, &entry.content) == (fingerprint.packet_id, &fingerprint.content)
        };
        self.entries.get(index).is_some_and(|(entry, _)| equal(entry))
    }

    /// Whether the topic, or all topics together, have many messages here, and no two of the same content.
    pub(super) fn is_varied(&mut self, topic: u64) -> bool {
        let RecentWindow { entries, varied, .. } = self;
        varied.get_or_insert_with(|| varied_topics(entries)).contains(&topic)
    }
}

fn varied_topics(entries: &VecDeque<(WindowEntry, u16)>) -> HashSet<u64> {
    let mut topics: HashMap<u64, Vec<u128>> = HashMap::new();
    for (WindowEntry { content, .. }, _) in entries {
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
    let step = if to > from { to - from } else { MAX_PACKET_ID - (from - to) };
    (from != to && step <= HALF_ID_SPACE).then_some(step)
}
