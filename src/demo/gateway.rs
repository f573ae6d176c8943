//! The gateway as a process of its own, which can be killed and is started again.
//!
//! The demo holds the port of the console: while no gateway runs, requests to it wait for the next one.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DemoError, FAILURE, report_failure, settings, view};
use crate::app::{GivenParts, Signals, run_with_parts};
use crate::child_gateway;
use crate::domain::identity::Consent;
use crate::http::DemoAccess;
use crate::observe::logging;

/// The command of the program that runs the gateway of a demo.
pub(crate) const COMMAND: &str = "demo-gateway";

/// The environment variable with the [`DemoAccess`].
const ACCESS: &str = "MQTT_GATEWAY_DEMO_ACCESS";

/// Interval at which the end of the process is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Time without a gateway after a kill, so that its absence is seen.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// Starts the gateway until it ends by itself.
pub(super) struct GatewayKeeper {
    dir: PathBuf,
    access: String,
    /// None if there is no console.
    listener: Option<TcpListener>,
    child: Mutex<Option<Child>>,
    kills: AtomicU32,
}

impl GatewayKeeper {
    /// Starts nothing yet.
    pub(super) fn new(dir: &Path, access: &DemoAccess, listener: Option<TcpListener>) -> io::Result<Self> {
        let access = serde_json::to_string(access)?;
        Ok(Self { dir: dir.to_owned(), access, listener, child: Mutex::default(), kills: AtomicU32::new(0) })
    }

    /// Runs the gateway until it ends by itself or a signal ends the demo. Calls `before_end` before it ends the gateway,
    /// and returns its exit code.
    ///
    /// The thread of the caller has to live as long as the demo: the gateway ends with it.
    pub(super) async fn run(&self, signals: &mut Signals, mut before_end: impl FnMut()) -> io::Result<i32> {
        loop {
            let mut is_ending = false;
            self.start()?;
            let status = loop {
                tokio::select! {
                    () = signals.end() => {
                        is_ending = true;
                        before_end();
                        self.signal(Signal::SIGTERM);
                    }
                    () = tokio::time::sleep(POLL_INTERVAL) => {
                        if let Some(status) = self.ended()? {
                            break status;
                        }
                    }
                }
            };
            let Some(killer) = status.signal().filter(|_| !is_ending) else {
                return Ok(status.code().unwrap_or(FAILURE));
            };
            self.kills.fetch_add(1, Relaxed);
            log::warn!(
                "Signal {killer} ended the gateway; starting it again in {} s",
                RESTART_PAUSE.as_secs()
            );
            tokio::select! {
                () = signals.end() => return Ok(0),
                () = tokio::time::sleep(RESTART_PAUSE) => {}
            }
        }
    }

    fn start(&self) -> io::Result<()> {
        let stdin = match &self.listener {
            Some(listener) => OwnedFd::from(listener.try_clone()?).into(),
            None => Stdio::null(),
        };
        let child = child_gateway::command(COMMAND)?
            .arg("--dir")
            .arg(&self.dir)
            .env(ACCESS, &self.access)
            .stdin(stdin)
            .spawn()?;
        *self.child() = Some(child);
        Ok(())
    }

    fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.child().as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Kills the gateway, as the kernel does when memory runs out.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // Only a process that was not waited for keeps its id.
        let Some(child) = child.as_mut() else { return };
        if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
            // An error means that it has just ended.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Process id of the gateway; 0 before its first start.
    pub(super) fn pid(&self) -> u32 {
        self.child().as_ref().map_or(0, Child::id)
    }

    /// How often the gateway was killed.
    pub(super) fn kills(&self) -> u32 {
        self.kills.load(Relaxed)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the gateway of a demo, as a child process of the demo. Returns its exit code.
#[must_use]
pub(crate) fn run_gateway(dir: &Path, parent: Option<u32>) -> i32 {
    match start(dir, parent) {
        Ok(code) => code,
        Err(error) => report_failure(&error),
    }
}

fn start(dir: &Path, parent: Option<u32>) -> Result<i32, DemoError> {
    let settings = settings(dir)?;
    logging::init(&settings)?;
    child_gateway::end_with(parent.ok_or(DemoError::Alone)?)?;
    let access = env::var(ACCESS).map_err(|_| DemoError::Alone)?;
    let demo: DemoAccess = serde_json::from_str(&access).map_err(|_| DemoError::Alone)?;
    let listener = match settings.admin {
        Some(_) => Some(TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?)),
        None => None,
    };
    let given = GivenParts { listener, demo: Some(demo), ..GivenParts::default() };
    let view = view::start(given.telemetry.events.listen(), settings.value_style)?;
    let code = run_with_parts(settings, Consent::default(), given);
    view.end();
    Ok(code)
}
