//! Writes the counters of all flows of a batch, in few statements.
//!
//! In a batch over many flows, a statement for each flow costs ten times as much as all other work. Joining a list of
//! flows and numbers costs a third as much as the rows of the messages; adding the same number to a list of flows, a
//! tenth. So flows that took equally many numbers share a statement if they are many. In a batch over many flows most
//! took one or two.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, Value};

use super::locked_flow::padded_to;
use crate::domain::message::FlowId;
use crate::domain::processing::Counter;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Most flows of one statement.
const CHUNK_FLOWS: usize = 512;

/// From this many flows that took equally many numbers, a separate statement is worth its round trip.
const MIN_SHARING_FLOWS: usize = 32;

impl Counter {
    pub(super) fn values(self) -> [Value; 2] {
        [self.flow.into(), self.last.into()]
    }
}

/// Sets `last_msg_id` of the flows.
pub(super) async fn write_counters(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    counters: &[Counter],
) -> Result<(), StoreError> {
    let (alike, others) = split_alike(counters);
    for (given, flows) in alike {
        for chunk in flows.chunks(CHUNK_FLOWS) {
            let padded = chunk.len().next_power_of_two();
            let values = [given.into()].into_iter().chain(padded_to(chunk, padded).map(Value::from));
            execute(connection, dialect.raise_counters(padded), values).await?;
        }
    }
    for chunk in others.chunks(CHUNK_FLOWS) {
        let padded = chunk.len().next_power_of_two();
        let values = padded_to(chunk, padded).flat_map(Counter::values);
        execute(connection, dialect.update_counters(padded), values).await?;
    }
    Ok(())
}

/// Splits off the flows that share a statement, by the number of numbers that they took.
fn split_alike(counters: &[Counter]) -> (BTreeMap<i64, Vec<FlowId>>, Vec<Counter>) {
    let mut alike: BTreeMap<i64, Vec<FlowId>> = BTreeMap::new();
    for counter in counters {
        alike.entry(counter.taken).or_default().push(counter.flow);
    }
    alike.retain(|_, flows| flows.len() >= MIN_SHARING_FLOWS);
    let others = counters.iter().filter(|counter| !alike.contains_key(&counter.taken)).copied().collect();
    (alike, others)
}

async fn execute(
    connection: &impl ConnectionTrait,
    sql: String,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), StoreError> {
    let statement = statement(connection.get_database_backend(), sql, values);
    connection.execute_raw(statement).await.while_doing("writing the counters")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_took_equally_many_numbers_share_a_statement() {
        let many = 1..=i64::try_from(MIN_SHARING_FLOWS).unwrap_or(i64::MAX);
        let ones: Vec<Counter> =
            many.clone().map(|flow| Counter { flow, last: 7 * flow, taken: 1 }).collect();
        let twos = [Counter { flow: 1_000, last: 2, taken: 2 }, Counter { flow: 1_001, last: 9, taken: 2 }];

        let (alike, others) = split_alike(&[ones, twos.to_vec()].concat());

        assert_eq!(alike, BTreeMap::from([(1, many.collect())]));
        assert_eq!(others, twos);
    }
}
