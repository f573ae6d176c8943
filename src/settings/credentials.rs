//! Allowed sources of credentials of brokers and endpoints.

use std::path::PathBuf;

use super::catalogue;

/// Files and environment variables that rows of `mqtt_servers` and `flows` may refer to.
///
/// Without this limit, a user with write access to the table could send any file or variable to a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// Directory that must contain the files.
    pub dir: PathBuf,
    /// Prefix of the variable names.
    pub env_prefix: String,
    /// Private files that settings name, such as `DB_PASSWORD_FILE` or `sslkey` in `DATABASE_URL`. A row must not refer
    /// to them, even inside `dir`.
    pub files_of_settings: Vec<PathBuf>,
}

impl CredentialSettings {
    /// Returns whether a row may refer to this environment variable. Settings of the gateway are never allowed.
    #[must_use]
    pub fn allows_variable(&self, name: &str) -> bool {
        name.starts_with(&self.env_prefix) && catalogue::find(name).is_none()
    }
}
