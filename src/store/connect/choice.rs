//! Chooses the server: the first of the list that accepts writes.
//!
//! A single server is used without checking whether it accepts writes, because no other could replace it.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

use super::access::{Access, Demand, connect_once};
use super::{CONNECT_TIMEOUT, first_sqlite_connection, mysql, postgres};
use crate::domain::library_text::without_links;
use crate::settings::{DatabaseSettings, ServerAddress, Servers};
use crate::store::error::StoreError;

/// Connects once, which gives a precise error, to the server in use or else to the others in the order of the list.
/// Returns the index of the first usable one, which is in use from then on.
pub(super) async fn choose(settings: &DatabaseSettings, lock_wait: Duration) -> Result<usize, StoreError> {
    let Some(servers) = settings.servers() else {
        try_file(settings).await?;
        return Ok(0);
    };
    let mut tried = Vec::new();
    for index in servers.by_preference() {
        let address = servers.address(index);
        // Boxed, because the future is large and rarely awaited.
        match Box::pin(try_server(settings, address, lock_wait)).await {
            Ok(Access::Writes | Access::Unknown) => {
                if servers.switch_to(index).is_some() {
                    log::warn!("Database: using {address}, since {}", reasons(&tried));
                }
                return Ok(index);
            }
            Ok(Access::Reads) => tried.push((address, read_only(settings, address))),
            Err(error) => tried.push((address, error)),
        }
    }
    let mut errors: Vec<StoreError> = tried.into_iter().map(|(_, error)| error).collect();
    match errors.pop() {
        Some(error) if errors.is_empty() => Err(error),
        last => Err(StoreError::NoServer { tried: errors.into_iter().chain(last).collect() }),
    }
}

/// The answers of the servers, in the order of the list.
pub(crate) async fn probe(
    settings: &DatabaseSettings,
    lock_wait: Duration,
) -> Vec<(ServerAddress, Result<Access, StoreError>)> {
    let mut answers = Vec::new();
    for address in settings.servers().map(Servers::addresses).unwrap_or_default() {
        answers.push((address.clone(), try_server(settings, address, lock_wait).await));
    }
    answers
}

fn reasons(tried: &[(&ServerAddress, StoreError)]) -> String {
    let reasons = tried.iter().map(|(address, error)| match error {
        StoreError::ReadOnly { .. } => format!("{address} takes no writes"),
        StoreError::Connect { source, .. } => {
            format!("{address} cannot be connected to ({})", without_links(source))
        }
        other => format!("{address} does not answer ({other})"),
    });
    reasons.collect::<Vec<_>>().join("; ")
}

fn read_only(settings: &DatabaseSettings, address: &ServerAddress) -> StoreError {
    StoreError::ReadOnly { target: target(settings, address) }
}

/// The database, without the password.
fn target(settings: &DatabaseSettings, address: &ServerAddress) -> String {
    match settings {
        DatabaseSettings::MySql { name, user, .. } | DatabaseSettings::Postgres { name, user, .. } => {
            format!("database {name} at {address} as user {user}")
        }
        DatabaseSettings::Sqlite { path } => format!("database {}", path.display()),
    }
}

async fn try_server(
    settings: &DatabaseSettings,
    address: &ServerAddress,
    lock_wait: Duration,
) -> Result<Access, StoreError> {
    let target = target(settings, address);
    let demanded = Demand::of(settings);
    if matches!(settings, DatabaseSettings::Postgres { .. }) {
        first_connection(connect_once(postgres::options(settings, address), lock_wait, demanded), target)
            .await
    } else {
        first_connection(connect_once(mysql::options(settings, address), lock_wait, demanded), target).await
    }
}

async fn try_file(settings: &DatabaseSettings) -> Result<(), StoreError> {
    let DatabaseSettings::Sqlite { path } = settings else { return Ok(()) };
    let target = format!("database {}", path.display());
    first_connection(first_sqlite_connection(path), target).await
}

async fn first_connection<T>(
    connecting: impl Future<Output = Result<T, sqlx::Error>>,
    target: String,
) -> Result<T, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let source = DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)));
            Err(StoreError::Connect { target, source })
        }
        Err(_) => Err(StoreError::NoAnswer { target, waited: CONNECT_TIMEOUT }),
    }
}
