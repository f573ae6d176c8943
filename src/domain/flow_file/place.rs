//! Places in a file, and the problems there.

use std::fmt;

use serde::Serialize;

use crate::domain::problem::{Problem, ProblemLevel};

/// A place in a file. Both numbers begin at 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A problem in a file. Without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    /// Where.
    #[serde(flatten)]
    pub at: Place,
    /// How bad it is.
    pub level: ProblemLevel,
    /// The subject of the problem, such as `flow TEMP: topic`. Empty for the file itself.
    pub subject: String,
    /// The problem.
    pub problem: String,
    /// The remedy. Empty if the problem says it.
    pub remedy: String,
}

impl FileProblem {
    /// The text cannot be read.
    pub(super) fn syntax(at: Place, problem: String) -> Self {
        Self { at, level: ProblemLevel::Error, subject: String::new(), problem, remedy: String::new() }
    }

    /// A problem of a field.
    pub(super) fn of_field(at: Place, subject: &str, problem: &Problem) -> Self {
        Self {
            at,
            level: problem.level,
            subject: format!("{subject}: {}", problem.field),
            problem: problem.problem.clone(),
            remedy: problem.remedy.clone(),
        }
    }

    /// Whether the file cannot be used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.level == ProblemLevel::Error
    }

    /// The place, its subject and the problem. `file` is the name of the file.
    #[must_use]
    pub fn located(&self, file: &str) -> String {
        let subject = if self.subject.is_empty() { String::new() } else { format!("{}: ", self.subject) };
        format!("{file}:{}: {subject}{}", self.at, self.problem)
    }

    /// The line for people, without the remedy. `file` is the name of the file.
    #[must_use]
    pub fn line(&self, file: &str) -> String {
        let word = if self.is_error() { "error" } else { "warning" };
        let subject = if self.subject.is_empty() { String::new() } else { format!("{}: ", self.subject) };
        format!("{file}:{}: {word}: {subject}{}", self.at, self.problem)
    }
}
