//! The reaction of a pool to an error: it is kept, renewed, or connected to another server.

use std::sync::Arc;

use super::access::Demand;
use super::choice::choose;
use super::{Database, PoolParameters};
use crate::settings::Servers;
use crate::store::error::{ErrorClass, StoreError};

/// The reaction to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// None: the connections are as good as before.
    Unchanged,
    /// The pool is new, and connects to the same server.
    Renewed,
    /// The cause is gone: another server is used, or other credentials. Worth a retry at once.
    Mended,
}

impl Database {
    /// Whether another thread has switched from this pool's server to another one.
    #[must_use]
    pub(crate) fn is_superseded(&self) -> bool {
        self.origin.settings.servers().is_some_and(|servers| servers.in_use() != self.server)
    }

    /// Replaces the pool after `error`, if that may help.
    ///
    /// # Errors
    /// None of several servers can be used. Until one can, every use of this database fails at once, and the caller
    /// calls this again.
    pub(crate) async fn recover(&mut self, error: &StoreError) -> Result<Recovery, StoreError> {
        if error.is_about_credentials() && self.takes_new_credentials() {
            return Ok(Recovery::Mended);
        }
        // All servers were tried just before.
        if matches!(error, StoreError::NoServer { .. }) {
            return Ok(Recovery::Unchanged);
        }
        if self.concerns_the_server(error) {
            return self.choose_again(error).await;
        }
        if error.wants_new_connections() {
            *self = self.anew();
            return Ok(Recovery::Renewed);
        }
        Ok(Recovery::Unchanged)
    }

    /// Makes a new pool if the file of the secret holds other credentials than this pool uses.
    fn takes_new_credentials(&mut self) -> bool {
        let origin = self.origin.with_present_secret();
        if origin.settings.has_same_login(&self.origin.settings) {
            return false;
        }
        *self = Self::with_origin(Arc::new(origin), self.server);
        log::info!("Database: its credentials were read again, since it refused those read before");
        true
    }

    /// Whether another server may succeed.
    fn concerns_the_server(&self, error: &StoreError) -> bool {
        let tells = error.wants_new_connections() || error.class() == ErrorClass::ConnectionLost;
        Demand::of(&self.origin.settings) == Demand::Writes && (tells || error.is_about_credentials())
    }

    async fn choose_again(&mut self, error: &StoreError) -> Result<Recovery, StoreError> {
        let origin = Arc::new(self.origin.with_present_secret());
        let server = match choose(&origin.settings, origin.lock_wait).await {
            Ok(server) => server,
            Err(error) => {
                self.close_if_useless(origin, &error).await;
                return Err(error);
            }
        };
        let is_another = server != self.server;
        if !is_another && !self.is_closed && !error.wants_new_connections() {
            return Ok(Recovery::Unchanged);
        }
        let was_closed = self.is_closed;
        *self = Self::with_origin(origin, server);
        Ok(if is_another || was_closed { Recovery::Mended } else { Recovery::Renewed })
    }

    /// Closes the pool if its server is gone: each use would take seconds. A server that answers and only rejects
    /// another connection may still serve the existing ones.
    async fn close_if_useless(&mut self, origin: Arc<PoolParameters>, error: &StoreError) {
        let StoreError::NoServer { tried } = error else { return };
        let is_there = tried.first().is_some_and(
            |first| matches!(first, StoreError::Connect { .. } if first.class() != ErrorClass::ConnectionLost),
        );
        if !is_there {
            let server = origin.settings.servers().map_or(0, Servers::in_use);
            let closed = Self::with_origin(origin, server);
            // No connection is open yet, so closing ends at once and cannot fail in a way that matters.
            let _ = closed.connection.close_by_ref().await;
            *self = Self { is_closed: true, ..closed };
        }
    }
}
