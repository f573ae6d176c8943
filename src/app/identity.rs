//! Registers this start in the database before the broker is connected, and gives signs of life afterwards.
//!
//! `domain::identity` decides; this reads the directory, asks the database and watches.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::time::{sleep, timeout};

use super::StartError;
use crate::actors;
use crate::actors::messages::ReopenLane;
use crate::domain::identity::{
    Consent, Directory, Notice, RegisteredStarts, Registration, Start, StartDecision, StartState,
    decide_start, refuse_for,
};
use crate::inbox::{Inbox, Registered, Survey, boot_id};
use crate::observe::logging;
use crate::settings::{DatabaseSettings, Settings};
use crate::store::{Beat, Database, StoreError, beat, lane_offsets, note_end, register};

/// Interval between two signs of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How long a start that may still run is watched. Covers two signs of life and a slow database.
const WATCH_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the end waits for the database.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Interval between two looks at it.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// A start that is registered.
#[derive(Debug, Clone)]
pub(super) struct RegisteredStart {
    directory: Arc<Directory>,
    start_id: Arc<str>,
    database_id: Arc<str>,
    database: DatabaseSettings,
}

/// The state of the inbox directory before this start is registered.
fn directory_of(settings: &Settings, inbox: &Inbox) -> Directory {
    Directory {
        next_base: inbox.next_offset(),
        log_end: inbox.log_end().max(inbox.progress().deleted_below),
        committed: inbox.progress().lanes,
        ..described(settings, inbox.id().to_string(), inbox.registration())
    }
}

/// The same, seen from outside.
pub(crate) fn directory_of_survey(settings: &Settings, found: &Survey) -> Directory {
    Directory {
        next_base: found.never_issued,
        log_end: found.end.max(found.progress.deleted_below),
        committed: found.progress.lanes.clone(),
        ..described(settings, found.id.to_string(), found.registration.clone())
    }
}

fn described(settings: &Settings, inbox_id: String, registration: Option<Registered>) -> Directory {
    let path = std::path::absolute(&settings.inbox.dir).unwrap_or_else(|_| settings.inbox.dir.clone());
    Directory {
        inbox_id,
        client_id: settings.mqtt.client_id.clone(),
        location: format!("{}:{}, process {}", host(), path.display(), std::process::id()),
        place: place(&path),
        database_id: registration.as_ref().map(|registered| registered.database_id.clone()),
        start_id: registration.map(|registered| registered.start_id),
        next_base: 0,
        log_end: 0,
        committed: Vec::new(),
    }
}

/// Registers this start, or says why it must not go on. Watches another process that may be at work under the same id.
pub(super) async fn register_start(
    settings: &Settings,
    inbox: &Inbox,
    consent: Consent,
) -> Result<RegisteredStart, StartError> {
    let directory = directory_of(settings, inbox);
    let start_id = format!("{:032x}", rand::random::<u128>());
    let database = Database::connect(&settings.database, 1).await?;
    let mut silent = Vec::new();
    let (registry, registration) = loop {
        let judged = |registry: &RegisteredStarts| decide_start(&directory, registry, consent, &silent);
        match register(&database, &directory, &start_id, judged).await? {
            (registry, StartDecision::Register(registration)) => break (registry, registration),
            (_, StartDecision::Refuse(refusal)) => return Err(StartError::Identity(refusal)),
            (_, StartDecision::Watch(start)) => {
                if lives(&database, &directory, &start).await? {
                    return Err(StartError::Identity(refuse_for(&directory, &start)));
                }
                silent.push(start.start_id);
            }
        }
    };
    database.close().await?;
    take_up(inbox, &registry, &registration)?;
    warn_of_unused(consent, &registry, &registration);
    let database_id = registry.database_id;
    inbox.register(Registered { database_id: database_id.clone(), start_id: start_id.clone() })?;
    Ok(RegisteredStart {
        database_id: database_id.into(),
        directory: Arc::new(directory),
        start_id: start_id.into(),
        database: settings.database.clone(),
    })
}

/// Brings the inbox to where the registration says, and tells people.
fn take_up(
    inbox: &Inbox,
    registry: &RegisteredStarts,
    registration: &Registration,
) -> Result<(), StartError> {
    for notice in &registration.notices {
        let level = if notice.is_consented() { log::Level::Warn } else { log::Level::Error };
        log::log!(level, "Inbox: {notice}");
    }
    inbox.begin_above(registration.base)?;
    // Lanes that were set, or that are those of another database, do not stand where the directory remembers them: that is
    // no database that went back.
    if !registration.lanes.is_empty() || has_moved(registration) {
        let stands = |lane| registration.lanes.get(&lane).or(registry.lanes.get(&lane)).copied();
        inbox.remember_lanes((0..inbox.lanes()).map(|lane| stands(lane).unwrap_or(0)).collect());
    }
    Ok(())
}

fn has_moved(registration: &Registration) -> bool {
    registration.notices.iter().any(|notice| matches!(notice, Notice::OtherDatabase { .. }))
}

/// An option that stays in a manifest would consent to the next accident, too.
fn warn_of_unused(consent: Consent, registry: &RegisteredStarts, registration: &Registration) {
    let has_not_moved = consent.database.is_some() && !has_moved(registration);
    if has_not_moved || (consent.new_inbox && registry.others.is_empty()) {
        log::warn!(
            "--adopt-database, --replay and --new-inbox are for one start. Nothing was to be decided: remove them"
        );
    }
}

/// Whether a start gives a sign of life while it is watched.
async fn lives(database: &Database, directory: &Directory, start: &Start) -> Result<bool, StoreError> {
    let location = start.location.as_str();
    log::warn!(
        "Another gateway may run with this inbox or client id ({location}): watching it for {} s",
        WATCH_TIMEOUT.as_secs()
    );
    let until = Instant::now() + WATCH_TIMEOUT;
    while Instant::now() < until {
        sleep(WATCH_INTERVAL).await;
        let now = crate::store::registry(database, directory).await?;
        let mut starts = now.starts.into_iter().chain(now.others);
        if starts.any(|now| now.start_id == start.start_id && now.beats != start.beats) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl RegisteredStart {
    /// Gives signs of life for as long as the process runs. Ends the process when another one has taken the inbox over:
    /// what is in this directory stays there, and nothing more is acknowledged.
    pub(super) async fn keep_alive(self, inbox: Inbox, actors: actors::Directory) {
        let mut database = None;
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            if !inbox.is_in_place() {
                log::error!(
                    "The inbox directory was removed or replaced while the gateway runs: ending, so that no message is \
                     acknowledged that would be lost"
                );
                logging::end_process(1);
            }
            match self.beat(&mut database, &inbox, &actors).await {
                Ok(()) => {}
                Err(error) => {
                    log::debug!("No sign of life could be given: {error}");
                    database = None;
                }
            }
        }
    }

    async fn beat(
        &self,
        database: &mut Option<Database>,
        inbox: &Inbox,
        actors: &actors::Directory,
    ) -> Result<(), StoreError> {
        if database.is_none() {
            *database = Some(Database::connect(&self.database, 1).await?);
        }
        let Some(database) = database else { return Ok(()) };
        match beat(database, &self.directory.inbox_id, &self.start_id).await? {
            Beat::Counted => self.reopen_lanes_set_back(database, inbox, actors).await,
            Beat::Superseded { by } => {
                log::error!(
                    "Another gateway has taken the inbox id {} over: {by}. Ending; what this directory has received and not \
                     stored stays in it. Two directories with one inbox id are copies of each other: give one of them an \
                     empty INBOX_DIR and an MQTT_CLIENT_ID of its own",
                    self.directory.inbox_id
                );
                logging::end_process(1)
            }
            Beat::Unknown => self.register_again(database, inbox).await,
        }
    }

    /// A lane at work notices by itself that the database went back. One that has nothing to do is told here.
    async fn reopen_lanes_set_back(
        &self,
        database: &Database,
        inbox: &Inbox,
        actors: &actors::Directory,
    ) -> Result<(), StoreError> {
        // Taken before the read: commits in between only move the database further.
        let known = inbox.progress();
        let stored = lane_offsets(database, &self.directory.inbox_id).await?;
        for (lane, committed) in (0..).zip(known.lanes) {
            let (offset, lagging) = stored.get(&lane).copied().unwrap_or_default();
            if offset < committed || lagging.is_some_and(|offset| offset < known.done_below) {
                actors.router.tell(ReopenLane { lane });
            }
        }
        Ok(())
    }

    async fn register_again(&self, database: &Database, inbox: &Inbox) -> Result<(), StoreError> {
        log::error!(
            "The database does not know this start any more: it was restored, or another server took over without its last \
             commits. Registering it again"
        );
        let base = inbox.next_offset();
        let again =
            |_: &RegisteredStarts| StartDecision::Register(Registration { base, ..Registration::default() });
        let (registry, _) = register(database, &self.directory, &self.start_id, again).await?;
        if registry.database_id != *self.database_id {
            log::error!(
                "It is another database than the one that the inbox belongs to: ending, so that somebody decides"
            );
            logging::end_process(1);
        }
        Ok(())
    }

    /// Notes at an orderly end whether messages are left in the inbox.
    pub(super) fn note_end(&self, inbox: &Inbox) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let noted = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            let noting = async { timeout(END_TIMEOUT, self.end(inbox)).await };
            match runtime.block_on(noting) {
                Ok(noted) => noted.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {} s", END_TIMEOUT.as_secs())),
            }
        });
        if let Err(error) = noted {
            log::warn!("The database does not know that this gateway has ended in order: {error}");
        }
    }

    async fn end(&self, inbox: &Inbox) -> Result<(), StoreError> {
        let is_empty = inbox.unreleased().records == 0;
        let state = if is_empty { StartState::Drained } else { StartState::Ended };
        let database = Database::connect(&self.database, 1).await?;
        note_end(&database, &self.directory.inbox_id, &self.start_id, state).await?;
        database.close().await
    }
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// Names the directory on this machine, until the machine is started again. A copy has another device or number.
fn place(dir: &Path) -> String {
    let found = fs::metadata(dir).map(|found| format!("{}:{}", found.dev(), found.ino()));
    format!("{}:{}", boot_id().unwrap_or_default(), found.unwrap_or_default())
}
