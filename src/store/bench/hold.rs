//! Holds the gateway's database up: what it takes in meanwhile waits in its inbox.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::store::connect::Database;
use crate::store::error::{StoreError, While};

/// All lanes, held by a transaction. Let go when this is dropped, or the connection is lost.
pub(crate) struct Hold(DatabaseTransaction);

impl Hold {
    /// Takes the rows of all lanes; on `SQLite` the right to write.
    pub(crate) async fn take(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin().await?;
        let sql = format!("SELECT lane FROM inbox_offsets{}", database.dialect.for_update());
        transaction.execute_unprepared(&sql).await.while_doing("holding the lanes up")?;
        Ok(Self(transaction))
    }

    /// Says something, since a session that is silent for too long is ended.
    pub(crate) async fn keep(&self) -> Result<(), StoreError> {
        self.0.execute_unprepared("SELECT 1").await.while_doing("keeping the lanes held up")?;
        Ok(())
    }

    /// Lets go.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        self.0.rollback().await.while_doing("letting the lanes go")
    }
}
