//! Numbers that run out. `data.id` of an old database is an INT: 40 hours at 15,000 rows a second.

use sea_orm::{ConnectionTrait, Statement};

use super::connect::Database;
use super::error::{StoreError, While};
use super::limits::StoreLimits;

/// From here on it is time to act, in percent of the highest number.
const WARN_PERCENT: i64 = 80;

/// Says which numbers have reached 80 % of what their columns hold, one sentence each.
pub async fn running_out(database: &Database, limits: &StoreLimits) -> Result<Vec<String>, StoreError> {
    let highest = [
        ("data.id", "MAX(id)", "data", limits.max_data_id),
        ("flows.last_msg_id", "MAX(last_msg_id)", "flows", limits.max_message_id),
    ];
    let mut warnings = Vec::new();
    for (column, highest, table, maximum) in highest {
        let sql = format!("SELECT {} AS highest FROM {table}", database.dialect.integer(highest));
        let query = Statement::from_string(database.dialect.backend(), sql);
        let row =
            database.connection.query_one_raw(query).await.while_doing("reading the highest numbers")?;
        let reached: Option<i64> = match row {
            Some(row) => row.try_get("", "highest").while_doing("reading the highest numbers")?,
            None => None,
        };
        warnings.extend(reached.and_then(|reached| warning(column, reached, maximum)));
    }
    Ok(warnings)
}

fn warning(column: &str, reached: i64, maximum: i64) -> Option<String> {
    let percent = i128::from(reached) * 100 / i128::from(maximum.max(1));
    (percent >= i128::from(WARN_PERCENT)).then(|| {
        format!("{column} has reached {reached} of {maximum} ({percent} %): run `mqtt-gateway migrate --widen-ids`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_warned_of_from_80_percent_on() {
        assert_eq!(warning("data.id", 79, 100), None);
        assert!(warning("data.id", 80, 100).is_some_and(|text| text.contains("--widen-ids")));
        assert_eq!(warning("data.id", i64::from(i32::MAX), i64::MAX), None);
    }
}
