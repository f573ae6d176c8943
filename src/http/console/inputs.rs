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
    /// The name and the label.
    pub(super) fn label(&self) -> (&'static str, &'static str) {
        (self.name, self.label)
    }

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

/// An error of a form, as the card above the form lists it.
pub(super) struct FormError {
    /// Id of the field in the page. None if the form has no such field.
    pub(super) id: Option<&'static str>,
    pub(super) label: &'static str,
    pub(super) text: String,
}

/// The errors of a form, whose fields have these names and labels, and the warnings that belong to none of them.
pub(super) fn form_errors(
    problems: &[Problem],
    labels: &[(&'static str, &'static str)],
) -> (Vec<FormError>, Vec<Problem>) {
    let place = |problem: &Problem| labels.iter().find(|(name, _)| *name == problem.field);
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) =
        problems.iter().partition(|problem| problem.is_error());
    let errors = errors.into_iter().map(|problem| FormError {
        id: place(problem).map(|(name, _)| *name),
        label: place(problem).map_or(problem.field, |(_, label)| *label),
        text: format!("{}. {}", problem.problem, problem.advice()),
    });
    let warnings = warnings.into_iter().filter(|problem| place(problem).is_none()).cloned();
    (errors.collect(), warnings.collect())
}

/// The fields of a form, each with its problems.
pub(super) fn form_inputs(
    described: &[InputDescription],
    value: impl Fn(&str) -> String,
    problems: &[Problem],
) -> Vec<FormInput> {
    let inputs = described.iter().map(|input| FormInput {
        name: input.name,
        label: input.label,
        help: input.help,
        kind: input.kind,
        value: value(input.name),
        problems: problems.iter().filter(|problem| problem.field == input.name).cloned().collect(),
    });
    inputs.collect()
}
