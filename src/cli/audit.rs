//! `mqtt-gateway audit`: checks that the tables and the inbox agree.
//!
//! The audit is read-only and may run beside the gateway. Findings go to standard output, as a table or as one JSON
//! object. Progress goes to standard error.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::audit_report;
use crate::app::directory_of_survey;
use crate::domain::audit::{Facts, InboxFacts, LaneFacts, MissingInbox, Severity, check};
use crate::domain::identity::{Consent, StartDecision, decide_start};
use crate::inbox::{Survey, Surveyed, survey};
use crate::settings::Settings;
use crate::store::{self, AuditProgress, Database, StoredLane};

/// Minimum time between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Text below the options in `--help`.
pub(super) const HELP: &str = "\
WRONG (exit code 1): two messages with the same sequence number, or a counter below an assigned number. A gap in a \
flow that stores and whose schema rejects an empty object. Unreadable bytes in the unprocessed part of the log, or \
a lane beyond the end of the log.
look (exit code 0): findings that can have a harmless cause, which is named.
The audit reads one snapshot of the database, takes no locks and may run beside the gateway. On a large table it \
takes minutes. Meanwhile the server keeps old row versions, as during a dump.";

/// Options of `audit`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct AuditOptions {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Audit only the flow with this code.
    #[arg(long, value_name = "CODE")]
    pub flow: Option<String>,
}

/// Reasons why an audit failed.
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
    #[error("cannot print the findings: {0}")]
    Output(#[from] io::Error),
}

/// Runs the audit and prints its findings. Returns true if no finding has the severity `WRONG`.
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
    let lacking: Vec<String> = store::missing_schema(&database).await?.added;
    if let Some(table) = lacking.into_iter().find(|lacking| lacking.starts_with("table ")) {
        return Err(AuditError::Schema(table));
    }
    let mut logged_at = Instant::now();
    let mut facts =
        store::audit(&database, only, &mut |progress| log_progress(&mut logged_at, progress)).await?;
    if let Some(code) = only.filter(|_| facts.flows.is_empty()) {
        return Err(AuditError::NoFlow(code.to_owned()));
    }
    if only.is_none() {
        add_inbox(settings, &database, &mut facts).await?;
    }
    Ok(facts)
}

fn log_progress(logged_at: &mut Instant, progress: AuditProgress) {
    if logged_at.elapsed() >= PROGRESS_INTERVAL {
        *logged_at = Instant::now();
        let AuditProgress { table, rows, key, highest_key } = progress;
        log::info!("Read {rows} rows of {table}, at id {key} of {highest_key}");
    }
}

/// Reads the inbox. The lanes are read before the log, so that no lane can be ahead of a log that grows meanwhile.
async fn add_inbox(settings: &Settings, database: &Database, facts: &mut Facts) -> Result<(), AuditError> {
    let dir: &Path = &settings.inbox.dir;
    let lanes = store::lane_rows(database).await?;
    let marks: Vec<u64> = lanes.iter().map(|lane| lane.next_offset).chain([0]).collect();
    let inboxes: BTreeSet<&str> = lanes.iter().map(|lane| lane.inbox_id.as_str()).collect();
    facts.known_inboxes = inboxes.len() as u64;
    let found = match survey(dir, &marks)? {
        Surveyed::Inbox(found) => found,
        found @ (Surveyed::Nothing | Surveyed::Unreadable) => {
            let path = dir.display().to_string();
            facts.missing_inbox = Some(MissingInbox { path, has_files: found == Surveyed::Unreadable });
            return Ok(());
        }
    };
    facts.inbox = Some(InboxFacts {
        id: found.id.to_string(),
        in_use: super::check::inbox_holder(dir).is_some(),
        records: found.records,
        bytes: found.bytes,
        is_meta_lost: found.is_meta_rebuilt,
        damages: found.damages,
        damaged_below: found.damaged_below,
        newest_base: found.newest_base,
        end: found.end,
        never_issued: found.never_issued,
        lanes: (0..found.lanes).map(|lane| lane_facts(&found, lane, &lanes)).collect(),
        mismatches: mismatches(settings, &found, database).await?,
    });
    Ok(())
}

/// Returns the notices of the next start, or the reason why it would be refused.
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

fn lane_facts(found: &Survey, lane: u32, rows: &[StoredLane]) -> LaneFacts {
    let id = found.id.to_string();
    let row = rows.iter().find(|row| row.inbox_id == id && row.lane == i64::from(lane));
    let next_offset = row.map(|row| row.next_offset);
    let lagging_from = row.and_then(|row| row.lagging_from);
    let waiting = found.waiting.get(&next_offset.unwrap_or(0)).copied().unwrap_or(0);
    let committed = usize::try_from(lane).ok().and_then(|lane| found.progress.lanes.get(lane)).copied();
    LaneFacts { lane, next_offset, lagging_from, waiting, committed }
}
