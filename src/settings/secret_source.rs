//! Source of the database credentials, so that rotated secrets can be read again.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::files::{FileSystem, Files};
use super::{DatabaseSettings, url};

/// Source of the password, or of the URL with the password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SecretSource {
    /// A setting, which never changes at run time.
    #[default]
    Fixed,
    /// The file in `DB_PASSWORD_FILE`.
    PasswordFile(PathBuf),
    /// The file in `DATABASE_URL_FILE`.
    UrlFile(PathBuf),
}

/// Error of reading a secret again. Never quotes the content of the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} again: {reason}", .path.display())]
pub(crate) struct RereadError {
    path: PathBuf,
    reason: String,
}

/// Reads a secret from a file, without one newline at its end.
pub(super) fn read_secret(files: &dyn Files, path: &Path) -> Result<String, String> {
    let content = files.read(path).map_err(|error| error.to_string())?;
    let content = content.ok_or_else(|| "there is no such file".to_owned())?;
    let text = String::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

impl DatabaseSettings {
    /// Reads user and password from the file again. Returns the updated settings; none if nothing changed.
    ///
    /// Host and database are never updated: threads connect at different times, and must not use two databases.
    pub(crate) fn reread(&self) -> Result<Option<Self>, RereadError> {
        let (Self::MySql { source, .. } | Self::Postgres { source, .. }) = self else { return Ok(None) };
        let mut fresh = self.clone();
        let (path, read) = match source {
            SecretSource::Fixed => return Ok(None),
            SecretSource::PasswordFile(path) => (path, fresh.reread_password(path)),
            SecretSource::UrlFile(path) => (path, fresh.reread_url(path)),
        };
        read.map_err(|reason| RereadError { path: path.clone(), reason })?;
        Ok((!self.has_same_login(&fresh)).then_some(fresh))
    }

    fn reread_password(&mut self, path: &Path) -> Result<(), String> {
        let text = read_secret(&FileSystem, path)?;
        if text.contains('\0') {
            return Err("a text without NUL is expected".to_owned());
        }
        if let Some((_, password)) = self.login_mut() {
            *password = text.into();
        }
        Ok(())
    }

    fn reread_url(&mut self, path: &Path) -> Result<(), String> {
        let text = read_secret(&FileSystem, path)?;
        let mut read = url::parse(text.trim()).map_err(|error| format!("expected {error}"))?;
        if let (Some((user, password)), Some((new_user, new_password))) = (self.login_mut(), read.login_mut())
        {
            std::mem::swap(user, new_user);
            std::mem::swap(password, new_password);
        }
        Ok(())
    }

    fn login_mut(&mut self) -> Option<(&mut String, &mut SecretString)> {
        match self {
            Self::MySql { user, password, .. } | Self::Postgres { user, password, .. } => {
                Some((user, password))
            }
            Self::Sqlite { .. } => None,
        }
    }

    /// Returns whether user and password are equal.
    pub(crate) fn has_same_login(&self, other: &Self) -> bool {
        self.login() == other.login()
    }

    fn login(&self) -> Option<(&str, &str)> {
        match self {
            Self::MySql { user, password, .. } | Self::Postgres { user, password, .. } => {
                Some((user, password.expose_secret()))
            }
            Self::Sqlite { .. } => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn from_file(url: &str, source: SecretSource) -> DatabaseSettings {
        let mut settings = url::parse(url).unwrap();
        if let DatabaseSettings::MySql { source: place, .. }
        | DatabaseSettings::Postgres { source: place, .. } = &mut settings
        {
            *place = source;
        }
        settings
    }

    #[test]
    fn a_changed_password_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "old\n").unwrap();
        let settings = from_file("mysql://me:old@db/g", SecretSource::PasswordFile(path.clone()));
        assert!(settings.reread().unwrap().is_none());
        std::fs::write(&path, "n\new\n\n").unwrap();
        let fresh = settings.reread().unwrap().unwrap();
        assert_eq!(fresh.login(), Some(("me", "n\new\n")));
        assert!(fresh.reread().unwrap().is_none());
    }

    #[test]
    fn changed_url_file_updates_login_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        let settings = from_file("postgres://me:old@db/g", SecretSource::UrlFile(path.clone()));
        std::fs::write(&path, "postgres://other:new@elsewhere/h\n").unwrap();
        let fresh = settings.reread().unwrap().unwrap();
        assert_eq!(fresh.login(), Some(("other", "new")));
        assert_eq!(fresh.servers().unwrap().to_string(), "db:5432");
    }

    #[test]
    fn reread_error_hides_file_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        let settings = from_file("postgres://me:old@db/g", SecretSource::UrlFile(path.clone()));
        assert!(settings.reread().err().unwrap().to_string().contains("there is no such file"));
        std::fs::write(&path, "hush-hush").unwrap();
        let error = settings.reread().err().unwrap().to_string();
        assert!(error.contains("url again: expected `mysql://"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
