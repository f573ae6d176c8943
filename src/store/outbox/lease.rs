//! Leases of the owners of rows, and the claim of rows whose owner's lease has expired.

use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};

use super::{Outbox, micros};
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Duration of a lease. It is renewed several times within it.
pub const LEASE: Duration = Duration::from_mins(1);

/// The row of an expired lease is kept for this time: a transaction of its owner may still be open and add rows.
const FORGET_OWNER_AFTER: Duration = Duration::from_hours(24);

/// The result of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// The lease was valid all the time.
    Held,
    /// The lease begins now: there was none, or it had expired and others may have claimed the rows.
    Acquired,
}

/// The statement that adds an owner unless it is there. Only posts of known owners keep later ones of others waiting. A
/// present row is not touched, because its owner has to renew it meanwhile.
pub(in crate::store) fn owner_insertion(dialect: Dialect, owner: &str, lease: Duration) -> Statement {
    let row = format!(
        "SELECT owners.owner, {} FROM (SELECT ? AS owner) AS owners \
         WHERE owners.owner NOT IN (SELECT owner FROM outbox_owners)",
        dialect.now_plus_micros()
    );
    let sql = dialect.insert_unless_there("outbox_owners (owner, lease_until)", &row);
    statement(dialect.backend(), sql, [Value::from(micros(lease)), owner.into()])
}

#[derive(Debug, FromQueryResult)]
struct OwnerRow {
    owner: String,
}

impl Outbox {
    /// Renews the own lease, or begins one.
    pub async fn renew_lease(&self) -> Result<Lease, StoreError> {
        const DOING: &str = "renewing the lease on the outbox";
        let dialect = self.database.dialect;
        let (now, until) = (dialect.now(), dialect.now_plus_micros());
        let owner = || Value::from(&*self.owner);
        let lease = || Value::from(micros(LEASE));
        let transaction = self.database.begin().await?;
        let renewal = format!("UPDATE outbox_owners SET lease_until = {until} WHERE owner = ?");
        let held = format!("{renewal} AND lease_until > {now}");
        let mut found = Lease::Held;
        if self.execute(&transaction, held, [lease(), owner()]).await.while_doing(DOING)? == 0 {
            found = Lease::Acquired;
            if self.execute(&transaction, renewal, [lease(), owner()]).await.while_doing(DOING)? == 0 {
                let insert = format!("INSERT INTO outbox_owners (lease_until, owner) VALUES ({until}, ?)");
                self.execute(&transaction, insert, [lease(), owner()]).await.while_doing(DOING)?;
            }
        }
        transaction.commit().await.while_doing(DOING)?;
        Ok(found)
    }

    /// Whether there are rows of owners whose lease has expired.
    pub async fn has_abandoned(&self) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT message_id FROM outbox WHERE owner IN \
             (SELECT owner FROM outbox_owners WHERE lease_until < {} AND owner <> ?) LIMIT 1",
            self.database.dialect.now()
        );
        let found = self.statement(sql, [Value::from(&*self.owner)]);
        let found = self.database.connection.query_one_raw(found).await;
        Ok(found.while_doing("finding expired leases")?.is_some())
    }

    /// Claims the rows of owners whose lease has expired, and returns their number. Owners with rows and without a
    /// lease get a lease, which they renew if they live.
    pub async fn claim_abandoned(&self) -> Result<u64, StoreError> {
        const DOING: &str = "finding expired leases";
        let dialect = self.database.dialect;
        let on = &self.database.connection;
        let adopt = format!(
            "SELECT owner, {} FROM (SELECT DISTINCT owner FROM outbox) AS owners \
             WHERE owner NOT IN (SELECT owner FROM outbox_owners)",
            dialect.now_plus_micros()
        );
        let adopt = dialect.insert_unless_there("outbox_owners (owner, lease_until)", &adopt);
        self.execute(on, adopt, [micros(LEASE).into()]).await.while_doing(DOING)?;
        let expired =
            format!("SELECT owner FROM outbox_owners WHERE lease_until < {} AND owner <> ?", dialect.now());
        let expired = self.statement(expired, [Value::from(&*self.owner)]);
        let expired = OwnerRow::find_by_statement(expired).all(on).await.while_doing(DOING)?;
        let mut claimed = 0;
        for other in expired {
            claimed += self.claim_from(&other.owner).await?;
        }
        Ok(claimed)
    }

    /// The holder of the lock on the lease moves the rows; the next one finds none left.
    async fn claim_from(&self, other: &str) -> Result<u64, StoreError> {
        const DOING: &str = "claiming the rows of expired leases";
        let dialect = self.database.dialect;
        let transaction = self.database.begin().await?;
        let lock = format!(
            "SELECT owner FROM outbox_owners WHERE owner = ? AND lease_until < {}{}",
            dialect.now(),
            dialect.for_update()
        );
        let lock = self.statement(lock, [Value::from(other)]);
        if OwnerRow::find_by_statement(lock).one(&transaction).await.while_doing(DOING)?.is_none() {
            return Ok(0);
        }
        let values = [Value::from(&*self.owner), Value::from(other)];
        let claim = "UPDATE outbox SET owner = ? WHERE owner = ?".to_owned();
        let claimed = self.execute(&transaction, claim, values).await.while_doing(DOING)?;
        let forget = format!(
            "DELETE FROM outbox_owners WHERE owner = ? AND lease_until < {}",
            dialect.now_plus_micros()
        );
        let values = [Value::from(other), (-micros(FORGET_OWNER_AFTER)).into()];
        self.execute(&transaction, forget, values).await.while_doing(DOING)?;
        transaction.commit().await.while_doing(DOING)?;
        Ok(claimed)
    }
}
