//! What is wrong with the settings, all of it at once.

use std::fmt;

use super::LogFormat;

/// Settings that are missing or malformed. Its text names each, what was found (never a secret)
/// and what was expected.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    problems: Vec<SettingProblem>,
    log_format: LogFormat,
}

impl SettingsError {
    pub(super) fn new(problems: Vec<SettingProblem>, log_format: LogFormat) -> Self {
        Self { problems, log_format }
    }

    /// Each setting that is wrong, in the order of the reference.
    #[must_use]
    pub fn problems(&self) -> &[SettingProblem] {
        &self.problems
    }

    /// How the error itself should be logged: `LOG_FORMAT`, as far as that could be read.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 setting is missing or malformed:")?,
            n => write!(f, "{n} settings are missing or malformed:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// One setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// Name of the setting, or of the file that cannot be read.
    pub name: String,
    /// What was found there.
    pub found: Found,
    /// What it should be.
    pub expected: String,
}

/// What was found in place of a proper value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty value.
    Nothing,
    /// This value, which is no secret.
    Value {
        /// As it was written.
        text: String,
        /// Where it was written.
        origin: String,
    },
    /// A secret, or something that may be one.
    Hidden {
        /// Where it was written.
        origin: String,
    },
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, expected } = self;
        match found {
            Found::Nothing => write!(f, "{name} is not set: expected {expected}"),
            Found::Value { text, origin } => {
                write!(f, "{name} = {:?} ({origin}): expected {expected}", shortened(text))
            }
            Found::Hidden { origin } => write!(f, "{name} ({origin}, not shown): expected {expected}"),
        }
    }
}

/// The beginning of a value: a file pasted into a variable should not fill the screen.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 200;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
