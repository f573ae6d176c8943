//! Connections to `PostgreSQL`, and how each of their sessions is set up.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor};
use secrecy::ExposeSecret;

use super::STATEMENT_CACHE;
use crate::settings::DatabaseSettings;

/// What the server's operator sees beside each of our sessions.
const APPLICATION_NAME: &str = "mqtt-gateway";

pub(super) fn options(settings: &DatabaseSettings) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .ssl_mode(PgSslMode::Prefer)
        .application_name(APPLICATION_NAME)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    let DatabaseSettings::Postgres { host, port, name, user, password } = settings else { return options };
    options.host(host).port(*port).database(name).username(user).password(password.expose_secret())
}

pub(super) async fn first_connection(
    settings: &DatabaseSettings,
    lock_wait: Duration,
) -> Result<(), sqlx::Error> {
    let mut connection = options(settings).connect().await?;
    set_up_session(&mut connection, lock_wait).await?;
    connection.close().await
}

pub(super) async fn set_up_session(
    connection: &mut PgConnection,
    lock_wait: Duration,
) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::AssertSqlSafe(session(lock_wait))).await?;
    Ok(())
}

/// Every session of ours, with the time that whatever is locked is waited for.
///
/// `idle_in_transaction_session_timeout` and the `tcp_` ones: a server that waits for a host that died
/// frees its locks after 20 s; a connection that lives says something within that, also in a long
/// transaction. `plan_cache_mode`: a plan that was kept from when the outbox was empty would scan it when it
/// is long. `synchronous_commit`: what is committed is deleted from the inbox, so it has to be on a
/// disk; which disks, of the server alone or of others as well, is the operator's to say.
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
