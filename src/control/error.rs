//! Why a use case failed.

use std::time::Duration;

use thiserror::Error;

use crate::domain::problem::Problem;
use crate::store::{ErrorClass, StoreError};

/// Why a use case failed. Nothing was changed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The name is unknown.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// The kind of thing, such as `flow`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The remedy.
        remedy: String,
    },
    /// Something given, or found in the tables, cannot work.
    #[error("{}", sentences(.problems))]
    Invalid {
        /// The problems; at least one is an error.
        problems: Vec<Problem>,
    },
    /// Another session changed the row between reading and writing.
    #[error("{what} {name:?} was changed by another session meanwhile")]
    Conflict {
        /// The kind of thing, such as `flow`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The row is no longer as the caller read it.
    #[error("{what} {name:?} has another version")]
    Outdated {
        /// The kind of thing, such as `flow`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlError {
    /// The name is unknown.
    pub fn not_found(what: &'static str, name: &str, remedy: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.to_owned(), remedy: remedy.into() }
    }

    /// A single field cannot work.
    pub fn invalid(field: &'static str, problem: impl std::fmt::Display, remedy: impl Into<String>) -> Self {
        Self::Invalid { problems: vec![Problem::error(field, problem, remedy)] }
    }

    /// The database failed to write a row. A value that it refuses is a fault of the edit: columns differ between
    /// sites, so the rules cannot know all limits.
    pub(super) fn refused(error: StoreError) -> Self {
        if error.class() == ErrorClass::Poison {
            return Self::invalid("row", error, "the database refuses this row: correct the value it names");
        }
        error.into()
    }

    /// The database took longer than `waited`.
    #[must_use]
    pub fn timed_out(waited: Duration) -> Self {
        StoreError::TimedOut { waited }.into()
    }

    /// The kind of error, for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::Conflict { .. } => "conflict",
            Self::Outdated { .. } => "version_differs",
            Self::Store(_) => "store",
        }
    }

    /// The remedy. The problems of [`Self::Invalid`] have their own remedies.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NotFound { remedy, .. } => Some(remedy),
            Self::Invalid { .. } => None,
            Self::Conflict { .. } | Self::Outdated { .. } => {
                Some("look at the row again, and repeat the command if it is still wanted")
            }
            Self::Store(error) if matches!(error.class(), ErrorClass::LockTimeout | ErrorClass::Deadlock) => {
                Some(
                    "another session holds the row, such as an SQL client with an open transaction, or a gateway \
                     that waits for the database: end it, or repeat the command later",
                )
            }
            Self::Store(_) => Some("`mqtt-gateway check` tries the database and its tables"),
        }
    }

    /// The problems of what was given.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid { problems } => problems,
            Self::NotFound { .. } | Self::Conflict { .. } | Self::Outdated { .. } | Self::Store(_) => &[],
        }
    }
}

fn sentences(problems: &[Problem]) -> String {
    let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
    sentences.join("; ")
}
