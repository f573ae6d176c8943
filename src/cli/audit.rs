//! `mqtt-gateway audit`: do the tables and the inbox agree, after an incident or at any time.
//!
//! Reads only, and beside a gateway that runs. The findings go to standard output, as a table or as
//! one JSON object; how far it is goes to standard error.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::audit_report;
use crate::app::directory_of_survey;
use crate::domain::audit::{Facts, InboxFacts, LaneFacts, Severity, check};
use crate::domain::identity::{Consent, StartDecision, decide_start};
use crate::inbox::{Survey, survey};
use crate::settings::Settings;
use crate::store::{self, AuditProgress, Database, LaneRow};

/// A line of progress at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What the exit code means.
pub(super) const HELP: &str = "\
WRONG (exit code 1): two messages with one number, a counter below a number that was given, a gap in a \
flow that stores and whose schema refuses an empty object, unreadable bytes of the log that are still \
to be done, a lane beyond the log.
look (exit code 0): what can have a harmless cause, which is named with it.
It reads one moment of the database, locks nothing and may run beside the gateway. On a large table it \
takes minutes, for which the server keeps old versions of rows, as for a dump.";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct AuditOptions {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Look at the flow with this code alone.
    #[arg(long, value_name = "CODE")]
    pub flow: Option<String>,
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Inbox(#[from] crate::inbox::InboxError),
    #[error("there is no database {0}")]
    NoDatabase(String),
    #[error("the schema lacks {0}: run `mqtt-gateway migrate`")]
    Schema(String),
    #[error("there is no flow with the code {0:?}")]
    NoFlow(String),
    #[error("the findings cannot be printed: {0}")]
    Output(#[from] io::Error),
}

/// Audits, prints, and says whether nothing is wrong.
pub(super) fn run(
    settings: &Settings,
    options: &AuditOptions,
    out: &mut dyn Write,
) -> Result<bool, AuditError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let facts = runtime.block_on(read(settings, options.flow.as_deref()))?;
    let findings = check(&facts);
    if options.json {
        audit_report::json(&facts, &findings, out)?;
    } else {
        audit_report::table(&facts, &findings, out)?;
    }
    Ok(!findings.iter().any(|finding| finding.severity == Severity::Wrong))
}

async fn read(settings: &Settings, only: Option<&str>) -> Result<Facts, AuditError> {
    if let Some(path) = store::missing_file(&settings.database) {
        return Err(AuditError::NoDatabase(path.display().to_string()));
    }
    let database = Database::connect(&settings.database, 2).await?;
    let lacking: Vec<String> = store::plan(&database).await?.added;
    if let Some(table) = lacking.into_iter().find(|lacking| lacking.starts_with("table ")) {
        return Err(AuditError::Schema(table));
    }
    let mut told = Instant::now();
    let mut facts = store::audit(&database, only, &mut |progress| tell(&mut told, progress)).await?;
    if let Some(code) = only.filter(|_| facts.flows.is_empty()) {
        return Err(AuditError::NoFlow(code.to_owned()));
    }
    if only.is_none() {
        facts.inbox = inbox(settings, &database).await?;
    }
    Ok(facts)
}

fn tell(told: &mut Instant, progress: AuditProgress) {
    if told.elapsed() >= PROGRESS_INTERVAL {
        *told = Instant::now();
        let AuditProgress { table, rows, key, highest_key } = progress;
        log::info!("{rows} rows of {table} read, at id {key} of {highest_key}");
    }
}

/// The lanes are read before the log: what they have done must then be in the log, or have been.
async fn inbox(settings: &Settings, database: &Database) -> Result<Option<InboxFacts>, AuditError> {
    let dir: &Path = &settings.inbox.dir;
    let lanes = store::lane_rows(database).await?;
    let marks: Vec<u64> = lanes.iter().map(|lane| lane.next_offset).chain([0]).collect();
    let Some(found) = survey(dir, &marks)? else { return Ok(None) };
    Ok(Some(InboxFacts {
        id: found.id.to_string(),
        in_use: super::check::inbox_holder(dir).is_some(),
        records: found.records,
        bytes: found.bytes,
        damages: found.damages,
        damaged_below: found.damaged_below,
        newest_base: found.newest_base,
        end: found.end,
        never_issued: found.never_issued,
        lanes: (0..found.lanes).map(|lane| lane_facts(&found, lane, &lanes)).collect(),
        mismatches: mismatches(settings, &found, database).await?,
    }))
}

/// The notices or the refusal of the next start.
async fn mismatches(
    settings: &Settings,
    found: &Survey,
    database: &Database,
) -> Result<Vec<String>, AuditError> {
    let directory = directory_of_survey(settings, found);
    let registry = store::registry(database, &directory).await?;
    Ok(match decide_start(&directory, &registry, Consent::default(), &[]) {
        StartDecision::Register(registration) => {
            registration.notices.iter().map(ToString::to_string).collect()
        }
        StartDecision::Refuse(refusal) => vec![refusal.to_string()],
        StartDecision::Watch(_) => Vec::new(),
    })
}

fn lane_facts(found: &Survey, lane: u32, rows: &[LaneRow]) -> LaneFacts {
    let id = found.id.to_string();
    let row = rows.iter().find(|row| row.inbox_id == id && row.lane == i64::from(lane));
    let next_offset = row.map(|row| row.next_offset);
    let lagging_from = row.and_then(|row| row.lagging_from);
    let waiting = found.waiting.get(&next_offset.unwrap_or(0)).copied().unwrap_or(0);
    let committed = usize::try_from(lane).ok().and_then(|lane| found.progress.lanes.get(lane)).copied();
    LaneFacts { lane, next_offset, lagging_from, waiting, committed }
}
