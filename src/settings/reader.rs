//! Parses single settings, and collects all problems.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ValueKind;

use super::EffectiveSetting;
use super::catalogue::{Fallback, SettingKind, Spec};
use super::error::{FoundValue, SettingProblem};
use super::files::Files;
use super::layers::{DEFAULT, Layers};
use super::number;
use super::secret_source::read_secret;
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::proxies::Proxy;
use crate::domain::replicas::{ShareGroup, ordinal};

const MASK: &str = "********";

/// Value that disables the listener.
const OFF: &str = "off";

/// Marker for an invalid setting. The reader has recorded the problem.
pub(super) struct InvalidSetting;

/// Parser for single settings. Invalid ones are collected in `problems`.
pub(super) struct SettingsReader<'a> {
    layers: Layers,
    files: &'a dyn Files,
    pub problems: Vec<SettingProblem>,
    pub effective: Vec<EffectiveSetting>,
}

impl<'a> SettingsReader<'a> {
    pub(super) fn new(mut layers: Layers, files: &'a dyn Files) -> Self {
        let problems = std::mem::take(&mut layers.problems);
        Self { layers, files, problems, effective: Vec::new() }
    }

    /// Returns the warnings of the layers.
    pub(super) fn into_warnings(self) -> Vec<String> {
        self.layers.warnings
    }

    /// Reads a text.
    pub(super) fn text(&mut self, spec: &Spec) -> Result<String, InvalidSetting> {
        self.required(spec, |text| Some(text.to_owned()))
    }

    /// Reads a path without resolving it.
    pub(super) fn path(&mut self, spec: &Spec) -> Result<PathBuf, InvalidSetting> {
        self.text(spec).map(PathBuf::from)
    }

    /// Reads an integer.
    pub(super) fn integer<T: TryFrom<i128> + Display>(&mut self, spec: &Spec) -> Result<T, InvalidSetting> {
        self.required(spec, |text| integer_of_kind(spec.kind, text))
    }

    /// Reads an integer, or returns `derived` if it is not set.
    pub(super) fn integer_or<T>(&mut self, spec: &Spec, derived: T) -> Result<T, InvalidSetting>
    where
        T: TryFrom<i128> + Display,
    {
        let read = self.optional(spec, |text| integer_of_kind(spec.kind, text))?;
        if read.is_none() {
            self.show_derived(spec, derived.to_string());
        }
        Ok(read.unwrap_or(derived))
    }

    /// Reads an optional integer.
    pub(super) fn integer_if_set<T: TryFrom<i128> + Display>(
        &mut self,
        spec: &Spec,
    ) -> Result<Option<T>, InvalidSetting> {
        self.optional(spec, |text| integer_of_kind(spec.kind, text))
    }

    /// Returns whether the setting has any value.
    pub(super) fn is_set(&self, spec: &Spec) -> bool {
        self.configured_path(spec).is_some()
    }

    /// Reads a whole number of milliseconds.
    pub(super) fn milliseconds(&mut self, spec: &Spec) -> Result<Duration, InvalidSetting> {
        self.integer(spec).map(Duration::from_millis)
    }

    /// Reads a whole number of seconds.
    pub(super) fn seconds(&mut self, spec: &Spec) -> Result<Duration, InvalidSetting> {
        self.integer(spec).map(Duration::from_secs)
    }

    /// Reads seconds with an optional fraction.
    pub(super) fn fractional_seconds(&mut self, spec: &Spec) -> Result<Duration, InvalidSetting> {
        let seconds = self.required(spec, |text| seconds_of_kind(spec.kind, text))?;
        // Tiny values are raised to a millisecond, because they would round to zero.
        Ok(Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
    }

    /// Reads one of the allowed words, in lower case.
    pub(super) fn word(&mut self, spec: &Spec) -> Result<String, InvalidSetting> {
        self.required(spec, |text| word_of_kind(spec.kind, text))
    }

    /// Reads one of the allowed words, if it is set.
    pub(super) fn word_if_set(&mut self, spec: &Spec) -> Result<Option<String>, InvalidSetting> {
        self.optional(spec, |text| word_of_kind(spec.kind, text))
    }

    /// Reads an optional path without resolving it.
    pub(super) fn path_if_set(&mut self, spec: &Spec) -> Result<Option<PathBuf>, InvalidSetting> {
        Ok(self.optional(spec, |text| Some(text.to_owned()))?.map(PathBuf::from))
    }

    /// Reads a file. The error says why that failed.
    pub(super) fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let content = self.files.read(path).map_err(|error| error.to_string())?;
        content.ok_or_else(|| "there is no such file".to_owned())
    }

    /// Returns the source of files.
    pub(super) fn source(&self) -> &'a dyn Files {
        self.files
    }

    /// Reads a boolean.
    pub(super) fn flag(&mut self, spec: &Spec) -> Result<bool, InvalidSetting> {
        self.required(spec, |text| match text.trim().to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// Reads an optional shared group.
    pub(super) fn share_group(&mut self, spec: &Spec) -> Result<Option<ShareGroup>, InvalidSetting> {
        self.optional(spec, ShareGroup::parse)
    }

    /// Reads an optional ordinal: a number, or the numeric suffix of a name.
    pub(super) fn ordinal(&mut self, spec: &Spec) -> Result<Option<u32>, InvalidSetting> {
        self.optional(spec, |text| ordinal(text.trim()))
    }

    /// Reads a socket address; none for `off`.
    pub(super) fn listener(&mut self, spec: &Spec) -> Result<Option<SocketAddr>, InvalidSetting> {
        let word = self.required(spec, |text| {
            let text = text.trim().to_lowercase();
            (text == OFF || text.parse::<SocketAddr>().is_ok()).then_some(text)
        })?;
        Ok(word.parse().ok())
    }

    /// Reads an optional proxy.
    pub(super) fn proxy(&mut self, spec: &Spec) -> Result<Option<Proxy>, InvalidSetting> {
        self.optional(spec, Proxy::parse)
    }

    /// Reads the networks of endpoints.
    pub(super) fn networks(&mut self, spec: &Spec) -> Result<Option<EndpointNetworks>, InvalidSetting> {
        self.optional(spec, |text| text.parse().ok())
    }

    /// Reads levels of the log.
    pub(super) fn log_levels(&mut self, spec: &Spec) -> Result<String, InvalidSetting> {
        self.required(spec, |text| {
            env_filter::Builder::new().try_parse(text).is_ok().then(|| text.to_owned())
        })
    }

    /// Reads an optional text.
    pub(super) fn text_if_set(&mut self, spec: &Spec) -> Result<Option<String>, InvalidSetting> {
        self.optional(spec, |text| Some(text.to_owned()))
    }

    /// Returns whether the setting has its default.
    pub(super) fn is_default(&self, spec: &Spec) -> bool {
        self.origin(spec) == DEFAULT
    }

    /// Reads a secret, either directly or from a file; none if neither is set.
    /// An empty secret counts as unset.
    pub(super) fn secret(&mut self, spec: &Spec, file_spec: &Spec) -> Result<Option<String>, InvalidSetting> {
        let given = self.written_text(spec)?.filter(|(text, _)| !text.is_empty());
        self.secret_or_file(spec, given, file_spec)
    }

    /// As [`Self::secret`], but an empty secret is a valid one.
    pub(super) fn secret_or_empty(
        &mut self,
        spec: &Spec,
        file_spec: &Spec,
    ) -> Result<Option<String>, InvalidSetting> {
        let given = self.written_text(spec)?;
        self.secret_or_file(spec, given, file_spec)
    }

    /// Returns the text and origin that are `given`, or the content of the file.
    fn secret_or_file(
        &mut self,
        spec: &Spec,
        given: Option<(String, String)>,
        file_spec: &Spec,
    ) -> Result<Option<String>, InvalidSetting> {
        let file = self.written_text(file_spec)?.filter(|(path, _)| !path.is_empty());
        match (given, file) {
            (given, Some((path, origin))) => {
                if given.is_some_and(|(text, _)| !text.is_empty()) {
                    let expected = format!("to be unset, because {} is set", spec.name);
                    return Err(self.refuse_value(file_spec, path, origin, expected));
                }
                self.show(file_spec, Some(path.clone()), &origin);
                self.secret_file(spec, file_spec, path, origin).map(Some)
            }
            (Some((text, origin)), None) => {
                self.show(spec, Some(MASK.to_owned()), &origin);
                self.show(file_spec, None, DEFAULT);
                Ok(Some(text))
            }
            (None, None) => {
                self.show(spec, None, DEFAULT);
                self.show(file_spec, None, DEFAULT);
                Ok(None)
            }
        }
    }

    /// Returns the path in a setting, if it is set.
    pub(super) fn configured_path(&self, spec: &Spec) -> Option<PathBuf> {
        let path = self.layers.get(spec.name)?.kind.to_string();
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    fn secret_file(
        &mut self,
        spec: &Spec,
        file_spec: &Spec,
        path: String,
        origin: String,
    ) -> Result<String, InvalidSetting> {
        match read_secret(self.files, Path::new(&path)) {
            Ok(secret) => {
                self.show(spec, Some(MASK.to_owned()), &path);
                Ok(secret)
            }
            Err(reason) => {
                let expected = format!("a text file that can be read ({reason})");
                Err(self.refuse_value(file_spec, path, origin, expected))
            }
        }
    }

    /// Shows a setting as unused because another one replaces it.
    pub(super) fn show_unused(&mut self, spec: &Spec, reason: &str) {
        if let Some(written) = self.layers.get(spec.name) {
            let value = if spec.is_secret() { MASK.to_owned() } else { written.kind.to_string() };
            self.show(spec, Some(value), &format!("{}, not used: {reason}", written.origin));
        }
    }

    /// Records that a mandatory setting is missing.
    pub(super) fn refuse_missing(&mut self, spec: &Spec) -> InvalidSetting {
        self.refuse(spec, FoundValue::Nothing, spec.expected())
    }

    /// Records that a setting conflicts with another one.
    pub(super) fn refuse_setting(&mut self, spec: &Spec, expected: String) -> InvalidSetting {
        let written = self.layers.get(spec.name);
        let found = written.map_or(FoundValue::Nothing, |written| FoundValue::Value {
            text: written.kind.to_string(),
            origin: written.origin,
        });
        self.refuse(spec, found, expected)
    }

    /// Records that a secret is invalid, without its value.
    pub(super) fn refuse_secret(&mut self, spec: &Spec, origin: &str, expected: String) -> InvalidSetting {
        self.refuse(spec, FoundValue::Hidden { origin: origin.to_owned() }, expected)
    }

    /// Returns the layer or file that set the value.
    pub(super) fn origin(&self, spec: &Spec) -> String {
        self.layers.get(spec.name).map_or_else(|| DEFAULT.to_owned(), |written| written.origin)
    }

    fn required<T: Display>(
        &mut self,
        spec: &Spec,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, InvalidSetting> {
        match self.optional(spec, parse)? {
            Some(value) => Ok(value),
            None => Err(self.refuse_missing(spec)),
        }
    }

    /// Returns the parsed value; none if the setting is unset or empty.
    fn optional<T: Display>(
        &mut self,
        spec: &Spec,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidSetting> {
        let Some((text, origin)) = self.written_text(spec)?.filter(|(text, _)| !text.is_empty()) else {
            self.show(spec, None, DEFAULT);
            return Ok(None);
        };
        match parse(&text) {
            Some(value) => {
                self.show(spec, Some(value.to_string()), &origin);
                Ok(Some(value))
            }
            None => Err(self.refuse_value(spec, text, origin, spec.expected())),
        }
    }

    /// Returns a setting as text, with its origin. TOML must quote texts: the unquoted password `1.10` would become
    /// `1.1`.
    fn written_text(&mut self, spec: &Spec) -> Result<Option<(String, String)>, InvalidSetting> {
        let Some(written) = self.layers.get(spec.name) else {
            return Ok(None);
        };
        let is_text_setting = matches!(
            spec.kind,
            SettingKind::Text
                | SettingKind::Path
                | SettingKind::Secret
                | SettingKind::Proxy
                | SettingKind::Networks
                | SettingKind::LogLevels
        );
        let text = match written.kind {
            ValueKind::String(text) => text,
            ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => {
                let found = FoundValue::Hidden { origin: written.origin };
                return Err(self.refuse(spec, found, "a single value".to_owned()));
            }
            _ if is_text_setting => {
                let found = FoundValue::Hidden { origin: written.origin };
                return Err(self.refuse(spec, found, "a text in quotes".to_owned()));
            }
            scalar => scalar.to_string(),
        };
        if text.contains('\0') {
            let found = FoundValue::Hidden { origin: written.origin };
            return Err(self.refuse(spec, found, "a text without NUL".to_owned()));
        }
        Ok(Some((text, written.origin)))
    }

    fn refuse_value(
        &mut self,
        spec: &Spec,
        text: String,
        origin: String,
        expected: String,
    ) -> InvalidSetting {
        let found =
            if spec.is_secret() { FoundValue::Hidden { origin } } else { FoundValue::Value { text, origin } };
        self.refuse(spec, found, expected)
    }

    fn refuse(&mut self, spec: &Spec, found: FoundValue, expected: String) -> InvalidSetting {
        self.problems.push(SettingProblem { name: spec.name.to_owned(), found, expected });
        InvalidSetting
    }

    /// Adds a setting to the effective values.
    pub(super) fn show(&mut self, spec: &Spec, value: Option<String>, origin: &str) {
        self.effective.push(EffectiveSetting { name: spec.name, value, origin: origin.to_owned() });
    }

    /// Replaces an unset effective value by the derived one.
    fn show_derived(&mut self, spec: &Spec, value: String) {
        self.effective.retain(|shown| shown.name != spec.name);
        let origin = match spec.default {
            Fallback::Derived(rule) => format!("{DEFAULT}: {rule}"),
            _ => DEFAULT.to_owned(),
        };
        self.show(spec, Some(value), &origin);
    }
}

fn integer_of_kind<T: TryFrom<i128>>(kind: SettingKind, text: &str) -> Option<T> {
    let value = number::integer(text)?;
    let (value, min, max) = match kind {
        SettingKind::Integer(min, max) => (value, min.into(), max.into()),
        SettingKind::IntegerRaisedToOne(max) => (value.max(1), 1, max.into()),
        SettingKind::Qos => (value, 0, 1),
        _ => return None,
    };
    if (min..=max).contains(&value) { T::try_from(value).ok() } else { None }
}

fn seconds_of_kind(kind: SettingKind, text: &str) -> Option<f64> {
    let SettingKind::Seconds(max) = kind else { return None };
    number::decimal(text).filter(|seconds| *seconds > 0.0 && *seconds <= f64::from(max))
}

fn word_of_kind(kind: SettingKind, text: &str) -> Option<String> {
    let SettingKind::Word(words) = kind else { return None };
    let text = text.trim().to_lowercase();
    words.contains(&text.as_str()).then_some(text)
}
