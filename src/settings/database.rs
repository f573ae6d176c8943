//! Database settings, from the five `DB_` settings or from `DATABASE_URL`.

use std::path::PathBuf;

use secrecy::SecretString;

use super::catalogue::{
    DATABASE_URL, DATABASE_URL_FILE, DB_HOST, DB_NAME, DB_PASSWORD, DB_PASSWORD_FILE, DB_PORT, DB_SSL_CA,
    DB_SSL_CERT, DB_SSL_KEY, DB_SSL_MODE, DB_USER,
};
use super::reader::{InvalidSetting, SettingsReader};
use super::secret_source::SecretSource;
use super::servers::Servers;
use super::tls::{self, DatabaseTls};
use super::{host_list, url};

/// Placeholder for an invalid `DB_PORT`, so that the other settings are still checked.
const DEFAULT_PORT: u16 = 3306;

/// The database with the flows and the data.
#[derive(Debug, Clone)]
pub enum DatabaseSettings {
    /// `MySQL`, `MariaDB` or a compatible server.
    MySql {
        /// Servers; the first writable one is used.
        servers: Servers,
        /// Name of the database.
        name: String,
        /// User name.
        user: String,
        /// Password of the user; may be empty.
        password: SecretString,
        /// Source of the password.
        source: SecretSource,
        /// TLS settings.
        tls: DatabaseTls,
    },
    /// `PostgreSQL`.
    Postgres {
        /// Servers; the first writable one is used.
        servers: Servers,
        /// Name of the database.
        name: String,
        /// User name.
        user: String,
        /// Password of the user; may be empty.
        password: SecretString,
        /// Source of the password.
        source: SecretSource,
        /// TLS settings.
        tls: DatabaseTls,
    },
    /// A `SQLite` file, created if missing.
    Sqlite {
        /// Path of the file, relative to the working directory.
        path: PathBuf,
    },
}

impl DatabaseSettings {
    /// Returns the servers; none for `SQLite`.
    #[must_use]
    pub fn servers(&self) -> Option<&Servers> {
        match self {
            Self::MySql { servers, .. } | Self::Postgres { servers, .. } => Some(servers),
            Self::Sqlite { .. } => None,
        }
    }

    /// Returns the TLS settings; none for `SQLite`.
    #[must_use]
    pub fn tls(&self) -> Option<&DatabaseTls> {
        match self {
            Self::MySql { tls, .. } | Self::Postgres { tls, .. } => Some(tls),
            Self::Sqlite { .. } => None,
        }
    }

    /// Returns the gateway's certificate and its key, or the file of the database. Authorities are public.
    pub(super) fn private_files(&self) -> Vec<PathBuf> {
        match self {
            Self::MySql { tls, .. } | Self::Postgres { tls, .. } => {
                [&tls.cert, &tls.key].into_iter().flatten().cloned().collect()
            }
            Self::Sqlite { path } => vec![path.clone()],
        }
    }

    /// Replaces the TLS settings.
    pub(crate) fn with_tls(mut self, protection: DatabaseTls) -> Self {
        if let Self::MySql { tls, .. } | Self::Postgres { tls, .. } = &mut self {
            *tls = protection;
        }
        self
    }
}

pub(super) fn read(reader: &mut SettingsReader<'_>) -> Result<DatabaseSettings, InvalidSetting> {
    match reader.secret(&DATABASE_URL, &DATABASE_URL_FILE)? {
        Some(url) => from_url(reader, &url),
        None => from_parts(reader),
    }
}

fn from_url(reader: &mut SettingsReader<'_>, url: &str) -> Result<DatabaseSettings, InvalidSetting> {
    for spec in [&DB_HOST, &DB_PORT, &DB_NAME, &DB_USER, &DB_PASSWORD, &DB_PASSWORD_FILE] {
        reader.show_unused(spec, "DATABASE_URL is set");
    }
    let origin = reader.origin(&DATABASE_URL);
    let mut settings = url::parse(url.trim())
        .map_err(|error| reader.refuse_secret(&DATABASE_URL, &origin, error.to_string()))?;
    if let (Some(path), DatabaseSettings::MySql { source, .. } | DatabaseSettings::Postgres { source, .. }) =
        (reader.configured_path(&DATABASE_URL_FILE), &mut settings)
    {
        *source = SecretSource::UrlFile(path);
    }
    let Some(in_url) = settings.tls().cloned() else {
        for spec in [&DB_SSL_MODE, &DB_SSL_CA, &DB_SSL_CERT, &DB_SSL_KEY] {
            reader.show_unused(spec, "the database is a file");
        }
        return Ok(settings);
    };
    Ok(settings.with_tls(tls::read(reader, Some(in_url))?))
}

/// Reads all `DB_` settings before returning, so that every problem is reported.
fn from_parts(reader: &mut SettingsReader<'_>) -> Result<DatabaseSettings, InvalidSetting> {
    let hosts = reader.text(&DB_HOST);
    let port = reader.integer(&DB_PORT);
    let servers = hosts.and_then(|hosts| servers(reader, &hosts, *port.as_ref().unwrap_or(&DEFAULT_PORT)));
    let name = reader.text(&DB_NAME);
    let user = reader.text(&DB_USER);
    let password = reader
        .secret_or_empty(&DB_PASSWORD, &DB_PASSWORD_FILE)
        .and_then(|password| password.ok_or_else(|| reader.refuse_missing(&DB_PASSWORD)));
    let tls = tls::read(reader, None);
    port?;
    Ok(DatabaseSettings::MySql {
        servers: servers?,
        name: name?,
        user: user?,
        password: password?.into(),
        source: reader
            .configured_path(&DB_PASSWORD_FILE)
            .map_or(SecretSource::Fixed, SecretSource::PasswordFile),
        tls: tls?,
    })
}

fn servers(reader: &mut SettingsReader<'_>, hosts: &str, port: u16) -> Result<Servers, InvalidSetting> {
    host_list::parse(hosts, port).map_err(|_| {
        reader.refuse_setting(&DB_HOST, "a host, or several as in `db-a:3306,db-b:3306`".to_owned())
    })
}
