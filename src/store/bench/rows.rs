//! Rows of `data`, written at the least cost: by the driver itself, without the work of a gateway.
//!
//! The table is the real one, created by the migration, and gets the same rows as from the gateway. It has to be empty
//! before, and is empty afterwards.

use std::sync::Arc;

use chrono::{NaiveDateTime, Timelike, Utc};
use mqtt_gateway_entity::data;
use sea_orm::sqlx::mysql::MySqlArguments;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::postgres::PgArguments;
use sea_orm::sqlx::sqlite::SqliteArguments;
use sea_orm::sqlx::{self, Arguments, AssertSqlSafe, Encode, MySql, Postgres, Sqlite, Type};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait, PaginatorTrait, RuntimeErr};

use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::marked;

/// Parameters of each row: time, flow, name, value, number.
const COLUMNS: usize = 5;

/// Parameters of one statement; `SQLite` accepts 32,766, the others twice as many.
pub(super) const MOST_VALUES: usize = 32_000;

/// A message as it is stored. Rows repeat a few of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleMessage {
    /// Code of its flow.
    pub flow_code: String,
    /// Name and value of each.
    pub attributes: Vec<(String, String)>,
}

/// Why no measurement took place.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table would be emptied afterwards.
    #[error("the table data holds rows already, which the measurement would delete")]
    NotEmpty,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fails if the table `data` is not empty.
pub async fn check_empty(database: &Database) -> Result<(), TableError> {
    let rows = data::Entity::find().count(&database.connection).await;
    match rows.while_doing("reading the table data")? {
        0 => Ok(()),
        _ => Err(TableError::NotEmpty),
    }
}

/// Deletes all rows of the table `data`.
pub async fn empty(database: &Database) -> Result<(), StoreError> {
    let statements: &[&str] = match database.dialect {
        Dialect::MySql | Dialect::Postgres => &["TRUNCATE TABLE data"],
        // Otherwise the log would be copied to the file during the next measurement.
        Dialect::Sqlite => &["DELETE FROM data", "PRAGMA wal_checkpoint(TRUNCATE)"],
    };
    for sql in statements {
        let done = database.connection.execute_unprepared(sql).await;
        done.while_doing("emptying the table data")?;
    }
    Ok(())
}

/// Number of messages in one statement: `wanted`, or as many as fit.
pub(super) fn messages_per_statement(samples: &[SampleMessage], wanted: usize) -> usize {
    let attributes = samples.iter().map(|sample| sample.attributes.len()).max().unwrap_or(0).max(1);
    wanted.min(MOST_VALUES / COLUMNS / attributes).max(1)
}

/// Writes messages by its own connection.
pub(super) struct Inserter<'a> {
    connection: PooledConnection,
    samples: &'a [SampleMessage],
    /// The statement for a number of rows; the same each time, except for messages of different shapes.
    statement: (usize, Arc<str>),
    now: NaiveDateTime,
}

pub(super) enum PooledConnection {
    MySql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

impl PooledConnection {
    pub(super) async fn acquire(database: &Database) -> Result<Self, StoreError> {
        let connection = match database.dialect {
            Dialect::MySql => {
                database.connection.get_mysql_connection_pool().acquire().await.map(Self::MySql)
            }
            Dialect::Postgres => {
                database.connection.get_postgres_connection_pool().acquire().await.map(Self::Postgres)
            }
            Dialect::Sqlite => {
                database.connection.get_sqlite_connection_pool().acquire().await.map(Self::Sqlite)
            }
        };
        connection.map_err(of_driver).while_doing("connecting for a measurement")
    }

    fn backend(&self) -> DbBackend {
        match self {
            Self::MySql(_) => DbBackend::MySql,
            Self::Postgres(_) => DbBackend::Postgres,
            Self::Sqlite(_) => DbBackend::Sqlite,
        }
    }
}

impl<'a> Inserter<'a> {
    pub(super) async fn new(database: &Database, samples: &'a [SampleMessage]) -> Result<Self, StoreError> {
        let connection = PooledConnection::acquire(database).await?;
        let now = Utc::now().naive_utc();
        let now = now.with_nanosecond(0).unwrap_or(now);
        Ok(Self { connection, samples, statement: (0, "".into()), now })
    }

    /// Writes the messages with these numbers in one statement, which commits itself.
    pub(super) async fn insert(&mut self, numbers: std::ops::Range<u64>) -> Result<(), StoreError> {
        const DOING: &str = "inserting for a measurement";
        let messages = Messages { samples: self.samples, numbers };
        let rows = messages.iter().map(|(_, sample)| sample.attributes.len()).sum();
        if self.statement.0 != rows {
            self.statement = (rows, marked(self.connection.backend(), insert_sql(rows)).into());
        }
        self.execute(messages).await.map_err(of_driver).while_doing(DOING)
    }

    async fn execute(&mut self, messages: Messages<'_>) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(Arc::clone(&self.statement.1));
        match &mut self.connection {
            PooledConnection::MySql(connection) => {
                let bound: MySqlArguments = messages.bind(self.now).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(sql, bound).execute(&mut **connection).await?;
            }
            PooledConnection::Postgres(connection) => {
                let bound: PgArguments = messages.bind(self.now).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(sql, bound).execute(&mut **connection).await?;
            }
            PooledConnection::Sqlite(connection) => {
                let now = self.now.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
                let bound: SqliteArguments = messages.bind(now).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(sql, bound).execute(&mut **connection).await?;
            }
        }
        Ok(())
    }
}

struct Messages<'a> {
    samples: &'a [SampleMessage],
    numbers: std::ops::Range<u64>,
}

impl<'a> Messages<'a> {
    fn iter(&self) -> impl Iterator<Item = (u64, &'a SampleMessage)> {
        let start = usize::try_from(self.numbers.start).unwrap_or(0) % self.samples.len().max(1);
        self.numbers.clone().zip(self.samples.iter().cycle().skip(start))
    }

    fn bind<A, T>(&self, now: T) -> Result<A, sqlx::error::BoxDynError>
    where
        A: Arguments,
        T: Clone + for<'q> Encode<'q, A::Database> + Type<A::Database>,
        i64: for<'q> Encode<'q, A::Database> + Type<A::Database>,
        for<'q> &'q str: Encode<'q, A::Database> + Type<A::Database>,
    {
        let mut arguments = A::default();
        for (number, sample) in self.iter() {
            for (name, value) in &sample.attributes {
                arguments.add(now.clone())?;
                arguments.add(sample.flow_code.as_str())?;
                arguments.add(name.as_str())?;
                arguments.add(value.as_str())?;
                arguments.add(number.cast_signed())?;
            }
        }
        Ok(arguments)
    }
}

fn insert_sql(rows: usize) -> String {
    let tuples = vec!["(?, ?, ?, ?, ?)"; rows].join(", ");
    format!(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) VALUES {tuples}"
    )
}

pub(super) fn of_driver(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
}
