//! Rows of `outbox`, inserted and deleted at the least cost: by the driver itself, without the work of a gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sea_orm::sqlx::mysql::MySqlArguments;
use sea_orm::sqlx::postgres::PgArguments;
use sea_orm::sqlx::sqlite::SqliteArguments;
use sea_orm::sqlx::{self, Arguments, AssertSqlSafe, Encode, Type};

use super::insert::Inserted;
use super::rows::{MOST_VALUES, PooledConnection, of_driver};
use crate::settings::DatabaseSettings;
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::marked;

/// Parameters of each row.
const COLUMNS: usize = 9;

const DOING: &str = "writing the outbox for a measurement";

/// A message as it waits in the outbox. Rows repeat a few of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamplePost {
    /// Id of its flow.
    pub flow_id: i64,
    /// Code of its flow.
    pub flow_code: String,
    /// Its topic.
    pub topic: String,
    /// URL of its endpoint.
    pub url: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The total of several connections. The run ends when both the number of messages and the time are reached.
#[derive(Debug)]
pub struct OutboxLoad<'a> {
    samples: &'a [SamplePost],
    per_statement: u64,
    messages: u64,
    at_least: Duration,
    next: AtomicU64,
}

/// The statements of one connection, and its own inbox.
struct OutboxWriter<'a> {
    connection: PooledConnection,
    samples: &'a [SamplePost],
    inbox_id: String,
    insert: Arc<str>,
    delete: Arc<str>,
}

impl<'a> OutboxLoad<'a> {
    /// Repeats `samples`, `wanted` of them in each statement, or fewer if a statement cannot hold them. Ends after
    /// `messages` over all connections, and not before the time.
    #[must_use]
    pub fn new(samples: &'a [SamplePost], wanted: usize, messages: u64, at_least: Duration) -> Self {
        let per_statement = wanted.clamp(1, MOST_VALUES / COLUMNS) as u64;
        Self { samples, per_statement, messages, at_least, next: AtomicU64::new(0) }
    }

    /// Inserts the rows of each statement and deletes them, by its own connection, in parallel with others, which have
    /// other numbers. Calls `start` once, whatever happens, when the connection and the statements are ready.
    pub async fn run(
        &self,
        settings: &DatabaseSettings,
        connection: usize,
        start: impl FnOnce(),
    ) -> Result<Inserted, StoreError> {
        let ready = self.prepare(settings, connection).await;
        start();
        let (database, mut writer) = ready?;
        let begun = Instant::now();
        let mut messages = 0;
        loop {
            let first = self.next.fetch_add(self.per_statement, Ordering::Relaxed);
            if first >= self.messages && begun.elapsed() >= self.at_least {
                break;
            }
            writer.write(first..first + self.per_statement).await?;
            messages += self.per_statement;
        }
        let elapsed = begun.elapsed();
        drop(writer);
        database.close().await?;
        Ok(Inserted { messages, elapsed })
    }

    async fn prepare(
        &self,
        settings: &DatabaseSettings,
        connection: usize,
    ) -> Result<(Database, OutboxWriter<'a>), StoreError> {
        let database = Database::connect(settings, 1).await?;
        let backend = database.dialect.backend();
        let insert = insert_sql(database.dialect, self.per_statement);
        let mut writer = OutboxWriter {
            connection: PooledConnection::acquire(&database).await?,
            samples: self.samples,
            inbox_id: format!("{connection:032x}"),
            insert: marked(backend, insert).into(),
            delete: marked(backend, "DELETE FROM outbox WHERE inbox_id = ?".to_owned()).into(),
        };
        writer.write(0..self.per_statement).await?;
        Ok((database, writer))
    }
}

impl OutboxWriter<'_> {
    /// Inserts the messages with these numbers and deletes them, each by a statement that commits itself.
    async fn write(&mut self, numbers: std::ops::Range<u64>) -> Result<(), StoreError> {
        self.execute(numbers).await.map_err(of_driver).while_doing(DOING)
    }

    async fn execute(&mut self, numbers: std::ops::Range<u64>) -> Result<(), sqlx::Error> {
        let insert = AssertSqlSafe(Arc::clone(&self.insert));
        let delete = AssertSqlSafe(Arc::clone(&self.delete));
        let (samples, inbox_id) = (self.samples, self.inbox_id.as_str());
        match &mut self.connection {
            PooledConnection::MySql(connection) => {
                let bound: MySqlArguments = bind(samples, numbers, inbox_id).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(insert, bound).execute(&mut **connection).await?;
                sqlx::query(delete).bind(inbox_id).execute(&mut **connection).await?;
            }
            PooledConnection::Postgres(connection) => {
                let bound: PgArguments = bind(samples, numbers, inbox_id).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(insert, bound).execute(&mut **connection).await?;
                sqlx::query(delete).bind(inbox_id).execute(&mut **connection).await?;
            }
            PooledConnection::Sqlite(connection) => {
                let bound: SqliteArguments = bind(samples, numbers, inbox_id).map_err(sqlx::Error::Encode)?;
                sqlx::query_with(insert, bound).execute(&mut **connection).await?;
                sqlx::query(delete).bind(inbox_id).execute(&mut **connection).await?;
            }
        }
        Ok(())
    }
}

fn bind<A>(
    samples: &[SamplePost],
    numbers: std::ops::Range<u64>,
    inbox_id: &str,
) -> Result<A, sqlx::error::BoxDynError>
where
    A: Arguments,
    i64: for<'q> Encode<'q, A::Database> + Type<A::Database>,
    for<'q> &'q str: Encode<'q, A::Database> + Type<A::Database>,
    for<'q> &'q [u8]: Encode<'q, A::Database> + Type<A::Database>,
{
    let start = usize::try_from(numbers.start).unwrap_or(0) % samples.len().max(1);
    let mut arguments = A::default();
    for (number, sample) in numbers.zip(samples.iter().cycle().skip(start)) {
        let number = number.cast_signed();
        arguments.add(inbox_id)?;
        arguments.add(sample.flow_id)?;
        arguments.add(number)?;
        arguments.add(number)?;
        arguments.add(sample.flow_code.as_str())?;
        arguments.add(sample.topic.as_str())?;
        arguments.add(sample.url.as_str())?;
        arguments.add(sample.payload.as_slice())?;
        arguments.add(inbox_id)?;
    }
    Ok(arguments)
}

fn insert_sql(dialect: Dialect, rows: u64) -> String {
    let tuple = format!("({}, {now}, {now})", ["?"; COLUMNS].join(", "), now = dialect.now());
    let tuples = vec![tuple; usize::try_from(rows).unwrap_or(1)].join(", ");
    format!(
        "INSERT INTO outbox (inbox_id, flow_id, inbox_offset, message_id, flow_code, topic, url, payload, owner, \
         created_at, next_attempt_at) VALUES {tuples}"
    )
}
