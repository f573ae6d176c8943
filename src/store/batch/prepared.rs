//! A transaction that is begun before there is anything to do in it.
//!
//! BEGIN is a round trip, and a lone message would wait for it. A transaction that has done nothing holds no
//! lock, and at READ COMMITTED no view of the data: what it reads first is as of then. On `SQLite` it would hold
//! the write lock, so there none is begun ahead.

use std::time::{Duration, Instant};

use sea_orm::DatabaseTransaction;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::store::connect::Database;
use crate::store::dialect::Dialect;

/// An older one is not used, since its connection may be gone by now, and not kept: operators rightly wonder
/// about transactions that are open and do nothing.
const FRESH: Duration = Duration::from_secs(1);

/// Who has to wait longer for BEGIN has nothing to gain by it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transaction, if there is one.
#[derive(Debug, Default)]
pub(super) struct PreparedTransaction(Option<Ready>);

#[derive(Debug)]
struct Ready {
    transaction: DatabaseTransaction,
    since: Instant,
    /// What the connection belongs to.
    runtime: Handle,
}

impl PreparedTransaction {
    /// Begins one, unless there is one. That it cannot be had is no failure: whoever needs one will see.
    pub(super) async fn begin(&mut self, database: &Database) {
        if self.0.is_none() && database.dialect != Dialect::Sqlite {
            let prepared = timeout(PATIENCE, database.begin()).await;
            self.0 = prepared.ok().and_then(Result::ok).map(|transaction| Ready {
                transaction,
                since: Instant::now(),
                runtime: Handle::current(),
            });
        }
    }

    /// The transaction, if it is fresh.
    pub(super) fn take(&mut self) -> Option<DatabaseTransaction> {
        self.drop_stale();
        self.0.take().map(|ready| ready.transaction)
    }

    /// Ends one that is no longer fresh.
    pub(super) fn drop_stale(&mut self) {
        self.0.take_if(|ready| ready.since.elapsed() >= FRESH);
    }
}

impl Drop for PreparedTransaction {
    /// The driver rolls back in a task, and panics where there is no runtime to spawn it on: at the end of a
    /// thread its actors are dropped after the runtime was left.
    fn drop(&mut self) {
        if let Some(Ready { transaction, runtime, .. }) = self.0.take() {
            let _entered = runtime.enter();
            drop(transaction);
        }
    }
}
