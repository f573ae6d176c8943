//! Builds statements for the benchmarks: the rows of a batch, and a connection that discards statements. Part of no
//! release.

use std::fmt;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use sea_orm::sqlx::mysql::MySqlQueryResult;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::counters::write_counters;
use super::insert::{WriteContext, insert_rows};
use super::locked_flow::{IfLocked, SchemaCache, lock_flows};
use crate::domain::message::FlowId;
use crate::domain::payload::Payload;
use crate::domain::processing::{Counter, DataRow};
use crate::domain::value_style::ValueStyle;
use crate::store::dialect::Dialect;
use crate::store::error::StoreError;

/// Rows of `data`.
pub struct DataRows<'a>(Vec<DataRow<'a>>);

impl fmt::Debug for DataRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.0.len())
    }
}

impl<'a> DataRows<'a> {
    /// The rows of the payloads, for a flow with this code.
    #[must_use]
    pub fn of(payloads: &'a [Payload<'a>], flow_code: &str) -> Self {
        let code = flow_code.into();
        let rows = (1..).zip(payloads).flat_map(|(message_id, payload)| {
            let code = &code;
            payload.attributes().iter().map(move |attribute| DataRow {
                received_at_us: 1_700_000_000_000_000 + message_id,
                flow_code: std::sync::Arc::clone(code),
                name: attribute.name(),
                value: attribute.text(ValueStyle::Python).into(),
                message_id,
            })
        });
        Self(rows.collect())
    }

    /// Builds the statements that insert them.
    pub fn insert(&self, dialect: Dialect) -> Result<(), StoreError> {
        let context = WriteContext { dialect, inbox_id: "bench", max_statement_bytes: 4 << 20 };
        at_once(insert_rows(&Nowhere(dialect), &context, &self.0))
    }
}

/// Builds the statements that write these counters, each raised by one.
pub fn write_counters_of(dialect: Dialect, counters: &[(FlowId, i64)]) -> Result<(), StoreError> {
    let counters: Vec<Counter> =
        counters.iter().map(|(flow, last)| Counter { flow: *flow, last: *last, taken: 1 }).collect();
    at_once(write_counters(&Nowhere(dialect), dialect, &counters))
}

/// Builds the statements that lock these flows, ascending by id. None is found.
pub fn lock(dialect: Dialect, flows: &[FlowId]) -> Result<(), StoreError> {
    let mut schemas = SchemaCache::default();
    at_once(lock_flows(&Nowhere(dialect), dialect, flows, IfLocked::Wait, &mut schemas)).map(drop)
}

/// Runs a future that is always ready.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

/// A connection on which each statement succeeds and finds no rows.
struct Nowhere(Dialect);

/// The type that the functions of the trait return.
type DbFuture<'t, T> = Pin<Box<dyn Future<Output = Result<T, DbErr>> + Send + 't>>;

fn answer<'t, T: Send + 't>(answer: T) -> DbFuture<'t, T> {
    Box::pin(ready(Ok(answer)))
}

impl ConnectionTrait for Nowhere {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend()
    }

    fn execute_raw<'s, 't>(&'s self, statement: Statement) -> DbFuture<'t, ExecResult>
    where
        's: 't,
        Self: 't,
    {
        std::hint::black_box(statement);
        answer(MySqlQueryResult::default().into())
    }

    fn execute_unprepared<'s, 'q, 't>(&'s self, _: &'q str) -> DbFuture<'t, ExecResult>
    where
        's: 't,
        'q: 't,
        Self: 't,
    {
        answer(MySqlQueryResult::default().into())
    }

    fn query_one_raw<'s, 't>(&'s self, statement: Statement) -> DbFuture<'t, Option<QueryResult>>
    where
        's: 't,
        Self: 't,
    {
        std::hint::black_box(statement);
        answer(None)
    }

    fn query_all_raw<'s, 't>(&'s self, statement: Statement) -> DbFuture<'t, Vec<QueryResult>>
    where
        's: 't,
        Self: 't,
    {
        std::hint::black_box(statement);
        answer(Vec::new())
    }
}
