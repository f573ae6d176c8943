//! Settings given by a command, which must not depend on files in the working directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::assemble::load_settings_for;
use super::files::{FileSystem, Files};
use super::layers::{DOTENV, Sources};
use super::replicas::Purpose;
#[cfg(feature = "tools")]
use super::{DatabaseSettings, UrlError, catalogue, url};
use super::{Settings, SettingsError};

/// Loads settings from the defaults and `given`, and reads no files but those that settings name.
///
/// Environment variables override `given` only for the settings in `inherited`.
pub(crate) fn load_given(given: &[(&str, &str)], inherited: &[&str]) -> Result<Settings, SettingsError> {
    let mut environment: BTreeMap<String, OsString> =
        given.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    let from_outside =
        inherited.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
    environment.extend(from_outside);
    let loaded = load_settings_for(Purpose::Running, &Sources { environment, files: &NamedFiles })?;
    Ok(loaded.settings)
}

/// Parses a database URL, as in `DATABASE_URL`.
#[cfg(feature = "tools")]
pub(crate) fn parse_database_url(url: &str) -> Result<DatabaseSettings, UrlError> {
    url::parse(url.trim())
}

/// Returns whether a setting with this name exists.
#[cfg(feature = "tools")]
pub(crate) fn is_setting(name: &str) -> bool {
    catalogue::ALL.iter().any(|spec| spec.name == name)
}

/// The files that settings name. Their paths are absolute, because the gateway may have another working directory.
struct NamedFiles;

impl Files for NamedFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if path.is_absolute() {
            FileSystem.read(path)
        } else if path == Path::new(DOTENV) {
            Ok(None)
        } else {
            Err(io::Error::other("the path is not absolute"))
        }
    }

    fn toml_files(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn given_values_override_defaults() {
        let settings =
            load_given(&[("DATABASE_URL", "sqlite:here.sqlite"), ("MQTT_CLIENT_ID", "mine")], &[]).unwrap();
        assert_eq!(settings.mqtt.client_id, "mine");
        assert_eq!(settings.mqtt.qos, 1);
    }

    #[test]
    fn given_values_are_validated() {
        let error =
            load_given(&[("DATABASE_URL", "sqlite:here.sqlite"), ("MQTT_QOS", "7")], &[]).unwrap_err();
        assert_eq!(error.problems().len(), 1);
    }

    #[test]
    fn only_named_files_are_read() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "a-token-that-is-long-enough-to-be-one").unwrap();
        let load = |path: &str| {
            load_given(&[("DATABASE_URL", "sqlite:here.sqlite"), ("ADMIN_TOKEN_FILE", path)], &[])
        };
        load(file.to_str().unwrap()).unwrap();
        let error = load("token").unwrap_err().to_string();
        assert!(error.contains("the path is not absolute"), "{error}");
    }
}
