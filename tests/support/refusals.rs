//! What the store makes of what a database refuses.

use mqtt_gateway::store::{Database, Fault, StoreError};
use sea_orm::{ConnectionTrait, DbErr};

pub(crate) async fn fault_of(database: &Database, sql: &str) -> Fault {
    let session = database.begin().await.unwrap();
    let fault = fault(session.execute_unprepared(sql).await);
    session.rollback().await.unwrap();
    fault
}

pub(crate) fn fault<T>(outcome: Result<T, DbErr>) -> Fault {
    let Err(source) = outcome else { panic!("the statement should have failed") };
    StoreError::Statement { doing: "testing", source }.fault()
}
