//! The recent window: the last messages in order of receipt, without a repeated packet identifier.

use std::collections::{HashMap, HashSet, VecDeque};

use super::fingerprint::{Content, Fingerprint};
use super::{HALF_ID_SPACE, MAX_PACKET_ID, MAX_WINDOW_MESSAGES, RECEIVE_MAXIMUM, VARIED_PAYLOADS};

/// A received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowEntry {
    /// Packet identifier assigned by the broker.
    pub packet_id: u16,
    /// Hashes of the content.
    pub content: Content,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RecentWindow {
    /// Messages, each with the distance of its identifier from the previous one.
    entries: VecDeque<(WindowEntry, u16)>,
    /// Sum of all steps. It stays below 65,535, so all identifiers differ.
    span: u32,
    /// Cached topics whose payloads never repeat; `None` after a change.
    varied: Option<HashSet<u64>>,
}

/// How the identifier of a new message relates to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// The identifier is ahead of all others.
    Rising,
    /// The identifier is not ahead; the window was reset to this message.
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

    /// Drops old messages beyond the receive maximum if skipped identifiers leave too little space on the
    /// identifier circle.
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

    /// Returns whether the topic, or all topics together, have many messages in the window and no repeated
    /// payload.
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

/// Returns how far `to` is ahead of `from` on the identifier circle. Returns `None` beyond half a circle,
/// because the step could then be backwards.
fn step_ahead(from: u16, to: u16) -> Option<u16> {
    if from == 0 || to == 0 {
        return None;
    }
    let step = if to > from { to - from } else { MAX_PACKET_ID - (from - to) };
    (from != to && step <= HALF_ID_SPACE).then_some(step)
}
