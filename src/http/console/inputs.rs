//! Fields of forms: their descriptions, and how they are shown with values and problems.

use crate::domain::problem::Problem;

/// The value of a checked box.
pub(super) const CHECKED: &str = "yes";

/// A field of a form, without a value. It has the name of the column.
pub(super) struct InputDescription {
    pub(super) name: &'static str,
    label: &'static str,
    help: &'static str,
    kind: InputKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputKind {
    Line,
    Text,
    Choice(&'static [&'static str]),
    Check,
}

impl InputDescription {
    const fn new(name: &'static str, label: &'static str, help: &'static str, kind: InputKind) -> Self {
        Self { name, label, help, kind }
    }

    /// A line of text.
    pub(super) const fn line(name: &'static str, label: &'static str, help: &'static str) -> Self {
        Self::new(name, label, help, InputKind::Line)
    }

    /// A text of several lines.
    pub(super) const fn text(name: &'static str, label: &'static str, help: &'static str) -> Self {
        Self::new(name, label, help, InputKind::Text)
    }

    /// One of these values.
    pub(super) const fn choice(
        name: &'static str,
        label: &'static str,
        help: &'static str,
        choices: &'static [&'static str],
    ) -> Self {
        Self::new(name, label, help, InputKind::Choice(choices))
    }

    /// Yes or no.
    pub(super) const fn check(name: &'static str, label: &'static str, help: &'static str) -> Self {
        Self::new(name, label, help, InputKind::Check)
    }
}

/// A field of a form with its value.
pub(super) struct FormInput {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) value: String,
    pub(super) problems: Vec<Problem>,
    kind: InputKind,
}

impl FormInput {
    pub(super) fn is_text(&self) -> bool {
        self.kind == InputKind::Text
    }

    pub(super) fn is_check(&self) -> bool {
        self.kind == InputKind::Check
    }

    pub(super) fn is_checked(&self) -> bool {
        self.value == CHECKED
    }

    /// The values to choose from; also an unknown one that the row has. None if any value is possible.
    pub(super) fn choices(&self) -> Option<Vec<&str>> {
        let InputKind::Choice(choices) = self.kind else { return None };
        let own = Some(self.value.as_str()).filter(|own| !own.is_empty() && !choices.contains(own));
        Some(choices.iter().copied().chain(own).collect())
    }
}

/// The fields of a form, each with its problems, and the problems that belong to none of them.
pub(super) fn form_inputs(
    described: &[InputDescription],
    value: impl Fn(&str) -> String,
    problems: Vec<Problem>,
) -> (Vec<FormInput>, Vec<Problem>) {
    let is_own = |problem: &Problem| described.iter().any(|input| input.name == problem.field);
    let (own, other): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(is_own);
    let inputs = described.iter().map(|input| FormInput {
        name: input.name,
        label: input.label,
        help: input.help,
        kind: input.kind,
        value: value(input.name),
        problems: own.iter().filter(|problem| problem.field == input.name).cloned().collect(),
    });
    (inputs.collect(), other)
}
