//! Whether inbox and database belong together, before a start depends on it.

use std::io;

use super::check::{Failure, Report};
use crate::app::{directory_of_survey, volatile_file_system};
use crate::domain::identity::{Consent, Directory, StartDecision, decide_start};
use crate::inbox::survey;
use crate::settings::Settings;
use crate::store::{self, Database, StoreError};

const NAME: &str = "identity";

/// Reports the decision on the next start. Changes nothing.
pub(super) async fn run(database: &Database, settings: &Settings, report: &mut Report<'_>) -> io::Result<()> {
    if let Some(kind) = volatile_file_system(&settings.inbox.dir) {
        let warning =
            format!("INBOX_DIR is on {kind}: what it holds is lost with the machine or the container");
        report.warn(NAME, &warning)?;
    }
    let found = match survey(&settings.inbox.dir, &[]) {
        Ok(Some(found)) => found,
        Ok(None) => return report.tell(NAME, &Ok("will be chosen with a new inbox".to_owned())),
        Err(error) => {
            return report.tell(NAME, &Err(Failure::new(&error, "see that this user may read INBOX_DIR")));
        }
    };
    let directory = directory_of_survey(settings, &found);
    match compare(database, &directory).await {
        Ok(Some((decision, behind))) => {
            tell(&directory, decision, report)?;
            behind.iter().try_for_each(|lane| report.warn(NAME, lane))
        }
        Ok(None) => report.tell(NAME, &Ok("will be registered with the first start".to_owned())),
        Err(error) => report.tell(NAME, &Err(Failure::new(&error, "see that this user may read the tables"))),
    }
}

/// The decision over the next start, and a sentence for each lane that the database has set back. None where the tables
/// are not there yet.
async fn compare(
    database: &Database,
    directory: &Directory,
) -> Result<Option<(StartDecision, Vec<String>)>, StoreError> {
    let lacking = store::plan(database).await?.added;
    if lacking.iter().any(|lacking| lacking.starts_with("table ")) {
        return Ok(None);
    }
    let registry = store::registry(database, directory).await?;
    let behind = (0..).zip(&directory.committed).filter_map(|(lane, committed)| {
        let stands = registry.lanes.get(&lane).copied().unwrap_or(0);
        (stands < *committed).then(|| {
            format!(
                "The database went back: lane {lane} was committed up to offset {committed}, but the database has offset \
                 {stands}. The next start processes the messages again that the inbox holds"
            )
        })
    });
    let behind = behind.collect();
    Ok(Some((decide_start(directory, &registry, Consent::default(), &[]), behind)))
}

fn tell(directory: &Directory, decision: StartDecision, report: &mut Report<'_>) -> io::Result<()> {
    match decision {
        StartDecision::Register(registration) => {
            for notice in &registration.notices {
                report.warn(NAME, &notice.to_string())?;
            }
            report.tell(NAME, &Ok(format!("inbox {} and the database belong together", directory.inbox_id)))
        }
        StartDecision::Watch(start) => {
            let warning = format!(
                "{} may run with this inbox or client id; a start watches it and is refused if it does",
                start.location
            );
            report.warn(NAME, &warning)
        }
        StartDecision::Refuse(refusal) => {
            report.tell(NAME, &Err(Failure::new(&refusal, "a start is refused until then")))
        }
    }
}
