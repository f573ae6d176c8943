//! Who delivers which rows: leases of owners, and what happens to the rows of one whose lease ran
//! out.

use std::time::Duration;

use sea_orm::{FromQueryResult, Value};

use super::{Outbox, micros};
use crate::store::error::{StoreError, While};

/// How long a lease lasts. To be renewed several times within it.
pub const LEASE: Duration = Duration::from_mins(1);

/// The row of a lease that ran out is kept for so long: a transaction of its owner may still be
/// under way and leave rows behind.
const FORGET_OWNER_AFTER: Duration = Duration::from_hours(24);

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It was held all the time.
    Held,
    /// It is held from now on; before, there was none, or it had run out and others may have
    /// claimed the rows.
    Begun,
}

#[derive(Debug, FromQueryResult)]
struct OwnerRow {
    owner: String,
}

impl Outbox {
    /// Renews our lease, or begins one.
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
            found = Lease::Begun;
            if self.execute(&transaction, renewal, [lease(), owner()]).await.while_doing(DOING)? == 0 {
                let insert = format!("INSERT INTO outbox_owners (lease_until, owner) VALUES ({until}, ?)");
                self.execute(&transaction, insert, [lease(), owner()]).await.while_doing(DOING)?;
            }
        }
        transaction.commit().await.while_doing(DOING)?;
        Ok(found)
    }

    /// Takes over the rows of owners whose lease ran out, and answers how many. Owners that have
    /// rows and no lease get one in their name: if they live, they renew it.
    pub async fn claim_abandoned(&self) -> Result<u64, StoreError> {
        const DOING: &str = "looking for abandoned deliveries";
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

    /// Whoever holds the lock on the lease moves the rows; the next one finds none left.
    async fn claim_from(&self, other: &str) -> Result<u64, StoreError> {
        const DOING: &str = "taking over abandoned deliveries";
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
