//! How long the inbox takes messages while the database is away.

use std::time::Duration;

/// Bytes of a record besides its payload: topic, times, lengths and checksum. An estimate.
const RECORD_OVERHEAD: f64 = 100.0;

/// Longest time that is worth a number.
const MAX_LASTING: Duration = Duration::from_hours(24 * 365);

/// How long `free_bytes` last at the rate of the messages that came in `period`. `processed` are the payload bytes and
/// the messages of all transactions, which give the mean size. None without messages.
pub(super) fn lasting(
    free_bytes: u64,
    received: u64,
    period: Duration,
    processed: (f64, f64),
) -> Option<Duration> {
    let (bytes, messages) = processed;
    if received == 0 || messages < 1.0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let (free, received) = (free_bytes as f64, received as f64);
    let per_second = received / period.as_secs_f64().max(1.0) * (bytes / messages + RECORD_OVERHEAD);
    Some(Duration::try_from_secs_f64(free / per_second).unwrap_or(MAX_LASTING).min(MAX_LASTING))
}

/// A duration in its two largest units.
pub(super) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let largest = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(largest).take(2).filter(|(count, _)| *count > 0 || seconds == 0);
    shown.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_lasts_by_rate_and_size() {
        let minute = Duration::from_mins(1);
        // 10 messages of 200 bytes a second.
        assert_eq!(lasting(20_000, 600, minute, (1_000.0, 10.0)), Some(Duration::from_secs(10)));
        assert_eq!(lasting(20_000, 0, minute, (1_000.0, 10.0)), None);
        assert_eq!(lasting(20_000, 600, minute, (0.0, 0.0)), None);
        assert_eq!(lasting(u64::MAX, 1, minute, (1.0, 1.0)), Some(MAX_LASTING));
    }

    #[test]
    fn durations_have_two_units() {
        let texts = [0, 59, 60, 3_599, 3_600, 90_000, 864_000].map(|s| duration_text(Duration::from_secs(s)));
        assert_eq!(texts, ["0 s", "59 s", "1 min", "59 min 59 s", "1 h", "1 d 1 h", "10 d"]);
    }
}
