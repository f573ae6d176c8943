//! The mailbox lines of the log, and the warnings about what is full or stuck.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use log::kv::Value;
use log::{Level, Record};

use super::episode::{Change, Episode};
use super::mailbox::{Mailbox, MailboxReport};

/// Target of the lines about mailboxes, and their message.
const MAILBOX: &str = "mailbox";

/// A mailbox fuller than this is a warning, in percent.
const FULL_PERCENT: usize = 80;

/// A message in hand for longer than this is a warning, and so is an actor that takes no turn.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What was warned about.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    full: Episode,
    stuck: Episode,
}

/// Writes the line of one actor. How many messages a transaction holds tells how high the load is, so
/// those who commit say how many they have committed.
pub(super) fn log_mailbox(mailbox: &Mailbox) {
    let report = mailbox.report();
    let since = timestamp_before(report.in_state);
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
    let now = Instant::now();
    log_fullness(mailbox, &mut episodes.full, now, every);
    log_stuck(mailbox, &mut episodes.stuck, silence, now, every);
}

fn log_fullness(mailbox: &Mailbox, episode: &mut Episode, now: Instant, every: Duration) {
    let (depth, capacity, age) = mailbox.load();
    let since = (depth * 100 > capacity * FULL_PERCENT).then(|| episode.since().unwrap_or(now));
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match episode.look(since, now, every) {
        Some(Change::Lasts(lasted)) => {
            let in_hand = mailbox.in_hand().unwrap_or_else(|| "nothing".to_owned());
            let (since, in_hand) = (timestamp_before(lasted), in_hand.as_str());
            let (since, age_ms) = (since.as_str(), milliseconds(age));
            log::warn!(
                actor, since, state, depth, capacity, age_ms, in_hand;
                "Mailbox over {FULL_PERCENT} % full: {actor} has {depth} of {capacity} since {since}, in hand: {in_hand}"
            );
        }
        Some(Change::Over(lasted)) => {
            let (since, lasted_ms) = (timestamp_before(lasted), milliseconds(lasted));
            let since = since.as_str();
            log::info!(
                actor, since, state, depth, capacity, lasted_ms;
                "Mailbox has room again: {actor} has {depth} of {capacity}, after {:.1} s", lasted.as_secs_f64()
            );
        }
        None => {}
    }
}

fn log_stuck(mailbox: &Mailbox, episode: &mut Episode, silence: Duration, now: Instant, every: Duration) {
    let (depth, _, age) = mailbox.load();
    let longest = age.max(silence);
    let since = (longest > STUCK_AFTER).then(|| now.checked_sub(longest).unwrap_or(now));
    let (actor, state) = (mailbox.name(), mailbox.state().as_str());
    match episode.look(since, now, every) {
        Some(Change::Lasts(lasted)) => {
            let in_hand = mailbox.in_hand().unwrap_or_else(|| "nothing".to_owned());
            let (since, in_hand) = (timestamp_before(lasted), in_hand.as_str());
            let (age_ms, silent_ms) = (milliseconds(age), milliseconds(silence));
            let since = since.as_str();
            // Whether it waits for somebody or holds its thread is the first thing one wants to know.
            let how = if silence > STUCK_AFTER { "its thread is blocked" } else { "it waits for an answer" };
            log::warn!(
                actor, since, state, depth, age_ms, silent_ms, in_hand;
                "Handler stuck: {actor} since {since}, {how}, in hand: {in_hand}"
            );
        }
        Some(Change::Over(lasted)) => {
            let (since, lasted_ms) = (timestamp_before(lasted), milliseconds(lasted));
            let since = since.as_str();
            log::info!(
                actor, since, state, depth, lasted_ms;
                "Handler goes on: {actor} was stuck for {:.1} s", lasted.as_secs_f64()
            );
        }
        None => {}
    }
}

/// The moment that lies so far back, for the log.
pub(super) fn timestamp_before(ago: Duration) -> String {
    let ago = TimeDelta::from_std(ago).unwrap_or_default();
    (Utc::now() - ago).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Milliseconds with a fraction: most waits are shorter than one.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A duration as a number of the log.
pub(super) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
