//! The fields that the messages of a flow had, as the table holds them.

use serde::{Deserialize, Serialize};

use super::{FieldKind, MAX_FIELDS, SchemaExpectation, SeenFact, SeenFlow};

/// The fields of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldLog {
    /// The fields, in the order in which they were seen.
    pub fields: Vec<LoggedField>,
    /// Whether there were more fields than are kept.
    #[serde(default)]
    pub is_cut: bool,
}

/// A field, and its facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedField {
    /// Its name.
    pub name: String,
    /// What was seen. Empty for a field that only the schema requires.
    pub facts: Vec<FieldFact>,
}

/// A kind of value that a field had, or that it was missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldFact {
    /// The kind.
    pub kind: FieldKind,
    /// Number of messages.
    pub messages: u64,
    /// When it was first seen: microseconds since 1970, UTC.
    pub first_at_us: i64,
    /// When it was last seen.
    pub last_at_us: i64,
    /// Topic of the first message.
    pub first_topic: String,
    /// Topic of a recent message.
    pub last_topic: String,
    /// Whether it is no change, or an accepted one.
    pub is_accepted: bool,
}

/// How a field changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// The field is new.
    Appeared,
    /// No message has the field any more.
    Vanished,
    /// Some messages do not have the field.
    SometimesMissing,
    /// The field has another type.
    TypeChanged,
}

/// A change that was not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    /// Name of the field.
    pub field: String,
    /// How it changed, in words.
    pub description: String,
    /// Topic of the first message.
    pub topic: String,
    /// Whether the schema refuses such messages.
    pub is_refused: bool,
}

/// A field that changed.
#[derive(Debug, Clone, Copy)]
pub struct FieldDrift<'l> {
    /// The field.
    pub field: &'l LoggedField,
    /// How it changed.
    pub kind: DriftKind,
    schema: &'l SchemaExpectation,
}

impl FieldLog {
    /// The field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&LoggedField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.iter().all(|field| field.facts.is_empty())
    }

    /// Whether there are changes that are not accepted.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changed().next().is_some()
    }

    /// Number of fields with changes that are not accepted.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changed().count()
    }

    /// The fields with changes that are not accepted.
    pub fn drift<'l>(&'l self, schema: &'l SchemaExpectation) -> impl Iterator<Item = FieldDrift<'l>> {
        self.changed().map(move |field| FieldDrift { field, kind: field.drift_kind(schema), schema })
    }

    fn changed(&self) -> impl Iterator<Item = &LoggedField> {
        self.fields.iter().filter(|field| field.open().next().is_some())
    }

    /// Adds facts, and returns the changes that they make.
    pub fn merge(&mut self, seen: SeenFlow, schema: &SchemaExpectation) -> Vec<NewChange> {
        let is_first_time = self.is_empty();
        self.settle(schema);
        for name in schema.required() {
            self.place(name);
        }
        let (values, mut missing): (Vec<_>, Vec<_>) =
            seen.facts.into_iter().partition(|fact| fact.kind.is_value());
        if let Some(absence) = seen.others {
            let is_other = |field: &&LoggedField| !values.iter().any(|fact| fact.name == field.name);
            let others = self.fields.iter().filter(is_other);
            missing.extend(others.map(|field| SeenFact { name: field.name.clone(), ..absence.clone() }));
        }
        let mut changed = Vec::new();
        for fact in values {
            if let Some(place) = self.place(&fact.name) {
                changed
                    .extend(self.fields[place].merge(fact, schema, is_first_time).map(|kind| (place, kind)));
            }
        }
        // A field that the table does not have was removed there, and its absence is no news.
        for fact in missing {
            if let Some(place) = self.fields.iter().position(|field| field.name == fact.name) {
                changed
                    .extend(self.fields[place].merge(fact, schema, is_first_time).map(|kind| (place, kind)));
            }
        }
        changed.into_iter().filter_map(|(place, kind)| self.fields[place].new_change(kind, schema)).collect()
    }

    /// Accepts the changes that the schema expects by now.
    pub fn settle(&mut self, schema: &SchemaExpectation) {
        for field in &mut self.fields {
            for fact in field.facts.iter_mut().filter(|fact| schema.expects(&field.name, fact.kind)) {
                fact.is_accepted = true;
            }
        }
    }

    /// Shows the changes of a field no longer. Facts that the schema refuses are forgotten: they are changes again when
    /// they are seen again.
    pub fn dismiss(&mut self, name: &str, schema: &SchemaExpectation) {
        if let Some(field) = self.fields.iter_mut().find(|field| field.name == name) {
            field.facts.retain(|fact| !schema.refuses(name, fact.kind));
            for fact in &mut field.facts {
                fact.is_accepted = true;
            }
        }
        let is_kept = |field: &LoggedField| {
            let is_required = schema.field(name).is_some_and(|field| field.is_required);
            field.name != name || is_required || !field.is_gone()
        };
        self.fields.retain(is_kept);
    }

    /// The place of a field, which is added if there is space.
    fn place(&mut self, name: &str) -> Option<usize> {
        if let Some(place) = self.fields.iter().position(|field| field.name == name) {
            return Some(place);
        }
        if self.fields.len() >= MAX_FIELDS {
            self.is_cut = true;
            return None;
        }
        self.fields.push(LoggedField { name: name.to_owned(), facts: Vec::new() });
        Some(self.fields.len() - 1)
    }
}

impl LoggedField {
    /// The facts that are not accepted.
    pub fn open(&self) -> impl Iterator<Item = &FieldFact> {
        self.facts.iter().filter(|fact| !fact.is_accepted)
    }

    /// The fact of a kind.
    #[must_use]
    pub fn fact(&self, kind: FieldKind) -> Option<&FieldFact> {
        self.facts.iter().find(|fact| fact.kind == kind)
    }

    /// The kinds that messages have since the oldest change: those that a schema has to allow.
    pub(super) fn present_kinds(&self) -> Vec<FieldKind> {
        let since = self.open().map(|fact| fact.first_at_us).min();
        let is_present =
            |fact: &&FieldFact| !fact.is_accepted || since.is_some_and(|at| fact.last_at_us > at);
        self.facts.iter().filter(is_present).map(|fact| fact.kind).collect()
    }

    /// Whether the last messages did not have the field.
    fn is_gone(&self) -> bool {
        let last = self.facts.iter().filter(|fact| fact.kind.is_value()).map(|fact| fact.last_at_us).max();
        let missing = self.fact(FieldKind::Missing);
        missing.map_or(last.is_none(), |missing| last.is_none_or(|last| last < missing.first_at_us))
    }

    fn has_accepted_value(&self) -> bool {
        self.facts.iter().any(|fact| fact.is_accepted && fact.kind.is_value())
    }

    /// Adds a fact, and returns its kind if it is a change that was not known.
    fn merge(
        &mut self,
        seen: SeenFact,
        schema: &SchemaExpectation,
        is_first_time: bool,
    ) -> Option<FieldKind> {
        let kind = seen.kind;
        let is_refused = schema.refuses(&self.name, kind);
        let known = self.facts.iter().position(|fact| fact.kind == kind);
        if let Some(place) = known {
            let fact = &mut self.facts[place];
            // An edit of the schema makes an accepted fact a change.
            if !(fact.is_accepted && is_refused) {
                fact.messages = fact.messages.saturating_add(seen.messages);
                fact.first_at_us = fact.first_at_us.min(seen.first_at_us);
                fact.last_at_us = fact.last_at_us.max(seen.last_at_us);
                fact.last_topic = seen.topic;
                return None;
            }
            self.facts.remove(place);
        }
        let is_accepted = !is_refused
            && (schema.expects(&self.name, kind)
                || (is_first_time && seen.is_first)
                || match kind {
                    FieldKind::Missing => !self.has_accepted_value(),
                    FieldKind::Int => self.fact(FieldKind::Number).is_some(),
                    _ => false,
                });
        self.facts.push(FieldFact {
            kind,
            messages: seen.messages,
            first_at_us: seen.first_at_us,
            last_at_us: seen.last_at_us,
            first_topic: seen.topic.clone(),
            last_topic: seen.topic,
            is_accepted,
        });
        (!is_accepted).then_some(kind)
    }

    fn drift_kind(&self, schema: &SchemaExpectation) -> DriftKind {
        let has_new_type = self.open().any(|fact| fact.kind.is_value());
        if has_new_type && !self.has_accepted_value() && schema.listed_kinds(&self.name).is_empty() {
            DriftKind::Appeared
        } else if has_new_type {
            DriftKind::TypeChanged
        } else if self.is_gone() {
            DriftKind::Vanished
        } else {
            DriftKind::SometimesMissing
        }
    }

    fn new_change(&self, kind: FieldKind, schema: &SchemaExpectation) -> Option<NewChange> {
        let fact = self.fact(kind)?;
        let drift = FieldDrift { field: self, kind: self.drift_kind(schema), schema };
        Some(NewChange {
            field: self.name.clone(),
            description: drift.description(),
            topic: fact.first_topic.clone(),
            is_refused: drift.is_refused(),
        })
    }
}

impl FieldDrift<'_> {
    /// The kinds of values that are no change: those of the schema, or else those seen.
    #[must_use]
    pub fn before(&self) -> Vec<FieldKind> {
        let listed = self.schema.listed_kinds(&self.field.name);
        if !listed.is_empty() {
            return simplified(listed);
        }
        let accepted = self.field.facts.iter().filter(|fact| fact.is_accepted && fact.kind.is_value());
        simplified(accepted.map(|fact| fact.kind).collect())
    }

    /// The kinds of values that are changes.
    #[must_use]
    pub fn now(&self) -> Vec<FieldKind> {
        self.field.open().map(|fact| fact.kind).filter(|kind| kind.is_value()).collect()
    }

    /// Whether the schema refuses messages with the change.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.field.open().any(|fact| self.schema.refuses(&self.field.name, fact.kind))
    }

    /// The change in words, such as `changed from number to string`.
    #[must_use]
    pub fn description(&self) -> String {
        let now = joined(&self.now(), " or ");
        let mut text = match self.kind {
            DriftKind::Appeared => format!("appeared as {now}"),
            DriftKind::Vanished => "vanished".to_owned(),
            DriftKind::SometimesMissing => "is sometimes missing".to_owned(),
            DriftKind::TypeChanged => format!("changed from {} to {now}", joined(&self.before(), " or ")),
        };
        if self.field.open().any(|fact| fact.kind == FieldKind::Missing) && !self.now().is_empty() {
            text.push_str(", and is sometimes missing");
        }
        text
    }
}

/// Leaves out `int` beside `number`.
pub(super) fn simplified(mut kinds: Vec<FieldKind>) -> Vec<FieldKind> {
    if kinds.contains(&FieldKind::Number) {
        kinds.retain(|kind| *kind != FieldKind::Int);
    }
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The kinds in words.
pub(super) fn joined(kinds: &[FieldKind], between: &str) -> String {
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    if names.is_empty() { "any type".to_owned() } else { names.join(between) }
}
