//! The database as an outsider sees it: plain statements, each awaited.

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement, Value,
};
use tokio::runtime::{Builder, Runtime};

use super::cell::Cell;

pub struct Sql {
    runtime: Runtime,
    connection: DatabaseConnection,
}

impl Sql {
    pub fn open(url: &str) -> Sql {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // PostgreSQL refuses a statement that was prepared before its table was altered.
        let forgetful = if url.starts_with("postgres") { "?statement-cache-capacity=0" } else { "" };
        let mut options = ConnectOptions::new(format!("{url}{forgetful}"));
        // One session for all statements, so that a transaction can be begun and ended by them.
        options.max_connections(1).sqlx_logging(false).idle_timeout(None).max_lifetime(None);
        let connection = runtime.block_on(Database::connect(options)).unwrap();
        Sql { runtime, connection }
    }

    /// One or more statements without parameters.
    pub fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.connection.execute_unprepared(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The same for a statement that the server may reject.
    pub fn try_run(&self, sql: &str) -> Result<(), sea_orm::DbErr> {
        self.runtime.block_on(self.connection.execute_unprepared(sql)).map(|_| ())
    }

    pub fn execute<const N: usize>(&self, sql: &str, values: [Value; N]) {
        self.runtime
            .block_on(self.connection.execute_raw(self.statement(sql, values)))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn rows<const N: usize>(&self, sql: &str, values: [Value; N]) -> Vec<QueryResult> {
        self.try_rows(sql, values).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// For while the server may be away or the tables not there yet.
    pub fn try_rows<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, sea_orm::DbErr> {
        self.runtime.block_on(self.connection.query_all_raw(self.statement(sql, values)))
    }

    pub fn count<const N: usize>(&self, sql: &str, values: [Value; N]) -> i64 {
        Cell::of(&self.rows(sql, values)[0], 0).unwrap()
    }

    pub fn backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    /// Parameters are question marks, also where the database wants them numbered.
    fn statement<const N: usize>(&self, sql: &str, values: [Value; N]) -> Statement {
        let backend = self.backend();
        let parts = sql.split('?').enumerate().map(|(number, part)| match (number, backend) {
            (0, _) => part.to_owned(),
            (_, DbBackend::Postgres) => format!("${number}{part}"),
            _ => format!("?{part}"),
        });
        let marked: String = parts.collect();
        Statement::from_sql_and_values(backend, marked, values)
    }
}
