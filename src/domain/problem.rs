//! A problem of a row that people write, and its remedy.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProblemLevel {
    /// The row cannot work.
    Error,
    /// The row works, perhaps not as it was meant.
    Warning,
}

/// A problem of one field. The texts contain no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// How bad it is.
    pub level: ProblemLevel,
    /// The column, such as `topic`.
    pub field: &'static str,
    /// The problem.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

impl Problem {
    /// A problem because of which the row cannot work.
    pub fn error(field: &'static str, problem: impl fmt::Display, remedy: impl Into<String>) -> Self {
        let problem = problem.to_string();
        // Some errors begin with the name of their column.
        let problem =
            problem.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&problem);
        Self { level: ProblemLevel::Error, field, problem: problem.to_owned(), remedy: remedy.into() }
    }

    /// A problem that does not keep the row from working.
    pub fn warning(field: &'static str, problem: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { level: ProblemLevel::Warning, ..Self::error(field, problem, remedy) }
    }

    /// The remedy as a sentence of a page.
    #[must_use]
    pub fn advice(&self) -> String {
        sentence(&self.remedy)
    }

    /// Whether the row cannot work.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.level == ProblemLevel::Error
    }
}

/// A text as a sentence: with a capital and a full stop. Texts have neither, because most places add words around them.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let Some(first) = rest.next() else { return String::new() };
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), rest.as_str())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " — {}", self.remedy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_sentences() {
        assert_eq!(Problem::error("topic", "it is empty", "give a filter").advice(), "Give a filter.");
        assert_eq!((sentence(""), sentence("`run` it.")), (String::new(), "`run` it.".to_owned()));
        assert_eq!(sentence("did you mean topic?"), "Did you mean topic?");
    }
}
