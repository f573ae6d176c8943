//! The mailbox lines of the log, and the warnings about what is full or stuck.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use log::kv::Value;
use log::{Level, Record};

use super::episode::{Change, Condition, Moment};
use super::mailbox::{Mailbox, MailboxReport};
use crate::observe::metrics::ErrorKind;
use crate::store::{ErrorClass, StoreError};

/// Target of the lines about mailboxes, and their message.
const MAILBOX: &str = "mailbox";

/// A mailbox fuller than this is a warning, in percent.
const FULL_PERCENT: usize = 80;

/// A message in hand for longer than this is a warning, and so is an actor that takes no turn.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What was warned about.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    full: Condition,
    stuck: Condition,
}

/// Writes the line of one actor. How many messages a transaction holds tells how high the load is, so
/// those who commit say how many they have committed.
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

/// Warns of a mailbox that runs full and of a handler that does not end: at once, and again `every` so often while
/// it lasts. `silence` is how long the actor has taken no turn.
pub(super) fn log_episodes(mailbox: &Mailbox, episodes: &mut Episodes, silence: Duration, every: Duration) {
    let now = Moment::now();
    log_fullness(mailbox, &mut episodes.full, now, every);
    log_stuck(mailbox, &mut episodes.stuck, silence, now, every);
}

fn log_fullness(mailbox: &Mailbox, episode: &mut Condition, now: Moment, every: Duration) {
    let (depth, capacity, age) = mailbox.load();
    let full = (depth * 100 > capacity * FULL_PERCENT).then_some(Duration::ZERO);
    let Some(change) = episode.update(full, now, every) else { return };
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match change {
        Change::Ongoing { since } => {
            let in_hand = in_words(mailbox.in_hand());
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

fn log_stuck(mailbox: &Mailbox, episode: &mut Condition, silence: Duration, now: Moment, every: Duration) {
    let (depth, _, age) = mailbox.load();
    let stuck = Some(age.max(silence)).filter(|longest| *longest > STUCK_AFTER);
    let Some(change) = episode.update(stuck, now, every) else { return };
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match change {
        Change::Ongoing { since } => {
            let in_hand = in_words(mailbox.in_hand());
            let (age_ms, silent_ms) = (milliseconds(age), milliseconds(silence));
            let (since, in_hand) = (since.as_str(), in_hand.as_str());
            // Whether it waits for somebody or holds its thread is the first thing one wants to know.
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

/// Says that a handler that was stuck went with its actor.
pub(super) fn log_given_up(mailbox: &Mailbox, episodes: &mut Episodes) {
    if let Some(Change::Resolved { since, lasted }) =
        episodes.stuck.update(None, Moment::now(), Duration::ZERO)
    {
        let (actor, since, lasted_ms) = (mailbox.name(), since.as_str(), milliseconds(lasted));
        log::info!(
            actor, since, lasted_ms;
            "Handler given up with its actor: {actor} was stuck for {:.1} s", lasted.as_secs_f64()
        );
    }
}

/// What an actor has in hand.
pub(super) fn in_words(in_hand: Option<String>) -> String {
    in_hand.unwrap_or_else(|| "nothing".to_owned())
}

/// A moment as the log has it.
pub(super) fn timestamp(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
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
    match (error, error.class()) {
        (StoreError::TimedOut { .. }, _) => ErrorKind::Silent,
        (_, ErrorClass::ConnectionLost) => ErrorKind::Connection,
        (_, ErrorClass::Deadlock) => ErrorKind::Deadlock,
        (_, ErrorClass::LockTimeout) => ErrorKind::Lock,
        (_, ErrorClass::Poison) => ErrorKind::Poison,
        (_, ErrorClass::Outage) => ErrorKind::Outage,
    }
}
