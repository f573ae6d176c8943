//! Exhaustion of numeric columns. `data.id` of an old database is an INT: 40 hours at 15,000 rows a second.

use sea_orm::{ConnectionTrait, Statement};

use super::connect::Database;
use super::error::{StoreError, While};
use super::limits::{StoreLimits, load_limits};

/// The threshold for a warning, in percent of the highest number.
const WARN_PERCENT: i64 = 80;

/// The highest used number of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumbersUsed {
    /// Table and column.
    pub column: &'static str,
    reached: i64,
    maximum: i64,
}

/// Reads the highest used numbers of the columns whose exhaustion would stop the messages.
pub async fn numbers_used(database: &Database, limits: &StoreLimits) -> Result<Vec<NumbersUsed>, StoreError> {
    let highest = [
        ("data.id", "MAX(id)", "data", limits.max_data_id),
        ("flows.last_msg_id", "MAX(last_msg_id)", "flows", limits.max_message_id),
    ];
    let mut used = Vec::new();
    for (column, highest, table, maximum) in highest {
        used.push(NumbersUsed { column, reached: reached(database, highest, table).await?, maximum });
    }
    Ok(used)
}

async fn reached(database: &Database, highest: &str, table: &str) -> Result<i64, StoreError> {
    const DOING: &str = "reading the highest numbers";
    let sql = format!("SELECT {} AS highest FROM {table}", database.dialect.integer(highest));
    let query = Statement::from_string(database.dialect.backend(), sql);
    let row = database.connection.query_one_raw(query).await.while_doing(DOING)?;
    let highest: Option<i64> = match row {
        Some(row) => row.try_get("", "highest").while_doing(DOING)?,
        None => None,
    };
    Ok(highest.unwrap_or(0))
}

/// Whether `data.id` has this many numbers left.
///
/// The known limits may predate a widening of the column, so they are read again before the answer is no.
pub(super) async fn has_ids_for(
    database: &Database,
    known: &StoreLimits,
    rows: usize,
) -> Result<bool, StoreError> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let needed = reached(database, "MAX(id)", "data").await?.saturating_add(rows);
    Ok(needed <= known.max_data_id || needed <= load_limits(database).await?.max_data_id)
}

impl NumbersUsed {
    /// The used part, from 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share is looked at by its first digits")]
    pub fn ratio(self) -> f64 {
        self.reached as f64 / self.maximum.max(1) as f64
    }

    /// The remedy from 80 % on, in a sentence.
    #[must_use]
    pub fn warning(self) -> Option<String> {
        let Self { column, reached, maximum } = self;
        let percent = i128::from(reached) * 100 / i128::from(maximum.max(1));
        (percent >= i128::from(WARN_PERCENT)).then(|| {
            format!("{column} has reached {reached} of {maximum} ({percent} %): run `mqtt-gateway migrate --widen-ids`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(reached: i64, maximum: i64) -> NumbersUsed {
        NumbersUsed { column: "data.id", reached, maximum }
    }

    #[test]
    fn a_number_is_warned_of_from_80_percent_on() {
        assert_eq!(used(79, 100).warning(), None);
        assert!(used(80, 100).warning().is_some_and(|text| text.contains("--widen-ids")));
        assert_eq!(used(i64::from(i32::MAX), i64::MAX).warning(), None);
    }

    #[test]
    fn what_is_used_is_told_as_a_part_of_all() {
        assert!((used(80, 100).ratio() - 0.8).abs() < 1e-9);
        assert!(used(i64::from(i32::MAX), i64::MAX).ratio() < 1e-6);
    }
}
