//! Watches the supervisor, which watches all other actors.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::mailbox::Mailbox;
use super::report::{Conditions, log_conditions};
use crate::observe::Telemetry;

/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a thread that warns of a stuck supervisor, as the supervisor warns of stuck actors. The warning repeats
/// after `every`. The thread ends when the supervisor's state is dropped.
pub(super) fn watch(supervisor: Arc<Mailbox>, observed: &Arc<Telemetry>, every: Duration) {
    let observed = Arc::downgrade(observed);
    let watching = move || watch_supervisor(&supervisor, &observed, every);
    if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(watching) {
        log::warn!("Cannot start the watchdog thread; a stuck supervisor will not be reported: {error}");
    }
}

fn watch_supervisor(supervisor: &Mailbox, observed: &Weak<Telemetry>, every: Duration) {
    let mut conditions = Conditions::default();
    while let Some(observed) = observed.upgrade() {
        if let Some(silence) = observed.supervisor_silence() {
            log_conditions(supervisor, &mut conditions, silence, every);
        }
        drop(observed);
        thread::sleep(CHECK_INTERVAL);
    }
}
