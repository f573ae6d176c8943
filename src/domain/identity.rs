//! The check at each start whether an inbox directory and a database belong together.
//!
//! An offset is valid only for the directory that issued it. Directories can be copied, restored or lost, and databases
//! can be restored or exchanged. Therefore each start registers in the database, and the directory remembers its
//! registration. This module compares the two before the gateway connects to the broker:
//!
//! ```text
//!  the last start of the directory is …
//!    the last start in the database    start
//!    an older start                    an old copy: start with offsets that no other start has issued;
//!                                      refused if it has messages that the newer directory lacks
//!    unknown to the database           the database was set back: start and replay the lanes
//!  the last start may still run        wait for a heartbeat; refused if there is one
//!  the database is another one         refused without an option on the command line
//!  the client id has another inbox     refused without an option on the command line
//! ```
//!
//! This module reads no clock, file or table.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::batch::{LaggingFlow, Lane};
use super::message::{FlowId, OFFSETS_PER_START, Offset};

/// The inbox directory of this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxDirectory {
    /// The id of its inbox.
    pub inbox_id: String,
    /// The client id that the gateway uses at the broker.
    pub client_id: String,
    /// Host and path, for operators.
    pub location: String,
    /// Identity of the directory on its machine since the boot. A copy has a different identity.
    pub place: String,
    /// Id of its database; `None` before the first registration.
    pub database_id: Option<String>,
    /// Id of its last start; `None` before the first registration.
    pub start_id: Option<String>,
    /// Lowest offset that this directory has not issued.
    pub next_base: Offset,
    /// Offset above its last record.
    pub log_end: Offset,
    /// Committed offset of each lane, as remembered by the directory; empty if unknown.
    pub committed: Vec<Offset>,
}

/// The rows of the database about this inbox and client id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisteredStarts {
    /// Id of the database.
    pub database_id: String,
    /// Starts of this inbox, the newest first.
    pub starts: Vec<Start>,
    /// Offsets of the lanes of this inbox.
    pub lanes: BTreeMap<Lane, Offset>,
    /// The last start of each other inbox with this client id.
    pub others: Vec<Start>,
}

/// A registered start of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The id of its inbox.
    pub inbox_id: String,
    /// Id of the start.
    pub start_id: String,
    /// Incremented with each start of an inbox.
    pub generation: i64,
    /// See [`InboxDirectory::location`].
    pub location: String,
    /// See [`InboxDirectory::place`].
    pub place: String,
    /// Id of the previous start of its directory.
    pub parent: Option<String>,
    /// First offset of its range.
    pub base: Offset,
    /// Offset above the last record of its directory at registration.
    pub log_end: Offset,
    /// Its state.
    pub state: StartState,
    /// Incremented with each heartbeat.
    pub beats: i64,
    /// Offsets of its lanes at the registration of the next start.
    pub resume: Option<Resume>,
}

named_enum! {
    /// The state of a registered start.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum StartState {
        /// The gateway runs, or was killed.
        Running = "running",
        /// The gateway shut down and left messages in its inbox.
        Ended = "ended",
        /// The gateway shut down, and all its messages are in the database.
        Drained = "drained",
    }
}

impl StartState {
    /// Parses the value in the table. An unknown value counts as running, which is the safe interpretation.
    #[must_use]
    pub fn parse(word: &str) -> StartState {
        Self::ALL.into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Running)
    }
}

/// Offsets of the lanes when a start was superseded. A forked directory with that start is replayed from these offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Committed offset of each lane.
    pub lanes: BTreeMap<Lane, Offset>,
    /// Lane, flow and offset of each lagging flow.
    pub lagging: Vec<(Lane, FlowId, Offset)>,
}

/// The options on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consent {
    /// How to continue if the inbox and the database do not match.
    pub database: Option<DatabaseChange>,
    /// The previous inbox of the client id is lost.
    pub new_inbox: bool,
}

/// How an inbox continues at another database or as a forked copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChange {
    /// Continue at the committed offsets: only waiting messages are processed.
    Adopt,
    /// Process all records of the inbox that the database may lack.
    Replay,
}

/// The decision on a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartDecision {
    /// Register the start.
    Register(Registration),
    /// Another process may use the same id: wait for its heartbeat.
    Watch(Start),
    /// Exit with an error.
    Refuse(StartRefusal),
}

/// The data to register a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// First offset of the start.
    pub base: Offset,
    /// Lanes to set to an offset.
    pub lanes: BTreeMap<Lane, Offset>,
    /// Lagging flows that replace the rows of the table; `None` keeps the rows.
    pub lagging: Option<Vec<(Lane, LaggingFlow)>>,
    /// Notices for the log.
    pub notices: Vec<Notice>,
}

impl Registration {
    /// Whether the start was possible only with the consent to a changed database or a fork.
    #[must_use]
    pub fn used_database_consent(&self) -> bool {
        let needs_consent =
            |notice: &Notice| matches!(notice, Notice::OtherDatabase { .. } | Notice::ForkReplayed);
        self.notices.iter().any(needs_consent)
    }
}

/// An unusual condition of a permitted start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another directory with the same inbox id ran last.
    OlderCopy {
        /// Location of the directory that ran last.
        last: String,
    },
    /// The lanes or other starts are beyond the offsets of this directory.
    OffsetsSkipped {
        /// First offset of this start.
        base: Offset,
    },
    /// The directory is a fork. Messages that the other directory lacks are processed.
    ForkReplayed,
    /// The database does not know the last start of the directory.
    DatabaseWentBack,
    /// The inbox moves to another database.
    OtherDatabase {
        /// The old database.
        before: String,
        /// The new database.
        now: String,
        /// How the inbox continues.
        change: DatabaseChange,
    },
    /// The client id had another inbox, which is abandoned.
    OtherInboxGivenUp {
        /// Id of the other inbox.
        inbox_id: String,
        /// Location of the other inbox.
        location: String,
    },
}

/// The reason for a refused start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartRefusal {
    /// Another process uses the same inbox id.
    InboxInUse {
        /// The inbox.
        inbox_id: String,
        /// Location of the inbox of the other process.
        location: String,
    },
    /// Another process uses the same client id with another inbox.
    ClientIdInUse {
        /// The client id.
        client_id: String,
        /// Inbox of the other process.
        inbox_id: String,
        /// Location of the inbox of the other process.
        location: String,
    },
    /// The client id had another inbox, which may hold messages.
    OtherInbox {
        /// The client id.
        client_id: String,
        /// The previous inbox.
        inbox_id: String,
        /// Location of the previous inbox.
        location: String,
        /// The inbox in `INBOX_DIR`.
        found: String,
    },
    /// The directory and a copy have both received messages.
    Fork {
        /// The inbox.
        inbox_id: String,
        /// Location of the directory that ran last.
        location: String,
    },
    /// The inbox belongs to another database.
    OtherDatabase {
        /// The inbox.
        inbox_id: String,
        /// Id of its database.
        belongs_to: String,
        /// Id of the database in the settings.
        found: String,
    },
}

/// Decides whether a start may continue. `silent` lists watched starts without a heartbeat.
#[must_use]
pub fn decide_start(
    directory: &InboxDirectory,
    registry: &RegisteredStarts,
    consent: Consent,
    silent: &[String],
) -> StartDecision {
    let may_run = |start: &&Start| start.state == StartState::Running && !silent.contains(&start.start_id);
    if let Some(last) = registry.starts.first().filter(may_run).filter(|last| !is_ours(directory, last)) {
        return StartDecision::Watch(last.clone());
    }
    // A drained inbox has no messages to lose.
    let mut others = registry.others.iter().filter(|other| other.state != StartState::Drained);
    if let Some(other) = others.clone().find(may_run).filter(|_| consent.new_inbox) {
        return StartDecision::Watch(other.clone());
    }
    if let Some(other) = others.next().filter(|_| !consent.new_inbox) {
        return StartDecision::Refuse(StartRefusal::OtherInbox {
            client_id: directory.client_id.clone(),
            inbox_id: other.inbox_id.clone(),
            location: other.location.clone(),
            found: directory.inbox_id.clone(),
        });
    }
    let mut registration = match &directory.database_id {
        Some(before) if *before != registry.database_id => match consent.database {
            Some(change) => at_another_database(directory, registry, before, change),
            None => {
                return StartDecision::Refuse(StartRefusal::OtherDatabase {
                    inbox_id: directory.inbox_id.clone(),
                    belongs_to: before.clone(),
                    found: registry.database_id.clone(),
                });
            }
        },
        _ => match at_its_database(directory, registry, consent) {
            Ok(registration) => registration,
            Err(refusal) => return StartDecision::Refuse(refusal),
        },
    };
    registration.base = base(directory, registry);
    if registration.base > directory.next_base {
        registration.notices.push(Notice::OffsetsSkipped { base: registration.base });
    }
    let given_up = registry.others.iter().filter(|other| other.state != StartState::Drained);
    registration.notices.extend(given_up.map(|other| Notice::OtherInboxGivenUp {
        inbox_id: other.inbox_id.clone(),
        location: other.location.clone(),
    }));
    StartDecision::Register(registration)
}

/// Returns the refusal for a watched start with a heartbeat.
#[must_use]
pub fn refuse_for(directory: &InboxDirectory, living: &Start) -> StartRefusal {
    let (inbox_id, location) = (living.inbox_id.clone(), living.location.clone());
    if living.inbox_id == directory.inbox_id {
        StartRefusal::InboxInUse { inbox_id, location }
    } else {
        StartRefusal::ClientIdInUse { client_id: directory.client_id.clone(), inbox_id, location }
    }
}

/// Whether the last start used this directory on this machine. Its process has ended, because the directory is locked
/// now.
fn is_ours(directory: &InboxDirectory, last: &Start) -> bool {
    last.place == directory.place && directory.start_id.as_ref().is_none_or(|start| *start == last.start_id)
}

/// Returns the first offset of an unused range, above all lanes and all starts of this inbox.
fn base(directory: &InboxDirectory, registry: &RegisteredStarts) -> Offset {
    let others = registry.starts.iter().filter(|start| directory.start_id.as_ref() != Some(&start.start_id));
    let issued = others.map(|start| start.base + 1);
    let passed = registry.lanes.values().copied();
    let highest = issued.chain(passed).max().unwrap_or(0);
    directory.next_base.max(highest.div_ceil(OFFSETS_PER_START).saturating_mul(OFFSETS_PER_START))
}

fn at_its_database(
    directory: &InboxDirectory,
    registry: &RegisteredStarts,
    consent: Consent,
) -> Result<Registration, StartRefusal> {
    let mut registration = Registration::default();
    let (Some(start_id), Some(last)) = (&directory.start_id, registry.starts.first()) else {
        return Ok(registration);
    };
    if *start_id == last.start_id {
        return Ok(registration);
    }
    let Some(start) = registry.starts.iter().find(|start| start.start_id == *start_id) else {
        registration.notices.push(Notice::DatabaseWentBack);
        return Ok(registration);
    };
    registration.notices.push(Notice::OlderCopy { last: last.location.clone() });
    if others_have_all(directory, registry) {
        return Ok(registration);
    }
    if consent.database != Some(DatabaseChange::Replay) {
        let (inbox_id, location) = (directory.inbox_id.clone(), last.location.clone());
        return Err(StartRefusal::Fork { inbox_id, location });
    }
    registration.notices.push(Notice::ForkReplayed);
    let resume = start.resume.clone().unwrap_or_default();
    let stood = |lane| resume.lanes.get(&lane).copied().unwrap_or(0);
    registration.lanes = registry.lanes.keys().map(|&lane| (lane, stood(lane))).collect();
    let lagging = resume.lagging.iter();
    let lagging = lagging.map(|&(lane, flow, next_offset)| (lane, LaggingFlow { flow, next_offset }));
    registration.lagging = Some(lagging.collect());
    Ok(registration)
}

/// Whether the directory that ran last is a copy of this directory with all its records. The lanes then cover all
/// records.
fn others_have_all(directory: &InboxDirectory, registry: &RegisteredStarts) -> bool {
    let mut descendant = registry.starts.first();
    while let Some(start) = descendant {
        if start.parent == directory.start_id {
            return start.log_end >= directory.log_end;
        }
        // Parents have lower generations, so the loop terminates.
        let is_parent = |other: &&Start| {
            other.generation < start.generation && Some(&other.start_id) == start.parent.as_ref()
        };
        descendant = registry.starts.iter().find(is_parent);
    }
    false
}

fn at_another_database(
    directory: &InboxDirectory,
    registry: &RegisteredStarts,
    before: &str,
    change: DatabaseChange,
) -> Registration {
    let mut registration = Registration::default();
    if change == DatabaseChange::Adopt {
        let committed = (0..).zip(directory.committed.iter().copied());
        let beyond = committed.filter(|(lane, at)| registry.lanes.get(lane).is_none_or(|now| now < at));
        registration.lanes = beyond.collect();
        registration.lagging = Some(Vec::new());
    }
    registration.notices.push(Notice::OtherDatabase {
        before: before.to_owned(),
        now: registry.database_id.clone(),
        change,
    });
    registration
}

impl Notice {
    /// Whether an option on the command line has requested it.
    #[must_use]
    pub fn is_consented(&self) -> bool {
        matches!(self, Self::OtherDatabase { .. } | Self::OtherInboxGivenUp { .. } | Self::ForkReplayed)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderCopy { last } => write!(
                f,
                "This inbox directory is not the one that ran last under its id: {last} was. An old copy was restored, or a \
                 copy has run elsewhere. Messages that the other directory received and did not store are missing here"
            ),
            Self::OffsetsSkipped { base } => write!(
                f,
                "The database is past the offsets that this inbox directory has issued. New offsets begin above {base}, so that \
                 no message is skipped"
            ),
            Self::ForkReplayed => f.write_str(
                "The lanes return to their offsets at the time when the other directory took over. Messages in both \
                 directories may be stored twice",
            ),
            Self::DatabaseWentBack => f.write_str(
                "The database does not know the last start of this inbox directory: a backup was restored, or a failover \
                 lost the last commits. Messages are processed again as far as the inbox holds them",
            ),
            Self::OtherDatabase { before, now, change: DatabaseChange::Adopt } => write!(
                f,
                "The inbox moves from the database {before} to {now} and continues at its offsets. Messages in the old database \
                 are not stored again; waiting messages are stored in the new database"
            ),
            Self::OtherDatabase { before, now, change: DatabaseChange::Replay } => write!(
                f,
                "The inbox moves from the database {before} to {now}, and all messages that it holds are processed again"
            ),
            Self::OtherInboxGivenUp { inbox_id, location } => write!(
                f,
                "The inbox {inbox_id} ({location}) is abandoned: its messages that were not stored are lost"
            ),
        }
    }
}

impl fmt::Display for StartRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InboxInUse { inbox_id, location } => write!(
                f,
                "another gateway runs with the inbox id {inbox_id}: {location}. INBOX_DIR is a copy of its directory. Set \
                 an empty INBOX_DIR and a unique MQTT_CLIENT_ID"
            ),
            Self::ClientIdInUse { client_id, inbox_id, location } => write!(
                f,
                "another gateway runs with MQTT_CLIENT_ID={client_id}: inbox {inbox_id}, {location}. Stop it first, or set \
                 MQTT_CLIENT_ID to another name"
            ),
            Self::OtherInbox { client_id, inbox_id, location, found } => write!(
                f,
                "MQTT_CLIENT_ID={client_id} has the inbox {inbox_id} ({location}), but INBOX_DIR is {found}. Set INBOX_DIR to \
                 the former. If it is lost, start once with --new-inbox"
            ),
            Self::Fork { inbox_id, location } => write!(
                f,
                "INBOX_DIR and its copy {location} have both received messages as inbox {inbox_id}, and INBOX_DIR holds \
                 messages that the other lacks. Start once with --replay to store them, some possibly twice; or restore the copy"
            ),
            Self::OtherDatabase { inbox_id, belongs_to, found } => write!(
                f,
                "the inbox {inbox_id} belongs to the database {belongs_to}, not {found}. Set that database, or start once with \
                 --adopt-database (continue) or --replay (process the whole inbox)"
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
