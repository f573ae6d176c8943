//! Takes the orders of the page of the demo, and makes its report.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, rt};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::endpoint::Endpoint;
use super::gateway::GatewayKeeper;
use super::ledger::{READING, ReadingLedger};
use super::{CLIENT_ID, DATABASE_FILE, INBOX_DIR, LOG_DIR, samples};
use crate::http::thread::HttpThread;
use crate::http::{DemoAction, DemoReport, FlowBalance};
use crate::settings::DatabaseSettings;
use crate::store::bench::hold::Hold;
use crate::store::demo::{EarlierRows, find_readings};
use crate::store::{Database, StoreError};

/// How long the database stays locked.
const LOCK_DURATION: Duration = Duration::from_secs(10);

/// Time before a kill. Meanwhile the browser gets its answer.
const KILL_DELAY: Duration = Duration::from_secs(2);

/// Environment variables that the audit inherits. None of them is a setting.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// All that the page shows and breaks.
pub(super) struct DemoParts {
    pub(super) dir: PathBuf,
    pub(super) database: DatabaseSettings,
    pub(super) earlier: EarlierRows,
    pub(super) ledger: Arc<ReadingLedger>,
    pub(super) endpoint: Endpoint,
    pub(super) gateway: GatewayKeeper,
    pub(super) is_locked: AtomicBool,
}

/// Binds a port on the loopback interface.
pub(super) fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Serves requests that know the key.
pub(super) fn serve(listener: TcpListener, key: String, stage: Arc<DemoParts>) -> io::Result<HttpThread> {
    let (key, stage) = (Data::new(ControlKey(key)), Data::from(stage));
    HttpThread::start_routes("demo-control", listener, move |app: &mut ServiceConfig| {
        app.app_data(key.clone())
            .app_data(stage.clone())
            .route("/{key}/report", web::get().to(report))
            .route("/{key}/{action}", web::post().to(act));
    })
}

struct ControlKey(String);

impl ControlKey {
    fn admits(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

async fn report(given: web::Path<String>, key: Data<ControlKey>, stage: Data<DemoParts>) -> HttpResponse {
    if !key.admits(&given) {
        return HttpResponse::Forbidden().finish();
    }
    match stage.report().await {
        Ok(report) => HttpResponse::Ok().json(report),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

async fn act(
    path: web::Path<(String, String)>,
    key: Data<ControlKey>,
    stage: Data<DemoParts>,
) -> HttpResponse {
    let (given, action) = path.into_inner();
    if !key.admits(&given) {
        return HttpResponse::Forbidden().finish();
    }
    let Some(action) = DemoAction::named(&action) else {
        return HttpResponse::NotFound().finish();
    };
    match stage.into_inner().act(action).await {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// Reasons why the demo could not follow an order of its page.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the audit cannot be run: {0}")]
    Audit(io::Error),
    #[error("the audit failed: {0}")]
    AuditFailed(String),
    #[error("the work was broken off")]
    BrokenOff,
}

impl DemoParts {
    async fn act(self: Arc<Self>, action: DemoAction) -> Result<(), StageError> {
        match action {
            DemoAction::StopEndpoint => {
                self.endpoint.set_works(false);
                Ok(())
            }
            DemoAction::StartEndpoint => {
                self.endpoint.set_works(true);
                Ok(())
            }
            DemoAction::LockDatabase => self.lock_database().await,
            DemoAction::KillGateway => {
                rt::spawn(async move {
                    rt::time::sleep(KILL_DELAY).await;
                    self.gateway.kill();
                });
                Ok(())
            }
        }
    }

    /// Locks the database on a connection of this process, and releases it later.
    async fn lock_database(self: Arc<Self>) -> Result<(), StageError> {
        if self.is_locked.swap(true, Relaxed) {
            return Ok(());
        }
        let held = async {
            let database = Database::connect(&self.database, 1).await?;
            Ok((Hold::take(&database).await?, database))
        };
        let (lock, database) = match held.await {
            Ok(held) => held,
            Err(error) => {
                self.is_locked.store(false, Relaxed);
                return Err(error);
            }
        };
        rt::spawn(async move {
            rt::time::sleep(LOCK_DURATION).await;
            if let Err(error) = lock.release().await {
                log::warn!("The lock of the database ended early: {error}");
            }
            self.is_locked.store(false, Relaxed);
            // Its connection ends with it.
            let _ = database.close().await;
        });
        Ok(())
    }

    /// What the page shows.
    pub(super) async fn report(&self) -> Result<DemoReport, StageError> {
        let dir = self.dir.clone();
        let wrong = web::block(move || audit(&dir)).await.map_err(|_| StageError::BrokenOff)??;
        Ok(DemoReport {
            gateway_pid: self.gateway.pid(),
            kills: self.gateway.kills(),
            endpoint_works: self.endpoint.works(),
            database_is_locked: self.is_locked.load(Relaxed),
            mended_url: self.endpoint.url(samples::FAILING_FLOW),
            flows: self.balance().await?,
            wrong,
            dir: self.dir.display().to_string(),
            audit_settings: audit_settings().map(|(name, value)| format!("{name}={value}")).join(" "),
        })
    }

    /// Compares the readings of the sensors with the database.
    pub(super) async fn balance(&self) -> Result<Vec<FlowBalance>, StoreError> {
        let published = self.ledger.published();
        let database = Database::connect(&self.database, 1).await?;
        let found = find_readings(&database, READING, self.earlier).await?;
        database.close().await?;
        Ok(self.ledger.balance(published, found))
    }
}

/// Settings of an audit that runs in the directory of the demo.
fn audit_settings() -> [(&'static str, String); 4] {
    [
        ("DATABASE_URL", format!("sqlite:{DATABASE_FILE}")),
        ("MQTT_CLIENT_ID", CLIENT_ID.to_owned()),
        ("INBOX_DIR", INBOX_DIR.to_owned()),
        ("LOG_DIR", LOG_DIR.to_owned()),
    ]
}

/// Runs `mqtt-gateway audit`, and returns its findings.
fn audit(dir: &Path) -> Result<Vec<String>, StageError> {
    let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let output = Command::new(std::env::current_exe().map_err(StageError::Audit)?)
        .args(["audit", "--json"])
        .current_dir(dir)
        .env_clear()
        .envs(inherited)
        .envs(audit_settings())
        .stdin(Stdio::null())
        .output()
        .map_err(StageError::Audit)?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| StageError::AuditFailed(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    Ok(wrong_findings(&report))
}

fn wrong_findings(report: &Value) -> Vec<String> {
    let findings = report.get("findings").and_then(Value::as_array).into_iter().flatten();
    let text = |finding: &Value, name: &str| {
        finding.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    findings
        .filter(|finding| text(finding, "severity") == "wrong")
        .map(|finding| match text(finding, "flow").as_str() {
            "" => text(finding, "detail"),
            flow => format!("{flow}: {}", text(finding, "detail")),
        })
        .collect()
}
