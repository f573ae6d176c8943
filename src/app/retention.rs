//! Deletes old dead letters and old stored messages, if the settings say so, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use super::maintenance::{CLEANING_INTERVAL, repeat_on_tables};
use crate::observe::Telemetry;
use crate::settings::{DatabaseSettings, RetentionSettings};
use crate::store::{
    Database, LetterPortion, StoreError, answer_timeout, delete_excess_letters, delete_old_data,
    delete_old_letters, oldest_row_ahead, with_timeout,
};

/// Delay between two portions, so that the workers come first.
const PORTION_DELAY: Duration = Duration::from_millis(10);

/// Portions without an old dead letter after which a round ends: a large table is not read in each round.
const MAX_YOUNG_PORTIONS: u32 = 100;

/// The place in the dead letters. A round begins where the previous one ended, and at the lowest id after the last.
#[derive(Debug, Default)]
struct LetterSweep {
    after: Option<i64>,
    /// Portions of this round in a row without a deletion.
    young_portions: u32,
}

impl LetterSweep {
    /// Goes on after a portion. Returns whether the round goes on, too.
    fn advance(&mut self, portion: LetterPortion) -> bool {
        self.after = portion.last_id;
        self.young_portions = if portion.deleted == 0 { self.young_portions + 1 } else { 0 };
        let goes_on = self.after.is_some() && self.young_portions < MAX_YOUNG_PORTIONS;
        if !goes_on {
            self.young_portions = 0;
        }
        goes_on
    }
}

/// Deletes rows beyond the limits of `retention`; returns at once without limits.
pub(super) async fn delete_old_rows(
    settings: DatabaseSettings,
    retention: RetentionSettings,
    observed: Arc<Telemetry>,
) {
    let RetentionSettings { letters_max_age, letters_max_rows, data_max_age } = retention;
    if retention == RetentionSettings::default() {
        return;
    }
    let (mut sweep, mut known_ahead) = (LetterSweep::default(), None);
    repeat_on_tables(settings, observed, "deleting old rows", CLEANING_INTERVAL, async |database| {
        if let Some(age) = letters_max_age {
            let deleted = sweep_letters(database, age, &mut sweep).await?;
            log_deleted(deleted, "dead letters", "DEAD_LETTERS_MAX_AGE_SECONDS");
        }
        if let Some(rows) = letters_max_rows {
            let deleted = in_portions(async || delete_excess_letters(database, rows).await).await?;
            log_deleted(deleted, "dead letters", "DEAD_LETTERS_MAX_ROWS");
        }
        if let Some(age) = data_max_age {
            let deleted = in_portions(async || delete_old_data(database, age).await).await?;
            log_deleted(deleted, "rows of data", "DATA_MAX_AGE_SECONDS");
            let ahead = with_timeout(answer_timeout(), oldest_row_ahead(database)).await?;
            if let Some(id) = ahead.filter(|_| ahead != known_ahead) {
                log::warn!(
                    "DATA_MAX_AGE_SECONDS deletes nothing: row {id} of data, the first one, has a received_at that is \
                     more than a day ahead. Correct its time, or delete the row"
                );
            }
            known_ahead = ahead;
        }
        Ok(())
    })
    .await;
}

/// Deletes old dead letters for a round, and returns their number.
async fn sweep_letters(
    database: &Database,
    age: Duration,
    sweep: &mut LetterSweep,
) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        let deletion = delete_old_letters(database, age, sweep.after);
        let portion = with_timeout(answer_timeout(), deletion).await?;
        deleted += portion.deleted;
        if !sweep.advance(portion) {
            return Ok(deleted);
        }
        tokio::time::sleep(PORTION_DELAY).await;
    }
}

/// Repeats a deletion until it finds nothing more, and returns the number of deleted rows.
async fn in_portions(mut delete: impl AsyncFnMut() -> Result<u64, StoreError>) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        match with_timeout(answer_timeout(), delete()).await? {
            0 => return Ok(deleted),
            rows => deleted += rows,
        }
        tokio::time::sleep(PORTION_DELAY).await;
    }
}

fn log_deleted(rows: u64, what: &str, setting: &str) {
    if rows > 0 {
        log::info!("Deleted {rows} {what} beyond {setting}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(deleted: u64, last_id: i64) -> LetterPortion {
        LetterPortion { deleted, last_id: Some(last_id) }
    }

    #[test]
    fn young_letters_do_not_end_a_round() {
        let mut sweep = LetterSweep::default();
        assert!(sweep.advance(portion(0, 512)));
        assert_eq!(sweep.after, Some(512));
        assert!(!sweep.advance(LetterPortion { deleted: 3, last_id: None }));
        assert_eq!(sweep.after, None, "the next round begins at the lowest id");
    }

    #[test]
    fn large_tables_are_read_in_several_rounds() {
        let mut sweep = LetterSweep::default();
        let mut round = |first: i64| (first..first + 1_000).find(|id| !sweep.advance(portion(0, *id)));
        assert_eq!(round(1), Some(100));
        assert_eq!(round(101), Some(200));
        assert_eq!(sweep.after, Some(200));
        assert!((1..1_000).all(|id| sweep.advance(portion(1, id))), "old ones do not count");
    }
}
