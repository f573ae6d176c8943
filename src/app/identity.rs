//! Registers this start in the database before the broker is connected, and sends heartbeats afterwards.
//!
//! The decisions are in `domain::identity`; this module reads the directory, queries the database and sends heartbeats.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;

use super::StartError;
use super::drift::record_remaining;
use crate::actors;
use crate::actors::messages::ReopenLane;
use crate::domain::identity::{
    Consent, InboxDirectory, Notice, RegisteredStarts, Registration, Start, StartDecision, StartState,
    decide_start, refuse_for,
};
use crate::inbox::{Inbox, Registered, Survey, boot_id};
use crate::observe::{FieldRecorder, logging};
use crate::settings::{DatabaseSettings, Settings};
use crate::store::{
    Beat, Database, StoreError, answer_timeout, beat, lane_offsets, note_end, register, with_timeout,
};

/// Interval between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Time for which a start that may still run is watched. Covers two heartbeats and a slow database.
const WATCH_TIMEOUT: Duration = Duration::from_secs(6);

/// Maximum wait for the database, for a heartbeat and for the end of this start. A connection that lost its server does
/// not answer; the next heartbeat then comes by another one, before a watcher gives up.
const BEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Interval between two checks that the inbox directory is in place.
const PLACE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between two checks of a watched start.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// A registered start.
#[derive(Debug, Clone)]
pub(super) struct RegisteredStart {
    directory: Arc<InboxDirectory>,
    start_id: Arc<str>,
    database_id: Arc<str>,
    database: DatabaseSettings,
}

/// The state of the inbox directory before this start is registered.
fn directory_of(settings: &Settings, inbox: &Inbox) -> InboxDirectory {
    InboxDirectory {
        next_base: inbox.next_offset(),
        log_end: inbox.log_end().max(inbox.progress().deleted_below),
        committed: inbox.progress().lanes,
        ..described(settings, inbox.id().to_string(), inbox.registration())
    }
}

/// The state of an inbox directory that another process may have open.
pub(crate) fn directory_of_survey(settings: &Settings, found: &Survey) -> InboxDirectory {
    InboxDirectory {
        next_base: found.never_issued,
        log_end: found.end.max(found.progress.deleted_below),
        committed: found.progress.lanes.clone(),
        ..described(settings, found.id.to_string(), found.registration.clone())
    }
}

/// The state of an inbox directory without an inbox, in which a start would begin a new one.
pub(crate) fn directory_without_inbox(settings: &Settings) -> InboxDirectory {
    described(settings, "no inbox".to_owned(), None)
}

fn described(settings: &Settings, inbox_id: String, registration: Option<Registered>) -> InboxDirectory {
    let path = std::path::absolute(&settings.inbox.dir).unwrap_or_else(|_| settings.inbox.dir.clone());
    InboxDirectory {
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

/// Registers this start. Returns an error if it must not continue. Watches a process that may use the same id.
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
        let registering = register(&database, &directory, &start_id, judged);
        match with_timeout(answer_timeout(), registering).await? {
            (registry, StartDecision::Register(registration)) => break (registry, registration),
            (_, StartDecision::Refuse(refusal)) => return Err(StartError::Identity(refusal)),
            (_, StartDecision::Watch(start)) => {
                if is_alive(&database, &directory, &start).await? {
                    return Err(StartError::Identity(refuse_for(&directory, &start)));
                }
                silent.push(start.start_id);
            }
        }
    };
    database.close().await?;
    apply_registration(inbox, &registry, &registration)?;
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

/// Applies the registration to the inbox and logs its notices.
fn apply_registration(
    inbox: &Inbox,
    registry: &RegisteredStarts,
    registration: &Registration,
) -> Result<(), StartError> {
    for notice in &registration.notices {
        let level = if notice.is_consented() { log::Level::Warn } else { log::Level::Error };
        log::log!(level, "Inbox: {notice}");
    }
    inbox.begin_above(registration.base)?;
    // Lanes with a new position, or of another database, differ from the position in the directory without any
    // restore of the database.
    if !registration.lanes.is_empty() || has_moved(registration) {
        let stands = |lane| registration.lanes.get(&lane).or(registry.lanes.get(&lane)).copied();
        inbox.remember_lanes((0..inbox.lanes()).map(|lane| stands(lane).unwrap_or(0)).collect());
    }
    Ok(())
}

fn has_moved(registration: &Registration) -> bool {
    registration.notices.iter().any(|notice| matches!(notice, Notice::OtherDatabase { .. }))
}

/// Warns of an unused consent option. Left in a manifest, it would also consent to the next accident.
fn warn_of_unused(consent: Consent, registry: &RegisteredStarts, registration: &Registration) {
    let is_unused = consent.database.is_some() && !registration.used_database_consent();
    if is_unused || (consent.new_inbox && registry.others.is_empty()) {
        log::warn!(
            "--adopt-database, --replay and --new-inbox are for one start, and this start did not need them: remove them"
        );
    }
}

/// Whether a watched start sends a heartbeat.
async fn is_alive(
    database: &Database,
    directory: &InboxDirectory,
    start: &Start,
) -> Result<bool, StoreError> {
    let location = start.location.as_str();
    log::warn!(
        "Another gateway may run with this inbox or client id ({location}): watching it for {} s",
        WATCH_TIMEOUT.as_secs()
    );
    let until = Instant::now() + WATCH_TIMEOUT;
    while Instant::now() < until {
        sleep(WATCH_INTERVAL).await;
        let now = with_timeout(answer_timeout(), crate::store::registry(database, directory)).await?;
        let mut starts = now.starts.into_iter().chain(now.others);
        if starts.any(|now| now.start_id == start.start_id && now.beats != start.beats) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Exits the process if the inbox directory is removed or replaced while it runs.
pub(super) async fn watch_place(inbox: Inbox) {
    while inbox.is_in_place() {
        sleep(PLACE_INTERVAL).await;
    }
    log::error!(
        "The inbox directory was removed or replaced while the gateway runs: ending, so that no message is acknowledged \
         that would be lost"
    );
    logging::end_process(1);
}

impl RegisteredStart {
    /// Sends heartbeats while the process runs. Exits the process if another one has taken the inbox over. The messages
    /// in this directory then stay there, and nothing more is acknowledged.
    pub(super) async fn keep_alive(self, inbox: Inbox, actors: actors::Directory) {
        let mut database = None;
        loop {
            sleep(HEARTBEAT_INTERVAL).await;
            let beat = self.beat(&mut database, &inbox, &actors);
            if let Err(error) = with_timeout(BEAT_TIMEOUT, beat).await {
                log::debug!("Cannot send the heartbeat: {error}");
                database = None;
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

    /// Reopens idle lanes after the database was set back. Busy lanes detect it with their next batch.
    async fn reopen_lanes_set_back(
        &self,
        database: &Database,
        inbox: &Inbox,
        actors: &actors::Directory,
    ) -> Result<(), StoreError> {
        // Taken before the read, because commits in between only advance the database.
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
            log::error!("This is not the database of the inbox: exiting, because an operator must decide");
            logging::end_process(1);
        }
        Ok(())
    }

    /// Records during an orderly shutdown whether messages remain in the inbox, and which fields they had.
    pub(super) fn note_end(&self, inbox: &Inbox, fields: &FieldRecorder) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let noted = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            let noted = runtime.block_on(async {
                let ends_at = Instant::now() + BEAT_TIMEOUT;
                let database = with_timeout(BEAT_TIMEOUT, self.end(inbox)).await?;
                record_fields_until(ends_at, &database, fields).await;
                Ok::<(), StoreError>(())
            });
            // A look-up of a name can take half a minute, and nothing is gained by its result.
            runtime.shutdown_background();
            noted.map_err(|error| error.to_string())
        });
        if let Err(error) = noted {
            log::warn!("Cannot record the orderly shutdown in the database: {error}");
        }
    }

    async fn end(&self, inbox: &Inbox) -> Result<Database, StoreError> {
        let is_empty = inbox.unreleased().records == 0;
        let state = if is_empty { StartState::Drained } else { StartState::Ended };
        let database = Database::connect(&self.database, 1).await?;
        note_end(&database, &self.directory.inbox_id, &self.start_id, state).await?;
        Ok(database)
    }
}

/// Writes the fields of messages since their last write, as far as there is time.
async fn record_fields_until(ends_at: Instant, database: &Database, fields: &FieldRecorder) {
    let recording = async {
        record_remaining(database, fields).await?;
        database.close().await
    };
    let left = ends_at.saturating_duration_since(Instant::now());
    if let Err(error) = with_timeout(left, recording).await {
        log::warn!("The last counts of the fields of messages were not written: {error}");
    }
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// Identifies the directory on this machine until the next reboot. A copy has another device or inode number.
fn place(dir: &Path) -> String {
    let found = fs::metadata(dir).map(|found| format!("{}:{}", found.dev(), found.ino()));
    format!("{}:{}", boot_id().unwrap_or_default(), found.unwrap_or_default())
}
