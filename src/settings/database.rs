//! Which database, from the five `DB_` settings or from `DATABASE_URL`.

use std::path::PathBuf;

use secrecy::SecretString;

use super::catalogue::{
    DATABASE_URL, DATABASE_URL_FILE, DB_HOST, DB_NAME, DB_PASSWORD, DB_PASSWORD_FILE, DB_PORT, DB_USER,
};
use super::reader::{Reader, Refused};
use super::url;

/// The database that holds the flows and takes the data.
#[derive(Debug, Clone)]
pub enum DatabaseSettings {
    /// `MySQL`, `MariaDB` or a relative of theirs.
    MySql {
        /// Name or address of the server.
        host: String,
        /// Its TCP port.
        port: u16,
        /// The database.
        name: String,
        /// Who connects.
        user: String,
        /// Password of that user; may be empty.
        password: SecretString,
    },
    /// `PostgreSQL`.
    Postgres {
        /// Name or address of the server.
        host: String,
        /// Its TCP port.
        port: u16,
        /// The database.
        name: String,
        /// Who connects.
        user: String,
        /// Password of that user; may be empty.
        password: SecretString,
    },
    /// A file of `SQLite`, created when missing.
    Sqlite {
        /// Path of the file, counted from the working directory if relative.
        path: PathBuf,
    },
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<DatabaseSettings, Refused> {
    match reader.secret(&DATABASE_URL, &DATABASE_URL_FILE, false)? {
        Some(url) => from_url(reader, &url),
        None => from_parts(reader),
    }
}

fn from_url(reader: &mut Reader<'_>, url: &str) -> Result<DatabaseSettings, Refused> {
    for spec in [&DB_HOST, &DB_PORT, &DB_NAME, &DB_USER, &DB_PASSWORD, &DB_PASSWORD_FILE] {
        reader.pass_over(spec, "DATABASE_URL is set");
    }
    let origin = reader.origin(&DATABASE_URL);
    url::parse(url.trim()).map_err(|error| reader.refuse_secret(&DATABASE_URL, &origin, error.to_string()))
}

/// All five are read before the first one that is wrong ends it.
fn from_parts(reader: &mut Reader<'_>) -> Result<DatabaseSettings, Refused> {
    let host = reader.text(&DB_HOST);
    let port = reader.integer(&DB_PORT);
    let name = reader.text(&DB_NAME);
    let user = reader.text(&DB_USER);
    let password = reader
        .secret(&DB_PASSWORD, &DB_PASSWORD_FILE, true)
        .and_then(|password| password.ok_or_else(|| reader.refuse_missing(&DB_PASSWORD)));
    Ok(DatabaseSettings::MySql {
        host: host?,
        port: port?,
        name: name?,
        user: user?,
        password: password?.into(),
    })
}
