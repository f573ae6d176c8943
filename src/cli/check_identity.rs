//! Checks that inbox and database belong together.

use std::io;

use super::check::{CheckFailure, CheckReport};
use crate::app::{directory_of_survey, directory_without_inbox, volatile_file_system};
use crate::domain::identity::{Consent, InboxDirectory, StartDecision, decide_start};
use crate::inbox::{Surveyed, survey};
use crate::settings::Settings;
use crate::store::{self, Database, StoreError};

const NAME: &str = "identity";

/// Reports how the next start would decide. Changes nothing.
pub(super) async fn run(
    database: &Database,
    settings: &Settings,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    if let Some(kind) = volatile_file_system(&settings.inbox.dir) {
        let warning =
            format!("INBOX_DIR is on {kind}: what it holds is lost with the machine or the container");
        report.warn(NAME, &warning)?;
    }
    let (directory, belongs) = match survey(&settings.inbox.dir, &[]) {
        Ok(Surveyed::Inbox(found)) => {
            if found.is_meta_rebuilt {
                report.warn(
                    NAME,
                    "The meta file of the inbox is lost: the start builds it again from the segments",
                )?;
            }
            let belongs = format!("inbox {} and the database belong together", found.id);
            (directory_of_survey(settings, &found), belongs)
        }
        Ok(found @ (Surveyed::Nothing | Surveyed::Unreadable)) => {
            if found == Surveyed::Unreadable {
                report.warn(NAME, "No file of the inbox can be read: the start puts them into quarantine")?;
            }
            (directory_without_inbox(settings), "will be chosen with a new inbox".to_owned())
        }
        Err(error) => {
            return report.add(NAME, &Err(CheckFailure::new(&error, "allow this user to read INBOX_DIR")));
        }
    };
    match compare(database, &directory).await {
        Ok(Some((decision, behind))) => {
            report_decision(belongs, decision, report)?;
            behind.iter().try_for_each(|lane| report.warn(NAME, lane))
        }
        Ok(None) => report.add(NAME, &Ok("will be registered with the first start".to_owned())),
        Err(error) => report.add(NAME, &Err(CheckFailure::new(&error, "allow this user to read the tables"))),
    }
}

/// Returns the decision of the next start, and a warning for each lane whose offset in the database went back.
/// Returns `None` if tables are missing.
async fn compare(
    database: &Database,
    directory: &InboxDirectory,
) -> Result<Option<(StartDecision, Vec<String>)>, StoreError> {
    let lacking = store::missing_schema(database).await?.added;
    if lacking.iter().any(|lacking| lacking.starts_with("table ")) {
        return Ok(None);
    }
    let registry = store::registry(database, directory).await?;
    let behind = (0..).zip(&directory.committed).filter_map(|(lane, committed)| {
        let offset = registry.lanes.get(&lane).copied().unwrap_or(0);
        (offset < *committed).then(|| {
            format!(
                "The database went back: lane {lane} was committed up to offset {committed}, but the database has \
                 offset {offset}. The next start processes the messages again that the inbox holds"
            )
        })
    });
    let behind = behind.collect();
    Ok(Some((decide_start(directory, &registry, Consent::default(), &[]), behind)))
}

fn report_decision(belongs: String, decision: StartDecision, report: &mut CheckReport<'_>) -> io::Result<()> {
    match decision {
        StartDecision::Register(registration) => {
            for notice in &registration.notices {
                report.warn(NAME, &notice.to_string())?;
            }
            report.add(NAME, &Ok(belongs))
        }
        StartDecision::Watch(start) => {
            let warning = format!(
                "{} may run with this inbox or client id; a start watches it and is refused if it does",
                start.location
            );
            report.warn(NAME, &warning)
        }
        StartDecision::Refuse(refusal) => {
            report.add(NAME, &Err(CheckFailure::new(&refusal, "a start is refused until then")))
        }
    }
}
