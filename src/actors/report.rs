//! The mailbox lines of the log, and the warnings about what is full or stuck.

use std::time::{Duration, Instant};

use log::kv::Value;
use log::{Level, Record};

use super::mailbox::{Mailbox, MailboxReport};
use crate::observe::metrics::ErrorKind;
use crate::store::{Fault, StoreError};

/// Target of the lines about mailboxes, and their message.
const MAILBOX: &str = "mailbox";

/// A mailbox fuller than this is a warning, in percent.
const FULL_PERCENT: usize = 80;

/// A message in hand for longer than this is a warning.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What was warned about, so that an episode is told once at its begin and once at its end.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    full_since: Option<Instant>,
    stuck: bool,
}

/// Writes the line of one actor. How many messages a transaction holds tells how high the load is, so
/// those who commit say how many they have committed.
pub(super) fn log_mailbox(mailbox: &Mailbox) {
    let report = mailbox.report();
    let fields = fields(&report);
    log::logger().log(
        &Record::builder()
            .level(Level::Info)
            .target(MAILBOX)
            .key_values(&fields.as_slice())
            .args(format_args!("{MAILBOX}"))
            .build(),
    );
}

fn fields(report: &MailboxReport) -> Vec<(&'static str, Value<'_>)> {
    let mut fields = vec![
        ("actor", report.actor.as_str().into()),
        ("state", report.state.as_str().into()),
        ("depth", report.depth.into()),
        ("capacity", report.capacity.into()),
        ("high_water", report.high_water.into()),
        ("received", report.received.into()),
        ("handled", report.handled.into()),
        ("failed", report.failed.into()),
        ("restarts", report.restarts.into()),
        ("wait_p99_ms", milliseconds(report.wait_p99).into()),
        ("handle_p99_ms", milliseconds(report.handle_p99).into()),
        ("age_ms", milliseconds(report.age).into()),
    ];
    fields.extend(report.transactions.map(|transactions| ("transactions", transactions.into())));
    fields
}

/// Warns of a mailbox that runs full and of a handler that does not end.
pub(super) fn log_episodes(mailbox: &Mailbox, episodes: &mut Episodes) {
    let (depth, capacity, age) = mailbox.load();
    let full = depth * 100 > capacity * FULL_PERCENT;
    match (full, episodes.full_since) {
        (true, None) => {
            episodes.full_since = Some(Instant::now());
            log::warn!(actor = mailbox.name(), depth, capacity; "Mailbox over {FULL_PERCENT} % full");
        }
        (false, Some(since)) => {
            episodes.full_since = None;
            let lasted_ms = milliseconds(since.elapsed());
            log::info!(actor = mailbox.name(), depth, capacity, lasted_ms; "Mailbox has room again");
        }
        _ => {}
    }
    let stuck = age > STUCK_AFTER;
    if stuck && !episodes.stuck {
        log::warn!(actor = mailbox.name(), age_ms = milliseconds(age); "Handler stuck: one message in hand since {} s", age.as_secs());
    } else if episodes.stuck && !stuck {
        log::info!(actor = mailbox.name(); "Handler goes on");
    }
    episodes.stuck = stuck;
}

/// Milliseconds with a fraction: most waits are shorter than one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A duration as a number of the log.
pub(super) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is counted of a failure of the database.
pub(crate) fn kind_of(error: &StoreError) -> ErrorKind {
    match (error, error.fault()) {
        (StoreError::Silent { .. }, _) => ErrorKind::Silent,
        (_, Fault::ConnectionLost) => ErrorKind::Connection,
        (_, Fault::Deadlock) => ErrorKind::Deadlock,
        (_, Fault::LockTimeout) => ErrorKind::Lock,
        (_, Fault::Poison) => ErrorKind::Poison,
        (_, Fault::Outage) => ErrorKind::Outage,
    }
}
