//! Looks after the supervisor, which looks after all others: if it stands still nobody else would say so.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::mailbox::Mailbox;
use super::report::{Episodes, log_episodes};
use crate::observe::Telemetry;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks on a thread of its own for as long as there is something to be seen, and warns of a supervisor that is stuck
/// as that one warns of the others, again `every` so often.
pub(super) fn watch(supervisor: Arc<Mailbox>, observed: &Arc<Telemetry>, every: Duration) {
    let observed = Arc::downgrade(observed);
    let watching = move || look_after(&supervisor, &observed, every);
    if let Err(error) = thread::Builder::new().name("watchdog".to_owned()).spawn(watching) {
        log::warn!("No thread for the watchdog: nobody tells of a supervisor that stands still: {error}");
    }
}

fn look_after(supervisor: &Mailbox, observed: &Weak<Telemetry>, every: Duration) {
    let mut episodes = Episodes::default();
    while let Some(observed) = observed.upgrade() {
        if let Some(silence) = observed.supervisor_silence() {
            log_episodes(supervisor, &mut episodes, silence, every);
        }
        drop(observed);
        thread::sleep(LOOK);
    }
}
