//! Whether a directory may go on under its inbox id, from which offset, and where its lanes stand.
//!
//! Offsets mean something only together with the directory that issued them. Directories are copied, put back and
//! lost, databases are restored and exchanged. So each start registers in the database, and the directory remembers
//! its registration. What the two say of each other is judged here, before the broker is connected:
//!
//! ```text
//!  the directory's last start is …
//!    the last one in the database      it goes on
//!    an older one                      an old copy: it goes on, and issues only offsets that no other start
//!                                      has issued. Refused where it holds messages that the others lack
//!    unknown to the database           the database went back: it goes on, and lanes are replayed
//!  the last start may still run        it is watched for a heartbeat, and refused if there is one
//!  the database is another one         refused, unless told how to go on
//!  the client id has another inbox     refused, unless told that it is lost
//! ```
//!
//! Nothing here reads a clock, a file or a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::batch::{LaggingFlow, Lane};
use super::message::{FlowId, OFFSETS_PER_START, Offset};

/// The directory of this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The id of its inbox.
    pub inbox_id: String,
    /// The client id that the gateway uses at the broker.
    pub client_id: String,
    /// Where it is, for people: host and path.
    pub location: String,
    /// Which directory of which machine it is since that machine was started. A copy has another one.
    pub place: String,
    /// The database that it belongs to; none where it never registered.
    pub database_id: Option<String>,
    /// Its last start; none where it never registered.
    pub start_id: Option<String>,
    /// No offset at or above it was issued by this directory.
    pub next_base: Offset,
    /// Above its last record.
    pub log_end: Offset,
    /// How far each lane was committed in its database, as the directory remembers it; empty where it does not.
    pub committed: Vec<Offset>,
}

/// The rows of the database about this inbox and client id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisteredStarts {
    /// Its identity.
    pub database_id: String,
    /// Starts of this inbox, the last one first.
    pub starts: Vec<Start>,
    /// Where the lanes of this inbox stand.
    pub lanes: BTreeMap<Lane, Offset>,
    /// The last start of each other inbox that had this client id.
    pub others: Vec<Start>,
}

/// A start of a gateway, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The id of its inbox.
    pub inbox_id: String,
    /// Its own id.
    pub start_id: String,
    /// Rises with each start of an inbox.
    pub generation: i64,
    /// See [`Directory::location`].
    pub location: String,
    /// See [`Directory::place`].
    pub place: String,
    /// The start that its directory had before.
    pub parent: Option<String>,
    /// The first offset that it could issue.
    pub base: Offset,
    /// Above the last record of its directory when it was registered.
    pub log_end: Offset,
    /// How it is, or how it ended.
    pub state: StartState,
    /// Rises with each heartbeat.
    pub beats: i64,
    /// Where its lanes stood when it was succeeded by the next start.
    pub resume: Option<Resume>,
}

/// How a registered start is, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartState {
    /// It runs, or it was killed.
    Running,
    /// It ended in order and left messages in its inbox.
    Ended,
    /// It ended in order, and all its messages are in the database.
    Drained,
}

impl StartState {
    /// All states.
    pub const ALL: [StartState; 3] = [Self::Running, Self::Ended, Self::Drained];

    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Drained => "drained",
        }
    }

    /// The state that has this word. An unknown one counts as running, which is the careful reading.
    #[must_use]
    pub fn parse(word: &str) -> StartState {
        Self::ALL.into_iter().find(|state| state.as_str() == word).unwrap_or(Self::Running)
    }
}

/// Where the lanes of an inbox stood when a start was succeeded. A directory with that start that comes back with
/// messages that the others lack is replayed from there.
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
    /// How to go on where the database and the inbox do not know the same of each other.
    pub database: Option<DatabaseChange>,
    /// The inbox that the client id had before is lost.
    pub new_inbox: bool,
}

/// How an inbox continues at another database, or as a copy with records that others lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChange {
    /// From its last offset: processed messages are not repeated, and waiting ones are stored here.
    Adopt,
    /// With everything that the inbox holds and the database may not have seen.
    Replay,
}

/// The decision on a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartDecision {
    /// Register it like this.
    Register(Registration),
    /// Another process may be at work under the same id: watch whether it gives a sign of life.
    Watch(Start),
    /// Do not start.
    Refuse(Refusal),
}

/// How a start is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The start issues offsets at or above it.
    pub base: Offset,
    /// Lanes that are set to an offset.
    pub lanes: BTreeMap<Lane, Offset>,
    /// The lagging flows in place of those in the table; `None` leaves these.
    pub lagging: Option<Vec<(Lane, LaggingFlow)>>,
    /// Messages for the log.
    pub notices: Vec<Notice>,
}

/// Something out of the ordinary about a start that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The directory is not the one that ran last.
    OlderCopy {
        /// Location of the one that ran last.
        last: String,
    },
    /// Lanes or other starts are beyond the offsets that this directory has issued.
    OffsetsSkipped {
        /// The first offset that this start issues.
        base: Offset,
    },
    /// It holds messages that the one that ran last lacks, and processes them now.
    ForkReplayed,
    /// The database does not know the last start of the directory.
    DatabaseWentBack,
    /// A lane goes on at another database.
    OtherDatabase {
        /// The database before.
        before: String,
        /// This one.
        now: String,
        /// How.
        change: DatabaseChange,
    },
    /// The client id had another inbox, which is given up.
    OtherInboxGivenUp {
        /// Its id.
        inbox_id: String,
        /// Where it was.
        location: String,
    },
}

/// Why a start is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another process runs with the same inbox id.
    InboxInUse {
        /// The inbox.
        inbox_id: String,
        /// Where the other process has it.
        location: String,
    },
    /// Another process runs with the same client id and another inbox.
    ClientIdInUse {
        /// The client id.
        client_id: String,
        /// Inbox of the other process.
        inbox_id: String,
        /// Where the other process has it.
        location: String,
    },
    /// The client id had another inbox, which may hold messages.
    OtherInbox {
        /// The client id.
        client_id: String,
        /// The inbox that it had.
        inbox_id: String,
        /// Where it was.
        location: String,
        /// The inbox that was found now.
        found: String,
    },
    /// The directory and a copy of it have both received messages.
    Fork {
        /// The inbox.
        inbox_id: String,
        /// Where the one is that ran last.
        location: String,
    },
    /// The inbox belongs to another database.
    OtherDatabase {
        /// The inbox.
        inbox_id: String,
        /// Identity of the database that it belongs to.
        belongs_to: String,
        /// Identity of the one that was found.
        found: String,
    },
}

/// Judges a start. `silent` names starts that were watched and gave no sign of life.
#[must_use]
pub fn decide_start(
    directory: &Directory,
    registry: &RegisteredStarts,
    consent: Consent,
    silent: &[String],
) -> StartDecision {
    let may_run = |start: &&Start| start.state == StartState::Running && !silent.contains(&start.start_id);
    if let Some(last) = registry.starts.first().filter(may_run).filter(|last| !is_ours(directory, last)) {
        return StartDecision::Watch(last.clone());
    }
    // Only if messages may be left behind: a drained inbox has none.
    let mut others = registry.others.iter().filter(|other| other.state != StartState::Drained);
    if let Some(other) = others.clone().find(may_run).filter(|_| consent.new_inbox) {
        return StartDecision::Watch(other.clone());
    }
    if let Some(other) = others.next().filter(|_| !consent.new_inbox) {
        return StartDecision::Refuse(Refusal::OtherInbox {
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
                return StartDecision::Refuse(Refusal::OtherDatabase {
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

/// The refusal when a watched start gave a sign of life.
#[must_use]
pub fn refuse_for(directory: &Directory, living: &Start) -> Refusal {
    let (inbox_id, location) = (living.inbox_id.clone(), living.location.clone());
    if living.inbox_id == directory.inbox_id {
        Refusal::InboxInUse { inbox_id, location }
    } else {
        Refusal::ClientIdInUse { client_id: directory.client_id.clone(), inbox_id, location }
    }
}

/// The last start of this very directory on this machine. The lock of the directory says that it has ended.
fn is_ours(directory: &Directory, last: &Start) -> bool {
    last.place == directory.place && directory.start_id.as_ref().is_none_or(|start| *start == last.start_id)
}

/// The first of a range of offsets that no start of this inbox has issued, and that no lane is past.
fn base(directory: &Directory, registry: &RegisteredStarts) -> Offset {
    let others = registry.starts.iter().filter(|start| directory.start_id.as_ref() != Some(&start.start_id));
    let issued = others.map(|start| start.base + 1);
    let passed = registry.lanes.values().copied();
    let highest = issued.chain(passed).max().unwrap_or(0);
    directory.next_base.max(highest.div_ceil(OFFSETS_PER_START).saturating_mul(OFFSETS_PER_START))
}

fn at_its_database(
    directory: &Directory,
    registry: &RegisteredStarts,
    consent: Consent,
) -> Result<Registration, Refusal> {
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
        return Err(Refusal::Fork { inbox_id, location });
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

/// Whether the directory that ran last descends from this one and had all its records. Then the lanes cover them.
fn others_have_all(directory: &Directory, registry: &RegisteredStarts) -> bool {
    let mut descendant = registry.starts.first();
    while let Some(start) = descendant {
        if start.parent == directory.start_id {
            return start.log_end >= directory.log_end;
        }
        // Parents have lower generations, so this ends.
        let is_parent = |other: &&Start| {
            other.generation < start.generation && Some(&other.start_id) == start.parent.as_ref()
        };
        descendant = registry.starts.iter().find(is_parent);
    }
    false
}

fn at_another_database(
    directory: &Directory,
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
    /// Whether the operator has asked for it.
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
                "This inbox directory is not the one that ran last under its id: {last} did. An old copy was put back, or a \
                 copy has run elsewhere. What the other directory had received and not stored is not in this one"
            ),
            Self::OffsetsSkipped { base } => write!(
                f,
                "The database is past the offsets that this inbox directory has issued. Offsets begin above {base}, so that \
                 no message is passed over"
            ),
            Self::ForkReplayed => f.write_str(
                "The lanes go back to where they stood when the other directory took over. Messages that both directories had \
                 then may be stored twice",
            ),
            Self::DatabaseWentBack => f.write_str(
                "The database does not know the last start of this inbox directory: it was restored, or another server \
                 took over without its last commits. Messages are processed again from the inbox as far as it has kept them",
            ),
            Self::OtherDatabase { before, now, change: DatabaseChange::Adopt } => write!(
                f,
                "The inbox moves from the database {before} to {now}. It goes on where it stood: what is stored there is not \
                 stored here, what waits is stored here"
            ),
            Self::OtherDatabase { before, now, change: DatabaseChange::Replay } => write!(
                f,
                "The inbox moves from the database {before} to {now}, and everything that it still holds is processed here"
            ),
            Self::OtherInboxGivenUp { inbox_id, location } => write!(
                f,
                "The inbox {inbox_id} ({location}) is given up: messages that it had received and not stored are lost"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InboxInUse { inbox_id, location } => write!(
                f,
                "another gateway runs with the inbox id {inbox_id}: {location}. INBOX_DIR is a copy of its directory. Set \
                 INBOX_DIR to an empty directory and MQTT_CLIENT_ID to a name of its own, or stop the other gateway first"
            ),
            Self::ClientIdInUse { client_id, inbox_id, location } => write!(
                f,
                "another gateway runs with MQTT_CLIENT_ID={client_id}: inbox {inbox_id}, {location}. Stop it first, or set \
                 MQTT_CLIENT_ID to another name"
            ),
            Self::OtherInbox { client_id, inbox_id, location, found } => write!(
                f,
                "MQTT_CLIENT_ID={client_id} has the inbox {inbox_id} ({location}), which may hold messages that are not in \
                 the database; INBOX_DIR is the inbox {found}. Set INBOX_DIR to the first one. If it is lost, start once \
                 with --new-inbox"
            ),
            Self::Fork { inbox_id, location } => write!(
                f,
                "this inbox directory and a copy of it ({location}) have both received messages under the id {inbox_id}, and \
                 this one holds messages that the other lacks. Start it once with --replay: they are stored, and some that both \
                 had may be stored twice. To use the other one, put it back"
            ),
            Self::OtherDatabase { inbox_id, belongs_to, found } => write!(
                f,
                "the inbox {inbox_id} belongs to the database {belongs_to}, and this is the database {found}. Set the \
                 former database again, or start once with --adopt-database (go on here: what is stored there is not stored \
                 again) or with --replay (process here everything that the inbox still holds)"
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
