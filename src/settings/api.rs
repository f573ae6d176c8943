//! Settings of the API.

use std::path::{Path, PathBuf};

use super::catalogue::{ADMIN_HOSTS, ADMIN_TOKEN_FILE};
use super::files::{FileSystem, Files};
use super::reader::{InvalidSetting, SettingsReader};
use super::secret_source::read_secret;

/// Shortest token in a file. It is compared as it is, so it must not be guessable.
const MIN_TOKEN_CHARS: usize = 32;

/// Access to the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// Names in the header `Host` that are accepted, in lower case, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// File with a token of scope `admin`.
    pub token_file: Option<PathBuf>,
}

impl ApiSettings {
    /// Reads the token of `ADMIN_TOKEN_FILE` again. The error contains nothing of the file.
    pub(crate) fn admin_token(&self) -> Result<Option<String>, String> {
        let read = |path: &PathBuf| {
            token(&FileSystem, path).map_err(|reason| format!("cannot use {}: {reason}", path.display()))
        };
        self.token_file.as_ref().map(read).transpose()
    }
}

pub(super) fn read(reader: &mut SettingsReader<'_>) -> Result<ApiSettings, InvalidSetting> {
    let hosts = reader.text_if_set(&ADMIN_HOSTS);
    let token_file = reader.path_if_set(&ADMIN_TOKEN_FILE);
    let hosts = hosts?.unwrap_or_default();
    let hosts: Vec<String> =
        hosts.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    if !hosts.iter().all(|name| is_name(name)) {
        let expected = "names without scheme and port, separated by commas: `gateway.example,gateway`";
        return Err(reader.refuse_setting(&ADMIN_HOSTS, expected.to_owned()));
    }
    let token_file = token_file?;
    if let Some(path) = &token_file
        && let Err(reason) = token(reader.source(), path)
    {
        let expected =
            format!("a file with a token of at least {MIN_TOKEN_CHARS} letters, digits and signs ({reason})");
        return Err(reader.refuse_setting(&ADMIN_TOKEN_FILE, expected));
    }
    Ok(ApiSettings { hosts, token_file })
}

fn is_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn token(files: &dyn Files, path: &Path) -> Result<String, String> {
    let text = read_secret(files, path)?;
    if text.len() < MIN_TOKEN_CHARS {
        return Err("the token is too short".to_owned());
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("the token has other characters".to_owned());
    }
    Ok(text)
}
