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
    took: Duration,
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
        let reading =
            StatusReading { ended: Instant::now(), took: began.elapsed(), database: Arc::new(database) };
        Arc::clone(&last.insert(reading).database)
    }

    /// Makes the next caller read, because an edit has changed the database.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl StatusReading {
    fn is_fresh(&self, max_age: Duration, now: Instant) -> bool {
        let lasts = if self.database.is_ok() { max_age.max(self.took * MAX_SHARE) } else { max_age };
        now.saturating_duration_since(self.ended) < lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{FlowsStatus, OutboxRows, RecentLetters};

    const SECOND: Duration = Duration::from_secs(1);

    fn reading(database: DatabaseReading, took: Duration) -> StatusReading {
        StatusReading { ended: Instant::now(), took, database: Arc::new(database) }
    }

    fn known() -> DatabaseStatus {
        DatabaseStatus {
            flows: FlowsStatus {
                enabled: 0,
                disabled: 0,
                unusable: 0,
                rejected: Vec::new(),
                refused_filters: Vec::new(),
            },
            enabled_brokers: 1,
            outbox: OutboxRows { posts: 0, oldest_at: None },
            dead_letters: RecentLetters { counts: Vec::new(), at_least: false },
            replicas: Vec::new(),
        }
    }

    #[test]
    fn quick_readings_are_kept_for_the_age_that_is_asked() {
        let reading = reading(Ok(known()), Duration::from_millis(1));
        assert!(reading.is_fresh(SECOND, reading.ended + SECOND / 2));
        assert!(!reading.is_fresh(SECOND, reading.ended + SECOND));
        assert!(reading.is_fresh(2 * SECOND, reading.ended + SECOND));
    }

    #[test]
    fn slow_readings_are_kept_longer_unless_they_failed() {
        let slow = reading(Ok(known()), SECOND / 2);
        assert!(slow.is_fresh(SECOND, slow.ended + 9 * SECOND));
        assert!(!slow.is_fresh(SECOND, slow.ended + 10 * SECOND));
        let failed = reading(Err("it does not answer".to_owned()), 2 * SECOND);
        assert!(!failed.is_fresh(SECOND, failed.ended + SECOND));
    }
}
