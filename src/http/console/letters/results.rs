//! Replays and discards dead letters, and shows their outcomes.

use std::time::{Duration, SystemTime};

use actix_web::web::Data;
use askama::Template;
use tokio::time::timeout;

use super::super::charts::{counted, grouped};
use super::super::fields::{Fields, link_with};
use super::super::page::{ConsoleError, Page, PageFrame};
use super::super::visitor::Submission;
use super::{CONDITIONS, LAST, LETTER, PART, letter_link, selected_command, selection};
use crate::control::view::{ReplayTally, TallyRow};
use crate::control::{Control, ControlError, LetterSelection, ReplayMode};
use crate::domain::api_token::TokenScope;
use crate::http::api::thread::ApiThread;
use crate::observe::timestamp;

/// Maximum time of a step. A page then says how far it got, and goes on by a click.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Hidden fields with the numbers of letters of the steps before.
const TRIED: &str = "tried";
const REPLAYED: &str = "replayed";
const DISCARDED: &str = "discarded";

#[derive(Template)]
#[template(path = "results.html", config = "src/http/console/askama.toml")]
struct ResultsPage {
    frame: PageFrame,
    /// The result in a sentence.
    done: String,
    is_dry_run: bool,
    outcomes: Vec<OutcomeRow>,
    /// Hidden fields of the form that goes on; none if all is done.
    rest: Option<Rest>,
    back: String,
    /// Whether `back` is the list, in place of the letter.
    is_back_to_list: bool,
    command: String,
}

struct Rest {
    target: String,
    hidden: Vec<(String, String)>,
}

struct OutcomeRow {
    name: &'static str,
    class: &'static str,
    row: TallyRow,
    /// The page of its first letter; none if it is gone.
    link: Option<String>,
}

/// Replays the selected dead letters.
pub(in crate::http::console) async fn replay(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let frame = visitor.frame(PART, "Replayed dead letters");
    replay_and_show(&thread, frame, String::new(), fields).await
}

/// Replays the dead letters of a cause that was removed. `effect` says how, before the result.
pub(in crate::http::console) async fn replay_caused(
    thread: &ApiThread,
    frame: PageFrame,
    effect: String,
    selected: Fields,
) -> Result<Page, ConsoleError> {
    replay_and_show(thread, frame, effect + " ", selected).await
}

async fn replay_and_show(
    thread: &ApiThread,
    frame: PageFrame,
    effect: String,
    fields: Fields,
) -> Result<Page, ConsoleError> {
    let page = thread.run_long(async move |control| {
        let started = SystemTime::now();
        let is_dry_run = fields.get("do") == "try";
        let (tally, is_complete) = replayed(control, &selection(&fields)?, is_dry_run).await?;
        let tried = so_far(&fields, TRIED) + tally.letters();
        let replayed = so_far(&fields, REPLAYED) + tally.replayed();
        let letters = counted(tried, LETTER);
        let these =
            if replayed == tried { letters.clone() } else { format!("{} of {letters}", grouped(replayed)) };
        let outcomes: Vec<_> = tally.rows().into_iter().map(|row| OutcomeRow::new(row, is_dry_run)).collect();
        let remains = is_dry_run || outcomes.iter().any(|outcome| outcome.link.is_some());
        let (back, is_back_to_list) = back(&fields, remains);
        Page::new(&ResultsPage {
            frame,
            done: match (is_dry_run, is_complete) {
                (true, true) => format!("Tried: {letters}. Nothing was changed."),
                (true, false) => format!("Tried the first ones: {letters}. Nothing was changed."),
                (false, true) => format!("{effect}Replayed: {these}."),
                (false, false) => format!("{effect}Replayed so far: {these}. There are more."),
            },
            is_dry_run,
            outcomes,
            // A test that goes on would begin again.
            rest: rest(
                "/dead-letters/replay",
                &fields,
                is_complete || is_dry_run,
                started,
                &[(TRIED, tried), (REPLAYED, replayed)],
            ),
            command: selected_command("replay", if is_dry_run { "--dry-run" } else { "--yes" }, &fields),
            back,
            is_back_to_list,
        })
    });
    Ok(page.await?)
}

async fn replayed(
    control: &Control,
    selection: &LetterSelection,
    is_dry_run: bool,
) -> Result<(ReplayTally, bool), ControlError> {
    let mode = if is_dry_run { ReplayMode::RollBack } else { ReplayMode::Commit };
    let mut tally = ReplayTally::default();
    let mut done = |letters: Vec<_>| tally.add(&letters);
    // A step that is given up is rolled back.
    let ended = timeout(STEP_TIMEOUT, control.replay(selection, mode, &mut done)).await;
    let is_complete = ended.is_ok();
    if let Ok(result) = ended {
        result?;
    }
    Ok((tally, is_complete))
}

/// Discards the selected dead letters.
pub(in crate::http::console) async fn discard(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    if fields.get("id").is_empty() {
        // Otherwise later letters would be deleted, too.
        fields.number(LAST)?;
    }
    let frame = visitor.frame(PART, "Discarded dead letters");
    let page = thread.run_long(async move |control| {
        let started = SystemTime::now();
        let mut discarded = 0;
        let mut done = |letters| discarded += letters;
        let ended = timeout(STEP_TIMEOUT, control.discard(&selection(&fields)?, &mut done)).await;
        let is_complete = ended.is_ok();
        if let Ok(result) = ended {
            result?;
        }
        let discarded = so_far(&fields, DISCARDED) + discarded;
        let letters = counted(discarded, LETTER);
        let (back, is_back_to_list) = back(&fields, false);
        Page::new(&ResultsPage {
            frame,
            done: if is_complete {
                format!("Discarded: {letters}.")
            } else {
                format!("Discarded so far: {letters}. There are more.")
            },
            is_dry_run: false,
            outcomes: Vec::new(),
            rest: rest("/dead-letters/discard", &fields, is_complete, started, &[(DISCARDED, discarded)]),
            command: selected_command("discard", "--yes", &fields),
            back,
            is_back_to_list,
        })
    });
    Ok(page.await?)
}

/// A number of letters of the steps before.
fn so_far(fields: &Fields, name: &'static str) -> u64 {
    fields.number(name).unwrap_or_default().unsigned_abs()
}

/// The list of the selected letters, or the single one while it is there. The second value says whether it is the list.
fn back(fields: &Fields, remains: bool) -> (String, bool) {
    match fields.number("id") {
        Ok(id) if remains => (letter_link(id), false),
        _ => (link_with(PART, &fields.only(&CONDITIONS[..6])), true),
    }
}

/// The form that goes on. It leaves out letters that became dead letters again meanwhile.
fn rest(
    target: &'static str,
    fields: &Fields,
    is_complete: bool,
    started: SystemTime,
    so_far: &[(&str, u64)],
) -> Option<Rest> {
    let target = link_with(target, &fields.only(&CONDITIONS));
    let mut hidden = fields.only(&[CONDITIONS.as_slice(), &[LAST]].concat());
    hidden.extend(so_far.iter().map(|(name, letters)| ((*name).to_owned(), letters.to_string())));
    if fields.get("until").is_empty() {
        hidden.push(("until".to_owned(), timestamp(started)));
    }
    (!is_complete).then_some(Rest { target, hidden })
}

impl OutcomeRow {
    fn new(row: TallyRow, is_dry_run: bool) -> Self {
        let (name, class) = match row.outcome {
            "stored" => ("stored", "good"),
            "posted" => ("waits to be posted", "good"),
            "repeated" => ("dropped: its key was seen before", "idle"),
            "refused" => ("refused again", "bad"),
            "not_replayable" => ("cannot be replayed", "bad"),
            "gone" => ("is no longer there", "idle"),
            other => (other, "idle"),
        };
        let is_there = match row.outcome {
            "refused" | "not_replayable" => true,
            "gone" => false,
            _ => is_dry_run,
        };
        Self { name, class, link: is_there.then(|| letter_link(row.first_id)), row }
    }
}
