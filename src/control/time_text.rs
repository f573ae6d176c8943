//! Points in time as texts: `2026-02-03`, `2026-02-03T04:05:06Z`, or `24h` for 24 hours ago.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};

/// Parses an argument; returns microseconds since 1970, UTC.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    parse_at(text, Utc::now()).ok_or_else(|| {
        "expected a day (2026-02-03), a time (2026-02-03T04:05:06Z), or an age (90s, 30m, 24h, 7d)".to_owned()
    })
}

fn parse_at(text: &str, now: DateTime<Utc>) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_micros());
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros());
    }
    let age = TimeDelta::try_seconds(i64::try_from(age_seconds(text)?).ok()?)?;
    Some(now.checked_sub_signed(age)?.timestamp_micros())
}

/// Parses an age: `90s`, `30m`, `24h` or `7d`.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let age = age_seconds(text).map(Duration::from_secs);
    age.ok_or_else(|| "expected an age (90s, 30m, 24h, 7d)".to_owned())
}

fn age_seconds(text: &str) -> Option<u64> {
    let count = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match text.strip_prefix(count)? {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    count.parse::<u32>().ok().map(|count| u64::from(count) * unit)
}

/// A time of the database as text, in RFC 3339.
pub(crate) fn shown_time(at_us: i64) -> String {
    DateTime::from_timestamp_micros(at_us).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages_are_parsed() {
        let now = DateTime::from_timestamp(1_000_000_000, 0).unwrap_or_default();
        let at = |text| parse_at(text, now).map(|micros| micros / 1_000_000);
        assert_eq!(at("2001-09-09"), Some(999_993_600));
        assert_eq!(at("2001-09-09T01:46:40Z"), Some(1_000_000_000));
        assert_eq!(at("2001-09-09 01:46:40"), Some(1_000_000_000));
        assert_eq!(at("2001-09-09T03:46:40+02:00"), Some(1_000_000_000));
        assert_eq!(
            (at("90s"), at("2h"), at("1d")),
            (Some(999_999_910), Some(999_992_800), Some(999_913_600))
        );
        for wrong in ["", "h", "-1h", "1.5h", "1w", "yesterday", "2001-13-01"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
