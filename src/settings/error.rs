//! Errors of the settings, collected in one error.

use std::fmt;

use super::LogFormat;

/// All missing and malformed settings. The text names each with the found value (never a secret) and the expected one.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    problems: Vec<SettingProblem>,
    log_format: LogFormat,
}

impl SettingsError {
    pub(super) fn new(problems: Vec<SettingProblem>, log_format: LogFormat) -> Self {
        Self { problems, log_format }
    }

    /// Returns the invalid settings in the order of the reference.
    #[must_use]
    pub fn problems(&self) -> &[SettingProblem] {
        &self.problems
    }

    /// Returns the format for logging this error: `LOG_FORMAT` if it is valid.
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

/// One invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// Name of the setting, or of an unreadable file.
    pub name: String,
    /// Found value.
    pub found: FoundValue,
    /// Description of a valid value.
    pub expected: String,
}

/// Found value of an invalid setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundValue {
    /// No value, or an empty one.
    Nothing,
    /// A value that is no secret.
    Value {
        /// Value as written.
        text: String,
        /// Layer or file that set the value.
        origin: String,
    },
    /// A value that is or may be a secret.
    Hidden {
        /// Layer or file that set the value.
        origin: String,
    },
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, expected } = self;
        match found {
            FoundValue::Nothing => write!(f, "{name} is not set: expected {expected}"),
            FoundValue::Value { text, origin } => {
                write!(f, "{name} = {:?} ({origin}): expected {expected}", shortened(text))
            }
            FoundValue::Hidden { origin } => write!(f, "{name} ({origin}, not shown): expected {expected}"),
        }
    }
}

/// Shortens a long value, such as a file pasted into a variable.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 200;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
