//! Formats of times and durations in log lines and responses.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// Formats a time in UTC according to RFC 3339, with milliseconds.
pub(crate) fn timestamp(moment: impl Into<DateTime<Utc>>) -> String {
    moment.into().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Converts a duration for a numeric log field.
pub(crate) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
