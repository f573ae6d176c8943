//! The state of the database, which all statuses and overviews share: monitors and browsers ask for it all the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::problem::ApiProblem;
use crate::control::status::DatabaseStatus;

/// Maximum time for reading the database. A status has to be there without it.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A reading is kept for this multiple of the time that it took, so that readings of many flows take little of a
/// processor.
const MAX_SHARE: u32 = 20;

/// The state of the database, or why it is not known.
pub(in crate::http) type DatabaseReading = Result<DatabaseStatus, String>;

/// The last reading.
#[derive(Default)]
pub(super) struct LastReading(Mutex<Option<StatusReading>>);

struct StatusReading {
    ended: Instant,
    /// Minimum time for which it is kept.
    hold: Duration,
    database: Arc<DatabaseReading>,
}

impl LastReading {
    /// The last reading if it is at most `max_age` old, or older if it was slow. Otherwise waits for `read`; callers that
    /// come meanwhile share its result.
    pub(super) async fn or_read(
        &self,
        max_age: Duration,
        read: impl Future<Output = Result<DatabaseStatus, ApiProblem>>,
    ) -> Arc<DatabaseReading> {
        let mut last = self.0.lock().await;
        if let Some(reading) = last.as_ref().filter(|reading| reading.is_fresh(max_age, Instant::now())) {
            return Arc::clone(&reading.database);
        }
        let began = Instant::now();
        let database = match timeout(READ_TIMEOUT, read).await {
            Ok(read) => read.map_err(|problem| problem.to_string()),
            Err(_) => Err("it does not answer".to_owned()),
        };
        let hold = hold(&database, began.elapsed());
        let reading = StatusReading { ended: Instant::now(), hold, database: Arc::new(database) };
        Arc::clone(&last.insert(reading).database)
    }

    /// Makes the next caller read, because an edit has changed the database.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl StatusReading {
    fn is_fresh(&self, max_age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.ended) < max_age.max(self.hold)
    }
}

/// Returns how long a reading that took `took` is kept at least. A failure is tried again.
fn hold<T, E>(read: &Result<T, E>, took: Duration) -> Duration {
    if read.is_ok() { took * MAX_SHARE } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn readings_are_kept_for_the_age_that_is_asked_or_longer() {
        let ended = Instant::now();
        let database = Arc::new(Err("it does not answer".to_owned()));
        let mut reading = StatusReading { ended, hold: SECOND / 2, database };
        assert!(reading.is_fresh(SECOND, ended + SECOND / 2));
        assert!(!reading.is_fresh(SECOND, ended + SECOND));
        assert!(reading.is_fresh(2 * SECOND, ended + SECOND));
        reading.hold = 10 * SECOND;
        assert!(reading.is_fresh(SECOND, ended + 9 * SECOND));
        assert!(!reading.is_fresh(SECOND, ended + 10 * SECOND));
    }

    #[test]
    fn slow_readings_are_kept_longer_unless_they_failed() {
        assert_eq!(hold(&Ok::<_, ()>(()), SECOND / 2), 10 * SECOND);
        assert_eq!(hold(&Err::<(), _>(()), 2 * SECOND), Duration::ZERO);
    }
}
