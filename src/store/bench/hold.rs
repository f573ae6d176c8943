//! Stops the gateway's database: meanwhile messages wait in the inbox.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::store::connect::Database;
use crate::store::error::{StoreError, While};

/// A lock on all lanes, held by a transaction. Released when this is dropped, or the connection is lost.
pub(crate) struct Hold(DatabaseTransaction);

impl Hold {
    /// Locks the rows of all lanes; on `SQLite` the database.
    pub(crate) async fn take(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin().await?;
        let sql = format!("SELECT lane FROM inbox_offsets{}", database.dialect.for_update());
        transaction.execute_unprepared(&sql).await.while_doing("locking the lanes")?;
        Ok(Self(transaction))
    }

    /// Executes a statement, since an idle session is ended.
    pub(crate) async fn keep(&self) -> Result<(), StoreError> {
        self.0.execute_unprepared("SELECT 1").await.while_doing("keeping the lanes locked")?;
        Ok(())
    }

    /// Releases the lock.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        self.0.rollback().await.while_doing("releasing the lanes")
    }
}
