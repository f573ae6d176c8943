//! Writes the mailbox lines of the log and the warnings about full mailboxes and stuck handlers.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use chrono::Utc;
use log::kv::Value;
use log::{Level, Record};

use super::mailbox::{ActorState, Mailbox, MailboxReport};
use crate::domain::condition::{Change, ClockReading, Condition};
use crate::domain::mailbox_reports::MailboxReports;
use crate::observe::metrics::ErrorKind;
use crate::observe::timestamp;
use crate::store::{ErrorClass, StoreError};

/// Target and message of the mailbox lines.
const MAILBOX: &str = "mailbox";

/// Fill level in percent above which a mailbox is reported.
const FULL_PERCENT: usize = 80;

/// Age above which a message in hand, or a missing heartbeat, is reported.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The reported conditions of one actor.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    full: Condition,
    stuck: Condition,
}

/// Writes the mailbox line of one actor. Actors that commit also report their transactions: messages per transaction
/// show the load.
pub(super) fn log_mailbox(mailbox: &Mailbox) {
    let report = mailbox.report();
    let since = timestamp(report.since);
    let fields = fields(&report, &since);
    log::logger().log(
        &Record::builder()
            .level(Level::Info)
            .target(MAILBOX)
            .key_values(&fields.as_slice())
            .args(format_args!("{MAILBOX}"))
            .build(),
    );
}

/// Writes the mailbox line unless the actor is idle and had its line within the minute. `routine` of the handled
/// messages are no work.
pub(super) fn log_mailbox_if_due(
    mailbox: &Mailbox,
    reports: &mut MailboxReports,
    routine: u64,
    interval: Duration,
) {
    let is_at_rest = mailbox.state() == ActorState::Running && mailbox.load().0 == 0;
    if reports.is_due(is_at_rest, mailbox.handled().saturating_sub(routine), interval) {
        log_mailbox(mailbox);
    }
}

fn fields<'a>(report: &'a MailboxReport, since: &'a str) -> Vec<(&'static str, Value<'a>)> {
    let mut fields = vec![
        ("actor", report.actor.as_str().into()),
        ("state", report.state.as_str().into()),
        ("since", since.into()),
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

/// Warns of a full mailbox and of a stuck handler: at once, and then at the interval `every`. `silence` is the time
/// since the last heartbeat.
pub(super) fn log_conditions(
    mailbox: &Mailbox,
    conditions: &mut Conditions,
    silence: Duration,
    every: Duration,
) {
    let now = moment();
    log_fullness(mailbox, &mut conditions.full, now, every);
    log_stuck(mailbox, &mut conditions.stuck, silence, now, every);
}

fn log_fullness(mailbox: &Mailbox, condition: &mut Condition, now: ClockReading, every: Duration) {
    let (depth, capacity, age) = mailbox.load();
    let full = (depth * 100 > capacity * FULL_PERCENT).then_some(Duration::ZERO);
    let Some(change) = condition.update(full, now, every) else { return };
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match change {
        Change::Ongoing { since } => {
            let in_hand = describe_in_hand(mailbox.in_hand());
            let (since, in_hand, age_ms) = (since.as_str(), in_hand.as_str(), milliseconds(age));
            log::warn!(
                actor, since, state, depth, capacity, age_ms, in_hand;
                "Mailbox over {FULL_PERCENT} % full: {actor} has {depth} of {capacity} since {since}, in hand: {in_hand}"
            );
        }
        Change::Resolved { since, lasted } => {
            let (since, lasted_ms) = (since.as_str(), milliseconds(lasted));
            log::info!(
                actor, since, state, depth, capacity, lasted_ms;
                "Mailbox has room again: {actor} has {depth} of {capacity}, after {:.1} s", lasted.as_secs_f64()
            );
        }
    }
}

fn log_stuck(
    mailbox: &Mailbox,
    condition: &mut Condition,
    silence: Duration,
    now: ClockReading,
    every: Duration,
) {
    let (depth, _, age) = mailbox.load();
    let stuck = Some(age.max(silence)).filter(|longest| *longest > STUCK_AFTER);
    let Some(change) = condition.update(stuck, now, every) else { return };
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match change {
        Change::Ongoing { since } => {
            let in_hand = describe_in_hand(mailbox.in_hand());
            let (age_ms, silent_ms) = (milliseconds(age), milliseconds(silence));
            let (since, in_hand) = (since.as_str(), in_hand.as_str());
            // The first question of an operator: does the handler wait for an answer, or does it block its thread?
            let how = if silence > STUCK_AFTER { "its thread is blocked" } else { "it waits for an answer" };
            log::warn!(
                actor, since, state, depth, age_ms, silent_ms, in_hand;
                "Handler stuck: {actor} since {since}, {how}, in hand: {in_hand}"
            );
        }
        Change::Resolved { since, lasted } => {
            let (since, lasted_ms) = (since.as_str(), milliseconds(lasted));
            log::info!(
                actor, since, state, depth, lasted_ms;
                "Handler goes on: {actor} was stuck for {:.1} s", lasted.as_secs_f64()
            );
        }
    }
}

/// Logs that a stuck handler ended because its actor was replaced.
pub(super) fn log_abandoned_handler(mailbox: &Mailbox, conditions: &mut Conditions) {
    if let Some(Change::Resolved { since, lasted }) = conditions.stuck.update(None, moment(), Duration::ZERO)
    {
        let (actor, since, lasted_ms) = (mailbox.name(), since.as_str(), milliseconds(lasted));
        log::info!(
            actor, since, lasted_ms;
            "Handler given up with its actor: {actor} was stuck for {:.1} s", lasted.as_secs_f64()
        );
    }
}

/// Describes the message in hand.
pub(super) fn describe_in_hand(in_hand: Option<String>) -> String {
    in_hand.unwrap_or_else(|| "nothing".to_owned())
}

/// The present time on both clocks.
pub(super) fn moment() -> ClockReading {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    ClockReading { monotonic: ORIGIN.elapsed(), unix_us: Utc::now().timestamp_micros() }
}

/// Milliseconds with a fraction, because most waits are shorter than one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Maps a database error to the kind that the metrics count.
pub(crate) fn kind_of(error: &StoreError) -> ErrorKind {
    match (error, error.class()) {
        (StoreError::TimedOut { .. }, _) => ErrorKind::Silent,
        (_, ErrorClass::ConnectionLost) => ErrorKind::Connection,
        (_, ErrorClass::Deadlock) => ErrorKind::Deadlock,
        (_, ErrorClass::LockTimeout) => ErrorKind::Lock,
        (_, ErrorClass::Poison) => ErrorKind::Poison,
        (_, ErrorClass::Outage) => ErrorKind::Outage,
    }
}
