//! Connections to `MySQL` and its relatives, and the setup of their sessions.

use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sea_orm::sqlx::{self, ConnectOptions, Executor, Row};
use secrecy::ExposeSecret;

use super::STATEMENT_CACHE;
use super::access::{Access, ServerConnection};
use crate::settings::{DatabaseSettings, DatabaseTls, ServerAddress, TlsMode};

/// The variables that say whether a server accepts writes. Each relative has some of them (`MySQL`, Aurora, `TiDB`).
const READ_ONLY_VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
     ('read_only', 'super_read_only', 'innodb_read_only', 'tidb_super_read_only', 'tidb_restricted_read_only')";

/// The setup of every session on `MySQL`, with the timeout for a locked row in seconds.
///
/// `sql_mode`: without strictness 70,000 bytes silently become 65,535. `wait_timeout`: a server frees the locks of a
/// dead host after 20 s; a live connection sends a statement within that time, also in a long transaction.
/// `innodb_lock_wait_timeout`: a locked row; `lock_wait_timeout`: a table that is being altered, for which the default
/// is a day.
fn session(lock_wait: Duration) -> [String; 2] {
    [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        format!(
            "SET SESSION \
             sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
             time_zone = '+00:00', \
             wait_timeout = 20, \
             innodb_lock_wait_timeout = {}, \
             lock_wait_timeout = 30",
            lock_wait.as_secs()
        ),
    ]
}

pub(super) fn options(settings: &DatabaseSettings, address: &ServerAddress) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .charset("utf8mb4")
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    let DatabaseSettings::MySql { name, user, password, tls, .. } = settings else { return options };
    let options = options.host(&address.host).port(address.port).database(name).username(user);
    let options = with_tls(options, tls);
    // An empty password is sent as none: the server expects no proof for it.
    match password.expose_secret() {
        "" => options,
        password => options.password(password),
    }
}

/// The driver reads the files for each connection.
fn with_tls(mut options: MySqlConnectOptions, tls: &DatabaseTls) -> MySqlConnectOptions {
    if let Some(ca) = &tls.ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options.ssl_mode(match tls.mode() {
        TlsMode::Disable => MySqlSslMode::Disabled,
        TlsMode::Prefer => MySqlSslMode::Preferred,
        TlsMode::Require => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
    })
}

impl ServerConnection for MySqlConnection {
    async fn set_session(&mut self, lock_wait: Duration) -> Result<(), sqlx::Error> {
        for statement in session(lock_wait) {
            self.execute(sqlx::AssertSqlSafe(statement)).await?;
        }
        Ok(())
    }

    /// The variables decide, even if this user may write in spite of them.
    async fn access(&mut self) -> Result<Access, sqlx::Error> {
        for row in self.fetch_all(READ_ONLY_VARIABLES).await? {
            let value: String = row.try_get(1)?;
            if !["OFF", "0"].contains(&value.to_uppercase().as_str()) {
                return Ok(Access::Reads);
            }
        }
        Ok(Access::Writes)
    }
}
