//! Connections to `PostgreSQL`, and the setup of their sessions.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sea_orm::sqlx::{self, ConnectOptions, Executor, Row};
use secrecy::ExposeSecret;

use super::STATEMENT_CACHE;
use super::access::{Access, ServerConnection};
use crate::settings::{DatabaseSettings, DatabaseTls, ServerAddress, TlsMode};

/// The name that the operator of the server sees for each session.
const APPLICATION_NAME: &str = "mqtt-gateway";

pub(super) fn options(settings: &DatabaseSettings, address: &ServerAddress) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        // Servers from version 12 on send floating-point numbers with all digits. PgBouncer rejects the parameter.
        .extra_float_digits(None)
        .application_name(APPLICATION_NAME)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    let DatabaseSettings::Postgres { name, user, password, tls, .. } = settings else { return options };
    with_tls(options, tls)
        .host(&address.host)
        .port(address.port)
        .database(name)
        .username(user)
        .password(password.expose_secret())
}

/// The driver reads the files for each connection.
fn with_tls(mut options: PgConnectOptions, tls: &DatabaseTls) -> PgConnectOptions {
    if let Some(ca) = &tls.ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options.ssl_mode(match tls.mode() {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    })
}

impl ServerConnection for PgConnection {
    async fn set_session(&mut self, lock_wait: Duration) -> Result<(), sqlx::Error> {
        self.execute(sqlx::AssertSqlSafe(session(lock_wait))).await?;
        Ok(())
    }

    /// A standby rejects writes, and so does a server whose sessions begin with read-only transactions.
    async fn access(&mut self) -> Result<Access, sqlx::Error> {
        const READ_ONLY: &str =
            "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'";
        let is_read_only: bool = self.fetch_one(READ_ONLY).await?.try_get(0)?;
        Ok(if is_read_only { Access::Reads } else { Access::Writes })
    }
}

/// The setup of every session, with the timeout for locks.
///
/// `idle_in_transaction_session_timeout` and the `tcp_` ones: a server frees the locks of a dead host after 20 s; a
/// live connection sends a statement within that time, also in a long transaction. `plan_cache_mode`: a plan cached for
/// an empty outbox would scan a long one. `synchronous_commit`: committed messages are deleted from the inbox, so a
/// commit has to be on a disk; the operator decides whether on one server or on several.
fn session(lock_wait: Duration) -> String {
    format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET lock_timeout = {lock_wait_ms}; \
         SET idle_in_transaction_session_timeout = '20s'; \
         SET tcp_keepalives_idle = 5; \
         SET tcp_keepalives_interval = 5; \
         SET tcp_keepalives_count = 3; \
         SET tcp_user_timeout = '20s'; \
         SET plan_cache_mode = force_custom_plan; \
         SET client_min_messages = warning; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'",
        lock_wait_ms = lock_wait.as_millis()
    )
}
