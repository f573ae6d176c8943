//! Finds and logs the holders of rows that lanes wait for, for as long as the process runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::status::WaitStatus;
use crate::domain::lock_holders::LockReading;
use crate::domain::row_waits::RowWait;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::{LockReader, StoreError, with_timeout};

/// Interval at which the waits are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the database is asked while a wait lasts.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum time for an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// Asks the database only while a wait lasts.
pub(super) async fn explain_row_waits(settings: DatabaseSettings, observed: Arc<Telemetry>) {
    let mut explainer = WaitExplainer { settings, reader: None, read: None };
    let mut log = WaitLog::default();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let waits: Vec<RowWait> = observed.lasting_waits().into_iter().map(|wait| wait.wait).collect();
        if waits.is_empty() {
            // Its connections would be idle.
            explainer.reader = None;
            explainer.read = None;
            observed.set_lock_reading(None);
        } else if explainer.is_due(&waits) {
            observed.set_lock_reading(Some(explainer.explain(waits).await));
        }
        log.update(WaitStatus::all(&observed));
    }
}

struct WaitExplainer {
    settings: DatabaseSettings,
    /// Connected while a wait lasts.
    reader: Option<LockReader>,
    /// When the database was asked, and about which flows.
    read: Option<(Instant, Vec<Arc<[i64]>>)>,
}

impl WaitExplainer {
    fn is_due(&self, waits: &[RowWait]) -> bool {
        self.read.as_ref().is_none_or(|(at, about)| {
            at.elapsed() >= READ_INTERVAL || !about.iter().eq(waits.iter().map(|wait| &wait.flows))
        })
    }

    async fn explain(&mut self, waits: Vec<RowWait>) -> LockReading {
        let reading = with_timeout(READ_TIMEOUT, self.read(&waits)).await;
        self.read = Some((Instant::now(), waits.into_iter().map(|wait| wait.flows).collect()));
        let failed =
            |error: StoreError| LockReading::unknown(format!("the database does not say it: {error}"));
        let reading = reading.unwrap_or_else(failed);
        if reading.unknown.is_some() {
            // A GRANT counts for new connections.
            self.reader = None;
        }
        reading
    }

    async fn read(&mut self, waits: &[RowWait]) -> Result<LockReading, StoreError> {
        if self.reader.is_none() {
            self.reader = LockReader::connect(&self.settings).await?;
        }
        match &self.reader {
            Some(reader) => reader.read(waits).await,
            None => Ok(LockReading::unknown(
                "SQLite does not say who writes; look for programs that use the file".to_owned(),
            )),
        }
    }
}

/// The waits that were logged, by actor and flows.
#[derive(Default)]
struct WaitLog(BTreeMap<(String, Vec<String>), WaitStatus>);

impl WaitLog {
    /// Logs new waits, those with another holder than before, and the end of waits.
    fn update(&mut self, waits: Vec<WaitStatus>) {
        let now: BTreeMap<_, _> =
            waits.into_iter().map(|wait| ((wait.actor.clone(), wait.flows.clone()), wait)).collect();
        for (key, wait) in &now {
            let logged = self.0.get(key);
            if logged.is_none_or(|logged| logged.holder != wait.holder) {
                log_wait(wait);
            }
        }
        for (key, wait) in &self.0 {
            if !now.contains_key(key) {
                let (actor, since, flow) = (wait.actor.as_str(), wait.since.as_str(), wait.flows.join(","));
                let flow = flow.as_str();
                log::info!(actor, since, flow; "Row is free: {actor} no longer waits for flow {flow}");
            }
        }
        self.0 = now;
    }
}

fn log_wait(wait: &WaitStatus) {
    let (actor, since, flow) = (wait.actor.as_str(), wait.since.as_str(), wait.flows.join(","));
    let flow = flow.as_str();
    let connection = wait.holder.as_ref().map(|holder| holder.connection);
    log::warn!(
        actor, since, flow, connection;
        "Row is locked: {}. Remedy: {}", wait.sentence(), wait.remedy()
    );
}
