//! The time of the smallest possible commit.

use std::time::{Duration, Instant};

use super::rows::{Inserter, SampleMessage};
use crate::store::connect::Database;
use crate::store::error::StoreError;

/// Inserts the given number of single rows, each with its own commit, by one connection. Returns the times, ascending.
pub async fn single_row_commits(
    database: &Database,
    sample: &SampleMessage,
    count: u64,
) -> Result<Vec<Duration>, StoreError> {
    let row = SampleMessage {
        flow_code: sample.flow_code.clone(),
        attributes: sample.attributes.iter().take(1).cloned().collect(),
    };
    let mut inserter = Inserter::new(database, std::slice::from_ref(&row)).await?;
    // Not measured: the statement is prepared.
    inserter.insert(0..1).await?;
    let mut times = Vec::new();
    for number in 1..=count {
        let begun = Instant::now();
        inserter.insert(number..number + 1).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}
