//! The first connection to a server and the setup of its sessions.

use std::time::Duration;

use sea_orm::sqlx::{self, ConnectOptions, Connection};

use crate::settings::{DatabaseSettings, Servers};

/// The access that a server grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It accepts writes.
    Writes,
    /// It is a replica, or was set read-only.
    Reads,
    /// It was not asked.
    Unknown,
}

/// The access that a connection must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Any access: there is no other server, and its errors name what is denied.
    Anything,
    /// Another server may accept the writes that this one rejects.
    Writes,
}

impl Demand {
    pub(super) fn of(settings: &DatabaseSettings) -> Self {
        let several = settings.servers().is_some_and(Servers::are_several);
        if several { Self::Writes } else { Self::Anything }
    }
}

/// A connection to one kind of server.
pub(super) trait ServerConnection: Connection {
    /// Sets the session up, with the timeout for a locked row.
    async fn set_session(&mut self, lock_wait: Duration) -> Result<(), sqlx::Error>;

    /// Asks whether the server accepts writes.
    async fn access(&mut self) -> Result<Access, sqlx::Error>;
}

/// Connects once and sets the session up; returns whether the server accepts writes, if that is demanded.
pub(super) async fn connect_once<O>(
    options: O,
    lock_wait: Duration,
    demanded: Demand,
) -> Result<Access, sqlx::Error>
where
    O: ConnectOptions,
    O::Connection: ServerConnection + Sized,
{
    let mut connection = options.connect().await?;
    connection.set_session(lock_wait).await?;
    let access = match demanded {
        Demand::Anything => Access::Unknown,
        Demand::Writes => connection.access().await?,
    };
    connection.close().await?;
    Ok(access)
}

/// Sets up a session of a pool. Fails if writes are demanded and the server accepts none.
pub(super) async fn set_up_session(
    connection: &mut impl ServerConnection,
    lock_wait: Duration,
    demanded: Demand,
) -> Result<(), sqlx::Error> {
    connection.set_session(lock_wait).await?;
    if demanded == Demand::Writes && connection.access().await? == Access::Reads {
        return Err(sqlx::Error::Configuration("the server takes no writes".into()));
    }
    Ok(())
}
