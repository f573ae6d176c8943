//! The header `Retry-After`.

use std::time::{Duration, UNIX_EPOCH};

/// Longest delay that an endpoint can ask for. A wrong clock at the endpoint must not stop a flow for years.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Parses the header: seconds, or a date, which is compared with `now`, the time since 1970. Returns at most
/// [`MAX_RETRY_AFTER`], and `None` for an unreadable value.
#[must_use]
pub fn parse(value: &str, now: Duration) -> Option<Duration> {
    let value = value.trim();
    let delay = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 has are a long delay too.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(now)
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:00 GMT.
    const NOW: Duration = Duration::new(784_111_740, 0);

    fn seconds(value: &str) -> Option<u64> {
        parse(value, NOW).map(|delay| delay.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read() {
        for (value, delay) in [
            ("0", 0),
            (" 120 ", 120),
            ("99999999999999999999999", 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 37),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 37),
            ("Sun Nov  6 08:49:37 1994", 37),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            ("Wed, 31 Dec 2200 08:00:00 GMT", 3600),
        ] {
            assert_eq!(seconds(value), Some(delay), "{value}");
        }
    }

    #[test]
    fn unreadable_values_are_ignored() {
        for value in ["", "soon", "-1", "1.5", "+1", "Sun, 06 Nov 1994", "1 2"] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value: String, now_s: u64) {
            let delay = parse(&value, Duration::from_secs(now_s));
            prop_assert!(delay.is_none_or(|delay| delay <= MAX_RETRY_AFTER));
        }
    }
}
