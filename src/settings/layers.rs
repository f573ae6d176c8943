//! Layers of settings; each layer overrides the previous ones:
//!
//! ```text
//! defaults → config/*.toml by name → .env → environment
//! ```
//!
//! The `config` crate merges the layers and keeps the origin of each value. The reader parses the values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{FileFormat, Map, Source, Value, ValueKind};

use super::catalogue::{self, Fallback};
use super::dotenv::{self, Dotenv};
use super::error::{FoundValue, SettingProblem};
use super::files::Files;

/// Origin of a value that was not set.
pub(super) const DEFAULT: &str = "default";
pub(super) const DOTENV: &str = ".env";
const ENVIRONMENT: &str = "environment";
/// Variable with the directory of the TOML files. A TOML file cannot contain its own location, so this is no setting.
const CONFIG_DIR: &str = "CONFIG_DIR";

/// Sources of the settings.
pub(crate) struct Sources<'a> {
    /// Environment of the process.
    pub environment: BTreeMap<String, OsString>,
    /// The file system.
    pub files: &'a dyn Files,
}

/// The merged layers, with problems and warnings.
pub(super) struct Layers {
    merged: Map<String, Value>,
    pub problems: Vec<SettingProblem>,
    pub warnings: Vec<String>,
}

/// A value as written, with its origin.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub kind: ValueKind,
    pub origin: String,
}

impl Layers {
    /// Reads all layers. Problems are collected and reported together with wrong values.
    pub(super) fn read(sources: &Sources<'_>) -> Self {
        let mut problems = Vec::new();
        let dotenv = read_dotenv(sources, &mut problems);
        let mut layers = vec![defaults()];
        layers.extend(toml_layers(sources, &dotenv, &mut problems));
        layers.push(Layer::from_text(
            DOTENV,
            dotenv.values.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        ));
        layers.push(environment_layer(&sources.environment, &mut problems));

        let removed = layers.iter().flat_map(Layer::removed_settings);
        let dotenv = dotenv.warnings.into_iter().map(|warning| format!("{DOTENV} {warning}"));
        let warnings = dotenv.chain(removed).collect();
        let builder = layers.into_iter().fold(
            config::Config::builder(),
            config::ConfigBuilder::<config::builder::DefaultState>::add_source,
        );
        let merged = builder.build().and_then(|config| config.cache.into_table()).unwrap_or_else(|_| {
            // Merging flat tables should never fail. The error is not shown, because it could quote a secret.
            problems.push(hidden("settings", "all layers", "settings that can be merged"));
            Map::new()
        });
        Self { merged, problems, warnings }
    }

    /// Returns the effective value of a setting.
    pub(super) fn get(&self, name: &str) -> Option<Written> {
        let value = self.merged.get(name)?;
        let origin = value.origin().unwrap_or(DEFAULT).to_owned();
        Some(Written { kind: value.kind.clone(), origin })
    }
}

/// One layer: values by setting name in upper case.
#[derive(Clone)]
struct Layer {
    origin: String,
    values: Map<String, Value>,
    /// Settings of former versions found in this layer.
    removed: Vec<String>,
}

impl Layer {
    fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned(), values: Map::new(), removed: Vec::new() }
    }

    /// Builds a layer from environment-style names, and ignores unknown ones. Names must be sorted, so that lower case
    /// overrides upper case.
    fn from_text<'a>(origin: &str, values: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut layer = Self::new(origin);
        for (name, value) in values {
            if let Some(spec) = catalogue::ALL.iter().find(|spec| spec.is_named(name)) {
                layer.set(spec, ValueKind::String(value.to_owned()));
            } else if catalogue::is_removed(name) {
                layer.removed.push(name.to_owned());
            }
        }
        layer
    }

    /// Returns a warning for each setting of a former version.
    fn removed_settings(&self) -> impl Iterator<Item = String> {
        self.removed
            .iter()
            .map(|name| format!("{name} ({}) is no longer a setting and is ignored: remove it", self.origin))
    }

    /// Sets a value. An empty text restores the default.
    fn set(&mut self, spec: &catalogue::Spec, value: ValueKind) {
        let is_empty = matches!(&value, ValueKind::String(text) if text.is_empty());
        let value = match spec.default {
            Fallback::Value(default) if is_empty => Value::new(Some(&DEFAULT.to_owned()), default),
            _ => Value::new(Some(&self.origin), value),
        };
        self.values.insert(spec.name.to_owned(), value);
    }
}

/// Shows only the name of the layer, because values may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

fn defaults() -> Layer {
    let values = catalogue::ALL.iter().filter_map(|spec| match spec.default {
        Fallback::Value(value) => Some((spec.name, value)),
        Fallback::Required | Fallback::Unset | Fallback::Derived(_) => None,
    });
    Layer::from_text(DEFAULT, values)
}

fn read_dotenv(sources: &Sources<'_>, problems: &mut Vec<SettingProblem>) -> Dotenv {
    let nothing = Dotenv { values: BTreeMap::new(), warnings: Vec::new() };
    if dotenv_is_disabled(sources) {
        return nothing;
    }
    let Some(text) = read_text(sources.files, Path::new(DOTENV), problems) else {
        return nothing;
    };
    dotenv::read(&text, &|name| Some(sources.environment.get(name)?.to_string_lossy().into_owned()))
}

/// Returns whether the switch of python-dotenv disables `.env`.
fn dotenv_is_disabled(sources: &Sources<'_>) -> bool {
    sources
        .environment
        .get("PYTHON_DOTENV_DISABLED")
        .and_then(|value| value.to_str())
        .is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "t" | "yes" | "y"))
}

fn toml_layers(sources: &Sources<'_>, dotenv: &Dotenv, problems: &mut Vec<SettingProblem>) -> Vec<Layer> {
    let named = match sources.environment.get(CONFIG_DIR) {
        Some(value) => Some(PathBuf::from(value)),
        None => dotenv.values.get(CONFIG_DIR).map(PathBuf::from),
    };
    let named = named.filter(|path| !path.as_os_str().is_empty());
    let directory = named.clone().unwrap_or_else(|| PathBuf::from("config"));
    let paths = match sources.files.toml_files(&directory) {
        Ok(Some(paths)) => paths,
        Ok(None) if named.is_none() => return Vec::new(),
        Ok(None) => return unreadable_directory(&directory, "there is none", problems),
        Err(error) => return unreadable_directory(&directory, &error.to_string(), problems),
    };
    let mut layers = Vec::new();
    for path in paths {
        if let Some(text) = read_text(sources.files, &path, problems) {
            layers.push(toml_layer(&path.display().to_string(), &text, problems));
        }
    }
    layers
}

fn unreadable_directory(directory: &Path, reason: &str, problems: &mut Vec<SettingProblem>) -> Vec<Layer> {
    problems.push(SettingProblem {
        name: CONFIG_DIR.to_owned(),
        found: FoundValue::Value { text: directory.display().to_string(), origin: reason.to_owned() },
        expected: "a directory that can be read".to_owned(),
    });
    Vec::new()
}

fn toml_layer(file: &str, text: &str, problems: &mut Vec<SettingProblem>) -> Layer {
    let mut layer = Layer::new(file);
    let values = match config::File::from_str(text, FileFormat::Toml).collect() {
        Ok(values) => values,
        Err(error) => {
            // The first line of the error has the position; the others quote the file, which may contain secrets.
            let error = error.to_string();
            let position = error.lines().next().unwrap_or_default();
            problems.push(hidden(file, position, "TOML"));
            return layer;
        }
    };
    let mut names: Vec<_> = values.into_iter().collect();
    names.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in names {
        // The value of an unknown setting is not shown, because the name may be a mistyped `DB_PASSWORD`.
        let Some(spec) = catalogue::find(&name) else {
            if catalogue::is_removed(&name) {
                layer.removed.push(name);
                continue;
            }
            problems.push(hidden(&name, file, "one of the settings, and this is none"));
            continue;
        };
        if layer.values.contains_key(spec.name) {
            problems.push(hidden(&name, file, "to be set only once in a file"));
        }
        layer.set(spec, value.kind);
    }
    layer
}

fn environment_layer(environment: &BTreeMap<String, OsString>, problems: &mut Vec<SettingProblem>) -> Layer {
    for (name, value) in environment {
        if value.to_str().is_none() && catalogue::ALL.iter().any(|spec| spec.is_named(name)) {
            problems.push(hidden(name, ENVIRONMENT, "UTF-8 text"));
        }
    }
    let texts = environment.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str()?)));
    Layer::from_text(ENVIRONMENT, texts)
}

/// Reads an optional text file, and records a problem if that fails.
fn read_text(files: &dyn Files, path: &Path, problems: &mut Vec<SettingProblem>) -> Option<String> {
    let (found, expected) = match files.read(path) {
        Ok(None) => return None,
        Ok(Some(content)) => match String::from_utf8(content) {
            Ok(text) => return Some(text),
            Err(_) => ("not UTF-8".to_owned(), "UTF-8 text"),
        },
        Err(error) => (error.to_string(), "a file that can be read"),
    };
    problems.push(hidden(&path.display().to_string(), &found, expected));
    None
}

fn hidden(name: &str, origin: &str, expected: &str) -> SettingProblem {
    SettingProblem {
        name: name.to_owned(),
        found: FoundValue::Hidden { origin: origin.to_owned() },
        expected: expected.to_owned(),
    }
}
