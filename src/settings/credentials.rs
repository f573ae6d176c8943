//! Where the table `mqtt_servers` may say that a user name or password stands.

use std::path::PathBuf;

use super::catalogue;

/// Which files and environment variables a row of `mqtt_servers` may refer to. Without a bound, whoever may write to
/// that table could have any file and variable of the gateway sent to a broker of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSettings {
    /// The directory below which the files are.
    pub dir: PathBuf,
    /// The beginning of the variables' names.
    pub env_prefix: String,
    /// Files that settings name, such as `DB_PASSWORD_FILE`: no row may refer to one, wherever it is.
    pub files_of_settings: Vec<PathBuf>,
}

impl CredentialSettings {
    /// Whether a row may refer to this environment variable. Settings of the gateway are never among them.
    #[must_use]
    pub fn allows_variable(&self, name: &str) -> bool {
        name.starts_with(&self.env_prefix) && catalogue::find(name).is_none()
    }
}
