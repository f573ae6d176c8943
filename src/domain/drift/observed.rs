//! The fields that a lane has seen in messages since they were last written to the table.
//!
//! This is on the road of every message, so the usual message costs a comparison of its names with those of the message
//! before, in their order, and a counter for each.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::super::message::FlowId;
use super::super::payload::Payload;
use super::{FieldKind, FieldLog, MAX_FIELDS, MAX_NAME_BYTES};

/// Attributes of a message that are observed. A publisher could send tens of thousands.
const MAX_ATTRIBUTES: usize = 256;

/// Fields of all flows of a lane. They take about 200 bytes each.
const MAX_FIELDS_OF_LANE: usize = 50_000;

/// Longest topic that is kept, in bytes.
const MAX_TOPIC_BYTES: usize = 255;

/// Interval at which flows with open changes are written.
const OPEN_INTERVAL: Duration = Duration::from_mins(1);

/// Interval at which other flows are written, for their counts and last times.
const MIN_QUIET_INTERVAL: Duration = Duration::from_mins(5);

/// The interval of a lane with many flows. Between the two, a lane writes one row per second on average.
const MAX_QUIET_INTERVAL: Duration = Duration::from_hours(1);

/// The fields seen by a lane.
#[derive(Debug, Default)]
pub struct ObservedFields {
    flows: HashMap<FlowId, ObservedFlow>,
    /// Number of fields of all flows.
    fields: usize,
    /// Flows to write.
    due: BTreeSet<FlowId>,
    /// When to look again for flows whose last times are to be written.
    next_sweep: Duration,
}

/// Facts of a flow that are not in the table yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFlow {
    /// The flow.
    pub flow: FlowId,
    /// The facts.
    pub facts: Vec<SeenFact>,
    /// The absence of all other fields, if no message was observed with the fields of the table in mind.
    pub others: Option<SeenFact>,
}

/// A kind of value that a field had, or that it was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFact {
    /// Name of the field.
    pub name: String,
    /// The kind.
    pub kind: FieldKind,
    /// Whether it is from the first message of the flow.
    pub is_first: bool,
    /// Number of messages.
    pub messages: u64,
    /// Time of the first of them: microseconds since 1970, UTC.
    pub first_at_us: i64,
    /// Time of the last of them.
    pub last_at_us: i64,
    /// Topic of the first of them.
    pub topic: String,
}

#[derive(Debug, Default)]
struct ObservedFlow {
    /// Number of messages; the number of a message marks the fields that it has.
    messages: u64,
    fields: Vec<ObservedField>,
    /// Whether the flow is to be written each minute: it has open changes, or its schema refuses messages.
    is_watched: bool,
    /// When it was written, if ever.
    written: Option<Duration>,
    /// Time and topic of the first message, until the fields of the table are known.
    first: Option<(i64, Box<str>)>,
    /// Time of the last message.
    last_at_us: i64,
}

#[derive(Debug)]
struct ObservedField {
    name: Box<str>,
    /// The last message with the field.
    message: u64,
    /// The kinds that the table has.
    written: u8,
    /// The facts that the table does not have: usually one.
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Note {
    kind: FieldKind,
    is_first: bool,
    messages: u64,
    first_at_us: i64,
    last_at_us: i64,
    topic: Box<str>,
}

impl ObservedFields {
    /// Notes the fields of a message of a flow. `at_us` is when it was received.
    pub fn observe(&mut self, flow: FlowId, payload: &Payload<'_>, topic: &str, at_us: i64) {
        let mut space = MAX_FIELDS_OF_LANE.saturating_sub(self.fields);
        let observed = self.flows.entry(flow).or_default();
        let known = observed.fields.len();
        if observed.observe(payload, topic, at_us, &mut space) {
            self.due.insert(flow);
        }
        self.fields += observed.fields.len() - known;
    }

    /// Notes that the schema of a flow refused a message.
    pub fn refused(&mut self, flow: FlowId) {
        if let Some(observed) = self.flows.get_mut(&flow) {
            observed.is_watched = true;
        }
    }

    /// Takes the facts to write now, of at most `max` flows. `now` is the age of the process.
    pub fn take(&mut self, now: Duration, max: usize) -> Vec<SeenFlow> {
        if now >= self.next_sweep {
            self.next_sweep = now + OPEN_INTERVAL;
            self.sweep(now);
        }
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(flow) = self.due.pop_first()
        {
            let Some(observed) = self.flows.get_mut(&flow) else { continue };
            observed.written = Some(now);
            taken.push(SeenFlow { flow, others: observed.others(), facts: observed.take() });
        }
        taken
    }

    /// Has all facts written by the next calls of [`Self::take`].
    pub fn mark_due(&mut self) {
        let due = self.flows.iter().filter(|(_, observed)| observed.has_notes()).map(|(flow, _)| *flow);
        self.due.extend(due);
    }

    /// Notes the fields that the table has of a flow.
    pub fn learn(&mut self, flow: FlowId, log: &FieldLog) {
        let Some(observed) = self.flows.get_mut(&flow) else { return };
        let known = observed.fields.len();
        observed.learn(log);
        self.fields = (self.fields + observed.fields.len()).saturating_sub(known);
    }

    /// Forgets a flow: it was removed.
    pub fn forget(&mut self, flow: FlowId) {
        if let Some(forgotten) = self.flows.remove(&flow) {
            self.fields = self.fields.saturating_sub(forgotten.fields.len());
        }
    }

    /// Finds flows whose last times are to be written. If the memory becomes scarce, forgets the flows without
    /// messages: the table has their fields.
    fn sweep(&mut self, now: Duration) {
        if self.fields > MAX_FIELDS_OF_LANE / 2 {
            self.flows.retain(|_, observed| observed.has_notes());
            self.fields = self.flows.values().map(|observed| observed.fields.len()).sum();
        }
        let quiet =
            Duration::from_secs(self.flows.len() as u64).clamp(MIN_QUIET_INTERVAL, MAX_QUIET_INTERVAL);
        let due =
            self.flows.iter().filter(|(_, observed)| observed.is_due(now, quiet)).map(|(flow, _)| *flow);
        self.due.extend(due);
    }
}

impl ObservedFlow {
    /// Notes the fields of a message. Returns whether there is a fact that the table does not have.
    fn observe(&mut self, payload: &Payload<'_>, topic: &str, at_us: i64, space: &mut usize) -> bool {
        self.messages += 1;
        self.last_at_us = at_us;
        if self.messages == 1 {
            self.first = Some((at_us, shortened(topic)));
        }
        let message = (self.messages, topic, at_us);
        // The first message may lack all fields.
        let (mut next, mut found, mut is_new) = (0, 0, self.messages == 1);
        for attribute in payload.attributes().iter().take(MAX_ATTRIBUTES) {
            let Some(place) = self.place(attribute.name(), next, space) else { continue };
            (next, found) = (place + 1, found + 1);
            if let Some(field) = self.fields.get_mut(place) {
                field.message = self.messages;
                is_new |= field.note(attribute.kind().into(), message);
            }
        }
        if found < self.fields.len() {
            for field in self.fields.iter_mut().filter(|field| field.message != message.0) {
                is_new |= field.note(FieldKind::Missing, message);
            }
        }
        is_new
    }

    /// The place of a field, which is probably `likely`. Adds the field if it is new and there is space.
    fn place(&mut self, name: &str, likely: usize, space: &mut usize) -> Option<usize> {
        if self.fields.get(likely).is_some_and(|field| *field.name == *name) {
            return Some(likely);
        }
        let place = self.fields.iter().position(|field| *field.name == *name);
        let is_full = self.fields.len() >= MAX_FIELDS || *space == 0;
        // No form and no database takes U+0000.
        if place.is_some() || is_full || name.len() > MAX_NAME_BYTES || name.contains('\0') {
            return place;
        }
        *space -= 1;
        self.fields.push(ObservedField::new(name));
        Some(self.fields.len() - 1)
    }

    /// The absence of all fields but those seen. With too many fields, it is not known which were absent.
    fn others(&self) -> Option<SeenFact> {
        let (first_at_us, topic) = self.first.as_ref().filter(|_| self.fields.len() < MAX_FIELDS)?;
        Some(SeenFact {
            name: String::new(),
            kind: FieldKind::Missing,
            is_first: false,
            messages: self.messages,
            first_at_us: *first_at_us,
            last_at_us: self.last_at_us,
            topic: topic.to_string(),
        })
    }

    fn take(&mut self) -> Vec<SeenFact> {
        let facts = self.fields.iter_mut().flat_map(|field| {
            let name = &field.name;
            field.notes.drain(..).map(|note| SeenFact {
                name: name.to_string(),
                kind: note.kind,
                is_first: note.is_first,
                messages: note.messages,
                first_at_us: note.first_at_us,
                last_at_us: note.last_at_us,
                topic: note.topic.into(),
            })
        });
        facts.collect()
    }

    /// Takes over the fields of the table, and drops those that it does not have.
    fn learn(&mut self, log: &FieldLog) {
        self.is_watched = log.has_changes();
        self.first = None;
        for field in &mut self.fields {
            field.written = 0;
        }
        let mut space = log.fields.len();
        for logged in &log.fields {
            let place = self.place(&logged.name, usize::MAX, &mut space);
            if let Some(field) = place.and_then(|place| self.fields.get_mut(place)) {
                field.written = logged.facts.iter().fold(0, |all, fact| all | fact.kind.bit());
            }
        }
        self.fields.retain(|field| log.field(&field.name).is_some() || field.has_value());
    }

    fn has_notes(&self) -> bool {
        self.fields.iter().any(|field| !field.notes.is_empty())
    }

    fn is_due(&self, now: Duration, quiet: Duration) -> bool {
        let interval = if self.is_watched { OPEN_INTERVAL } else { quiet };
        self.written.is_none_or(|written| now >= written + interval) && self.has_notes()
    }
}

impl ObservedField {
    fn new(name: &str) -> Self {
        Self { name: name.into(), message: 0, written: 0, notes: Vec::new() }
    }

    /// Notes a fact of a message. Returns whether it is new, and not in the table.
    fn note(&mut self, kind: FieldKind, (message, topic, at_us): (u64, &str, i64)) -> bool {
        if let Some(note) = self.notes.iter_mut().find(|note| note.kind == kind) {
            note.messages += 1;
            note.last_at_us = at_us;
            return false;
        }
        self.notes.push(Note {
            kind,
            is_first: message == 1,
            messages: 1,
            first_at_us: at_us,
            last_at_us: at_us,
            topic: shortened(topic),
        });
        self.written & kind.bit() == 0
    }

    fn has_value(&self) -> bool {
        self.notes.iter().any(|note| note.kind.is_value())
    }
}

fn shortened(topic: &str) -> Box<str> {
    topic.get(..topic.floor_char_boundary(MAX_TOPIC_BYTES)).unwrap_or_default().into()
}
