//! Classification of a database's errors.

use mqtt_gateway::store::{Database, ErrorClass, StoreError};
use sea_orm::{ConnectionTrait, DbErr};

pub(crate) async fn class_of(database: &Database, sql: &str) -> ErrorClass {
    let session = database.begin().await.unwrap();
    let fault = fault(session.execute_unprepared(sql).await);
    session.rollback().await.unwrap();
    fault
}

pub(crate) fn fault<T>(outcome: Result<T, DbErr>) -> ErrorClass {
    let Err(source) = outcome else { panic!("the statement should have failed") };
    StoreError::Statement { doing: "testing", source }.class()
}
